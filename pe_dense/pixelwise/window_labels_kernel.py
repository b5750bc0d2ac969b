"""The best class of every pixel of an image, from logits that wait for the rows of their windows.

Shape legend: n rows of windows, P heads, K classes, h token rows of a window, H W pixels.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK_CLASSES, BLOCK_COLUMNS = 16, 128
# One compilation for images of all sizes.
SIZES = ("height", "width", "heads", "classes", "h")


@triton.jit(do_not_specialize=SIZES)
def labels_kernel(
    wide, weights, tap_from, tap_to, window_from, window_to, labels,
    height, width, heads, classes, h,
    BLOCK_CLASSES: tl.constexpr, BLOCK_COLUMNS: tl.constexpr,
):  # fmt: skip
    """One program for a piece of a pixel row of one head."""
    y, p = tl.program_id(0), tl.program_id(2)
    x = tl.program_id(1) * BLOCK_COLUMNS + tl.arange(0, BLOCK_COLUMNS)
    best = tl.full((BLOCK_COLUMNS,), float("-inf"), tl.float32)
    label = tl.zeros((BLOCK_COLUMNS,), tl.int32)
    first, last = tl.load(window_from + y), tl.load(window_to + y)
    for k0 in range(0, classes, BLOCK_CLASSES):
        k = k0 + tl.arange(0, BLOCK_CLASSES)
        is_class = (k < classes)[:, None]
        logits = tl.zeros((BLOCK_CLASSES, BLOCK_COLUMNS), tl.float32)
        for r in range(first, last):
            head = (r * heads + p).to(tl.int64) * classes
            tokens = wide + ((head + k) * h * width)[:, None] + x[None, :]
            row = r * height + y
            for t in range(tl.load(tap_from + row), tl.load(tap_to + row)):
                weight = tl.load(weights + row * h + t)
                inside = is_class & (x < width)[None, :]
                logits += weight * tl.load(tokens + t * width, mask=inside, other=0.0)
        # nan is the largest, as in torch.
        logits = tl.where(logits == logits, logits, float("inf"))
        logits = tl.where(is_class, logits, float("-inf"))
        top = tl.max(logits, 0)
        found = k0 + tl.argmax(logits, 0, tie_break_left=True)
        label = tl.where(top > best, found, label)
        best = tl.maximum(top, best)
    place = (p.to(tl.int64) * height + y) * width + x
    tl.store(labels + place, label.to(tl.int64), mask=x < width)


def labels_of_rows(
    wide_nPKhW: Tensor,
    row_weights_nHh: Tensor,
    taps_nH: tuple[Tensor, Tensor],
    windows_H: tuple[Tensor, Tensor],
) -> Tensor:
    """(P, H, W) int64: the first class whose weighted sum over token rows is the largest.

    Args:
        wide_nPKhW: Logits at token rows and pixel columns, float32, contiguous.
        row_weights_nHh: Weights of the token rows at the pixel rows, contiguous.
        taps_nH: First and last + 1 token row of a window whose weight is not 0, int32.
        windows_H: First and last + 1 row of windows that a pixel row depends on, int32.
    """
    _, heads, classes, h, width = wide_nPKhW.shape
    height, device = row_weights_nHh.shape[1], wide_nPKhW.device
    labels_PHW = torch.empty(heads, height, width, dtype=torch.int64, device=device)
    grid = height, triton.cdiv(width, BLOCK_COLUMNS), heads
    with torch.cuda.device(device if device.type == "cuda" else -1):
        labels_kernel[grid](
            wide_nPKhW, row_weights_nHh, *taps_nH, *windows_H, labels_PHW, height, width, heads,
            classes, h, BLOCK_CLASSES=BLOCK_CLASSES, BLOCK_COLUMNS=BLOCK_COLUMNS,
        )  # fmt: skip
    return labels_PHW
