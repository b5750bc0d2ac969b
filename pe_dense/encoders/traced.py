"""Whether a program is being followed by a compiler or an exporter, which know no complex numbers.

An exporter also holds tensors without values, and sizes that are variables: such a tensor must not
be kept for later, and such a size is no key of a dictionary.
"""

from __future__ import annotations

import torch


def is_exported() -> bool:
    """Whether torch.export, or TorchScript's tracer, is following the program."""
    return torch.compiler.is_exporting() or torch.jit.is_tracing()


def is_traced() -> bool:
    """Whether an exporter or torch.compile is following the program."""
    return torch.compiler.is_compiling() or is_exported()


def is_known(size: tuple[int, int]) -> bool:
    """Whether both sides are numbers, and no variables of an exported program.

    Example:
        >>> is_known((3, 4))
        True
    """
    return all(isinstance(side, int) for side in size)
