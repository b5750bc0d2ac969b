"""The best class of every pixel of an image, from logits that wait for the rows of their windows.

Shape legend: n rows of windows, P heads, K classes, h token rows of a window, H W pixels.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

ROWS, BLOCK_CLASSES, BLOCK_COLUMNS = 8, 4, 128
# One compilation for images of all sizes.
SIZES = ("height", "width", "heads", "classes", "h")


@triton.jit(do_not_specialize=SIZES)
def labels_kernel(
    wide, weights, tap_from, tap_to, window_from, window_to, labels,
    height, width, heads, classes, h,
    ROWS: tl.constexpr, BLOCK_CLASSES: tl.constexpr, BLOCK_COLUMNS: tl.constexpr,
):  # fmt: skip
    """One program for a few pixel rows of a piece of the columns: they share rows of tokens."""
    block, num_blocks, p = tl.program_id(0), tl.num_programs(0), tl.program_id(2)
    y = block * ROWS + tl.arange(0, ROWS)
    x = tl.program_id(1) * BLOCK_COLUMNS + tl.arange(0, BLOCK_COLUMNS)
    # Of every BLOCK_CLASSES-th class.
    best = tl.full((ROWS, BLOCK_CLASSES, BLOCK_COLUMNS), float("-inf"), tl.float32)
    found = tl.zeros((ROWS, BLOCK_CLASSES, BLOCK_COLUMNS), tl.int32)
    first, last = tl.load(window_from + block), tl.load(window_to + block)
    for k0 in range(0, classes, BLOCK_CLASSES):
        k = k0 + tl.arange(0, BLOCK_CLASSES)
        inside = (k < classes)[:, None] & (x < width)[None, :]
        places = (k * h)[:, None] * width + x[None, :]
        none = tl.where(k < classes, 0.0, float("-inf"))[None, :, None]
        logits = tl.broadcast_to(none, (ROWS, BLOCK_CLASSES, BLOCK_COLUMNS))
        for r in range(first, last):
            head = wide + (r * heads + p).to(tl.int64) * classes * h * width
            group = r * num_blocks + block
            rows = weights + (group * ROWS + tl.arange(0, ROWS)) * h
            for t in range(tl.load(tap_from + group), tl.load(tap_to + group)):
                weight = tl.load(rows + t)
                token = tl.load(head + t * width + places, mask=inside, other=0.0)
                logits += weight[:, None, None] * token[None, :, :]
        # nan is the largest, as in torch.
        logits = tl.where(logits == logits, logits, float("inf"))
        better = logits > best
        best = tl.where(better, logits, best)
        found = tl.where(better, k[None, :, None], found)
    # The first of equals; class 0 where nothing is larger than -inf.
    is_top = best == tl.max(best, 1)[:, None, :]
    label = tl.min(tl.where(is_top, found, classes), 1).to(tl.int64)
    place = (p.to(tl.int64) * height + y)[:, None] * width + x[None, :]
    tl.store(labels + place, label, mask=(y < height)[:, None] & (x < width)[None, :])


def labels_of_rows(
    wide_nPKhW: Tensor,
    row_weights_nHh: Tensor,
    taps: tuple[Tensor, Tensor],
    windows: tuple[Tensor, Tensor],
    height: int,
) -> Tensor:
    """(P, H, W) int64: the first class whose weighted sum over token rows is the largest.

    Args:
        wide_nPKhW: Logits at token rows and pixel columns, float32, contiguous.
        row_weights_nHh: Weights of the token rows at the pixel rows, contiguous; H is filled up
            with rows of 0 to G groups of `ROWS`.
        taps: First and last + 1 token row whose weight is not 0 in a group, (n, G) int32.
        windows: First and last + 1 row of windows that a group depends on, (G,) int32.
        height: H without what fills it up.
    """
    _, heads, classes, h, width = wide_nPKhW.shape
    groups, device = row_weights_nHh.shape[1] // ROWS, wide_nPKhW.device
    labels_PHW = torch.empty(heads, height, width, dtype=torch.int64, device=device)
    grid = groups, triton.cdiv(width, BLOCK_COLUMNS), heads
    with torch.cuda.device(device if device.type == "cuda" else -1):
        labels_kernel[grid](
            wide_nPKhW, row_weights_nHh, *taps, *windows, labels_PHW, height, width, heads,
            classes, h, ROWS=ROWS, BLOCK_CLASSES=BLOCK_CLASSES, BLOCK_COLUMNS=BLOCK_COLUMNS,
        )  # fmt: skip
    return labels_PHW
