"""Options that make a run faster and leave its results within their intervals.

    compile   the blocks of all encoders go through torch.compile; the first pass at every shape
              waits for the compiler, tens of seconds, so it pays for fixed sizes and long runs
    tf32      products of float32 matrices run on tensor cores with ten bits of mantissa (heads and
              losses; the encoder has --amp); convolutions do so by default

They are no part of a protocol, but every record says where they were on.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch
from torch import nn

OPTIONS = {"compile": "encoder blocks", "tf32": "float32 products"}


def use_speed_options(names: Collection[str], model: nn.Module) -> None:
    """Turn the named options on for a model, and the others off.

    Args:
        names: Of `OPTIONS`.
        model: Built, not yet run; may be wrapped for several processes.

    Raises:
        ValueError: If an option does nothing for this model or on this machine.
    """
    assert set(names) <= OPTIONS.keys()
    if "tf32" in names and not torch.cuda.is_available():
        raise ValueError("--tf32 needs a CUDA device, and torch finds none; leave it out")
    torch.set_float32_matmul_precision("high" if "tf32" in names else "highest")
    towers = [m for m in model.modules() if hasattr(m, "set_compile_blocks")]
    if "compile" in names and not towers:
        raise ValueError(
            "--compile: no encoder of this model has blocks that can be compiled; only the PE "
            "towers have, so leave it out"
        )
    if "compile" in names:
        for tower in towers:
            tower.set_compile_blocks(True)


def options_in_words(
    amp: bool, trained: Collection[str] | None, scored: Collection[str]
) -> dict[str, str]:
    """What a record says of how a run was computed.

    Args:
        amp: Whether the encoder ran in bfloat16.
        trained: Options of the training; None where nothing was trained here.
        scored: Options of the evaluation.

    Example:
        >>> options_in_words(True, ["compile"], [])
        {'amp': 'bfloat16', 'compile': 'encoder blocks, in training'}
        >>> options_in_words(False, None, ["tf32"])
        {'tf32': 'float32 products'}
    """
    words = {"amp": "bfloat16"} if amp else {}
    for name, what in OPTIONS.items():
        where: Mapping[str, bool] = {"training": name in (trained or ()), "scoring": name in scored}
        if trained is None:
            where = {"scoring": name in scored}
        if any(where.values()):
            on = [place for place, is_on in where.items() if is_on]
            words[name] = what if all(where.values()) else f"{what}, in {on[0]}"
    return words
