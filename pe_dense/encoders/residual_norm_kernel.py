"""A residual sum and the layer norm behind it, in one pass over memory (Triton).

Apart they read and write 5 times what one tensor holds (7 with LayerScale), here 4 times; rows
narrower than 1,024 numbers, at which torch's own norm is slow, gain most.

Shape legend: X rows, C channels.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

TILE = 4096  # numbers of a program


def sum_and_norm(
    base_XC: Tensor,
    branch_XC: Tensor | None,
    gain_C: Tensor | None,
    weight_C: Tensor | None,
    bias_C: Tensor | None,
    eps: float = 1e-5,
    wants_sum: bool = True,
    shift_XC: Tensor | None = None,
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """The sum base + gain * branch, its layer norm, and that plus a shift; None if not wanted.

    Args:
        base_XC: Contiguous, any floating type; arithmetic is float32.
        branch_XC: Of the same type; None adds nothing. `base_XC` may have fewer rows, which then
            repeat.
        gain_C: Factor by channel.
        weight_C: Of the norm, None for no norm.
        bias_C: Of the norm.
        eps: Of the norm.
        wants_sum: Whether the sum is returned. The norm is then that of the rounded sum.
        shift_XC: Added to the norm for a third result; its rows repeat.
    """
    shape_as = base_XC if branch_XC is None else branch_XC
    channels = base_XC.shape[-1]
    rows = shape_as.numel() // channels
    results = [
        torch.empty_like(shape_as) if wanted else None
        for wanted in (wants_sum, weight_C is not None, shift_XC is not None)
    ]
    columns = triton.next_power_of_2(channels)
    height = max(1, TILE // columns)
    with torch.cuda.device(base_XC.device if base_XC.is_cuda else -1):
        _sum_and_norm[(triton.cdiv(rows, height),)](
            base_XC, branch_XC, gain_C, weight_C, bias_C, shift_XC, *results,
            rows, base_XC.numel() // channels,
            rows if shift_XC is None else shift_XC.numel() // channels,
            channels, eps, height, columns, num_warps=4,
        )  # fmt: skip
    return tuple(results)


@triton.jit
def _sum_and_norm(
    base, branch, gain, weight, bias, shift, sums, norms, shifted,
    rows, base_rows, shift_rows, channels, eps, HEIGHT: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64) * HEIGHT + tl.arange(0, HEIGHT)
    column = tl.arange(0, COLUMNS)[None, :]
    inside = (row < rows)[:, None] & (column < channels)
    at = row[:, None] * channels + column
    used = column < channels
    value = tl.load(base + (row % base_rows)[:, None] * channels + column, inside, 0.0)
    value = value.to(tl.float32)
    if branch is not None:
        added = tl.load(branch + at, inside, 0.0).to(tl.float32)
        if gain is not None:
            added *= tl.load(gain + column, used, 0.0).to(tl.float32)
        value += added
    if sums is not None:
        value = value.to(base.dtype.element_ty).to(tl.float32)
        tl.store(sums + at, value.to(sums.dtype.element_ty), inside)
    if weight is not None:
        mean = tl.sum(value, 1) / channels
        centred = tl.where(used, value - mean[:, None], 0.0)
        variance = tl.sum(centred * centred, 1) / channels
        normed = centred * tl.rsqrt(variance + eps)[:, None]
        normed = normed * tl.load(weight + column, used, 0.0).to(tl.float32)
        normed += tl.load(bias + column, used, 0.0).to(tl.float32)
        tl.store(norms + at, normed.to(norms.dtype.element_ty), inside)
        if shift is not None:
            moved = tl.load(shift + (row % shift_rows)[:, None] * channels + column, inside, 0.0)
            # Of the rounded norm, as two steps would make it.
            normed = normed.to(norms.dtype.element_ty).to(tl.float32) + moved.to(tl.float32)
            tl.store(shifted + at, normed.to(shifted.dtype.element_ty), inside)
