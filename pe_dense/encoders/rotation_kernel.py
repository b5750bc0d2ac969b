"""Rotation of queries and keys where they lie, behind the product that makes them (Triton).

The plain form converts to float32, multiplies and converts back: 20 bytes a number of half
precision. Here each number is read and written once, 4 bytes; arithmetic is float32 in registers.

Shape legend: B sequences, N tokens, C width, D head width.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

ROWS, WIDTH, IMAGES = 2, 1024, 4  # a program: tokens, numbers side by side, sequences in turn


def turn_in_place(qkv_BNC: Tensor, table_ND2: Tensor, inverse: bool = False) -> None:
    """Rotate the first two thirds (queries and keys) of (B, N, 3 C), contiguous.

    Args:
        qkv_BNC: Changed in place.
        table_ND2: (N, D / 2, 2) float32, contiguous, D a divisor of C.
        inverse: Turn back.
    """
    batch, tokens, width = qkv_BNC.shape
    turned = 2 * width // 3
    columns = min(WIDTH, turned & -turned)  # the largest power of two that divides the width
    grid = (triton.cdiv(tokens, ROWS), turned // columns, triton.cdiv(batch, IMAGES))
    with torch.cuda.device(qkv_BNC.device if qkv_BNC.is_cuda else -1):
        _turn[grid](
            qkv_BNC, table_ND2, batch, tokens, width, 2 * table_ND2.shape[1],
            -1.0 if inverse else 1.0, ROWS, columns, IMAGES, num_warps=4,
        )  # fmt: skip


@triton.jit
def _turn(
    qkv, table, batch, tokens, width, head_dim, sign,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, IMAGES: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    inside = (row < tokens)[:, None] & (column >= 0)[None, :]
    # A row of the table is cosine and sine of pair after pair: as long as a head.
    angles = tl.load(table + row[:, None] * head_dim + column[None, :] % head_dim, inside, 0.0)
    cosine, sine = tl.split(tl.reshape(angles, (ROWS, COLUMNS // 2, 2)))
    sine *= sign
    at = row.to(tl.int64)[:, None] * width + column[None, :]
    first = tl.program_id(2) * IMAGES
    for i in range(IMAGES):
        image = first + i
        place = qkv + image.to(tl.int64) * tokens * width + at
        mask = inside & (image < batch)
        pairs = tl.load(place, mask, 0.0).to(tl.float32)
        even, odd = tl.split(tl.reshape(pairs, (ROWS, COLUMNS // 2, 2)))
        turned = tl.join(even * cosine - odd * sine, odd * cosine + even * sine)
        turned = tl.reshape(turned, (ROWS, COLUMNS))
        tl.store(place, turned.to(qkv.dtype.element_ty), mask)
