"""What kernels over the cells of an upsampled map share: reading four tokens, and adding to them.

A cell is what lies between the centres of four tokens, see `token_cells`. A lane is a class (or a
bin of depth), and tokens lie with their classes side by side.
"""

from __future__ import annotations

import triton
import triton.language as tl

LOG2_E = tl.constexpr(1.4426950408889634)
# Where no class is: its exponential is 0, and differences of two of them are 0, not nan.
NOTHING = tl.constexpr(-3e38)


@triton.jit
def classes_of(token, top, lane, NUM_CLASSES: tl.constexpr):
    """Logits of one token in units of ln 2, less its largest."""
    value = tl.load(token + lane, mask=lane < NUM_CLASSES, other=0.0).to(tl.float32)
    return tl.where(lane < NUM_CLASSES, (value - top) * LOG2_E, NOTHING)


@triton.jit
def corners_of(numbers, bp, i, i1, j, j1, h, w):
    """A number of each of the tokens at the four corners of a cell."""
    row, row1 = numbers + (bp * h + i) * w, numbers + (bp * h + i1) * w
    return tl.load(row + j), tl.load(row + j1), tl.load(row1 + j), tl.load(row1 + j1)


@triton.jit
def leave_at_tokens(upper, lower, to_upper, to_lower, stored, has_lower, ADDS: tl.constexpr):
    """Stores what a row of cells gives to a token above and the one below, or adds it to them.

    Below the last row of cells there is no token: the one above gets both.
    """
    below = stored & has_lower
    if not has_lower:
        to_upper += to_lower
    if ADDS:
        to_upper += tl.load(upper, mask=stored, other=0.0)
        to_lower += tl.load(lower, mask=below, other=0.0)
    tl.store(upper, to_upper, mask=stored)
    tl.store(lower, to_lower, mask=below)
