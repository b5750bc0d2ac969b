"""Transformer blocks through torch.compile: one compiled function for all blocks of a kind.

Compiling a block instead of a whole tower costs a fortieth of the compiler's time, leaves hooks,
checkpointing and sharding outside, where they work as ever, and finds nearly all that there is to
fuse: rotation, norms, LayerScale, activations and residual sums.

The first pass at each shape (batch, grid, with or without gradient) waits for the compiler, tens of
seconds ('max-autotune-no-cudagraphs' tries more and takes minutes); keep shapes fixed. Results
differ by rounding.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch

MODES = ("default", "max-autotune-no-cudagraphs")
BACKEND = "inductor"
# Kinds of block and shapes that one process may compile: above it torch runs blocks as written,
# without an error. Its own limit of 8 is too small for a student, a teacher and two modes.
MAX_COMPILED = 64


def check_mode(mode: bool | str) -> str | None:
    """The mode of torch.compile that `compile_blocks` stands for; None does not compile.

    Raises:
        ValueError: If it is no mode.
    """
    if isinstance(mode, bool):
        return MODES[0] if mode else None
    if mode not in MODES:
        raise ValueError(
            f"compile_blocks={mode!r} is none of True, False, {', '.join(map(repr, MODES))}"
        )
    return mode


@functools.cache
def compiled_block(function: Callable, mode: str) -> Callable:
    """A block's function (block, tokens, table, grid), compiled when it is first called.

    Shapes are fixed in what is compiled: a batch of another size compiles again, and runs as fast.
    """
    from torch._dynamo import config  # slow to import

    config.recompile_limit = max(config.recompile_limit, MAX_COMPILED)
    options = dict(mode=mode) if BACKEND == "inductor" else {}
    return torch.compile(function, backend=BACKEND, dynamic=False, **options)
