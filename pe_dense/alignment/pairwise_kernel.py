"""Errors of a block of token pairs, from the two products, in one pass over them (Triton).

As written, scaling, exponential, difference and the scaling of the gradient pass over both blocks
some ten times, each a launch of its own.

Shape legend: G images, N tokens, R and K tokens of the row and the column block.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

HEIGHT, COLUMNS = 8, 512  # pairs of a program


def errors_in_place(
    product_GRK: Tensor,
    teacher_product_GRK: Tensor,
    inverse_GN: Tensor,
    teacher_inverse_GN: Tensor,
    rows: slice,
    columns: slice,
    temperature: float,
    scale: float | None,
    skips_diagonal: bool,
) -> Tensor:
    """Sums of squared errors, one a program; the product becomes scale * error / norms.

    Args:
        product_GRK: Of the student's tokens, float32, contiguous; changed unless `scale` is None.
        teacher_product_GRK: The same of the teacher's.
        inverse_GN: 1 / norm of the student's tokens.
        teacher_inverse_GN: The same of the teacher's.
        rows: Of the N tokens, those of the block.
        columns: Likewise.
        temperature: Of the teacher.
        scale: Factor of what is written.
        skips_diagonal: Whether a token's pair with itself counts as equal.
    """
    images, height, width = product_GRK.shape
    grid = (triton.cdiv(height, HEIGHT), triton.cdiv(width, COLUMNS), images)
    parts = product_GRK.new_empty(grid)
    with torch.cuda.device(product_GRK.device if product_GRK.is_cuda else -1):
        _errors[grid](
            product_GRK, teacher_product_GRK, inverse_GN, teacher_inverse_GN, parts,
            height, width, inverse_GN.shape[1], rows.start, columns.start, temperature,
            0.0 if scale is None else scale, scale is not None, skips_diagonal, HEIGHT, COLUMNS,
            num_warps=4,
        )  # fmt: skip
    return parts.flatten()


@triton.jit
def _errors(
    products, targets, inverses, target_inverses, parts,
    height, width, tokens, first_row, first_column, temperature, scale,
    WRITES: tl.constexpr, SKIPS: tl.constexpr, HEIGHT: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    image = tl.program_id(2)
    row = tl.program_id(0) * HEIGHT + tl.arange(0, HEIGHT)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    in_row, in_column = row < height, column < width
    inside = in_row[:, None] & in_column[None, :]
    at_row, at_column = image * tokens + first_row + row, image * tokens + first_column + column
    norms = tl.load(inverses + at_row, in_row, 0.0)[:, None]
    norms = norms * tl.load(inverses + at_column, in_column, 0.0)[None, :]
    target_norms = tl.load(target_inverses + at_row, in_row, 0.0)[:, None]
    target_norms = target_norms * tl.load(target_inverses + at_column, in_column, 0.0)[None, :]
    at = image.to(tl.int64) * height * width + row[:, None] * width + column[None, :]
    target = tl.load(targets + at, inside, 0.0) * target_norms
    error = tl.load(products + at, inside, 0.0) * norms - tl.exp(temperature * (target - 1.0))
    counted = inside
    if SKIPS:
        counted &= (first_row + row)[:, None] != (first_column + column)[None, :]
    error = tl.where(counted, error, 0.0)
    part = (tl.program_id(2) * tl.num_programs(0) + tl.program_id(0)) * tl.num_programs(1)
    # The buffer's axes are (rows, columns, images), but only its sum matters.
    tl.store(parts + part + tl.program_id(1), tl.sum(tl.sum(error * error, 1), 0))
    if WRITES:
        tl.store(products + at, error * norms * scale, inside)
