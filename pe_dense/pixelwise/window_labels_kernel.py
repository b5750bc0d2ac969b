"""The best class of every pixel of an image, from logits of windows that wait for their rows.

Shape legend: N = n m windows (n rows of m), P heads, K classes, h token rows of a window, C columns
of the image under it, H W pixels of the image.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK_CLASSES, BLOCK_COLUMNS = 16, 128


@triton.jit
def labels_kernel(
    wide, weights, tap_from, tap_to, window_from, window_to, left, right, labels,
    height, width, heads, classes, h, columns, windows_across,
    BLOCK_CLASSES: tl.constexpr, BLOCK_COLUMNS: tl.constexpr,
):  # fmt: skip
    """One program for a piece of a pixel row of one head."""
    y, begin, p = tl.program_id(0), tl.program_id(1) * BLOCK_COLUMNS, tl.program_id(2)
    x = begin + tl.arange(0, BLOCK_COLUMNS)
    best = tl.full((BLOCK_COLUMNS,), float("-inf"), tl.float32)
    label = tl.zeros((BLOCK_COLUMNS,), tl.int32)
    first, last = tl.load(window_from + y), tl.load(window_to + y)
    for k0 in range(0, classes, BLOCK_CLASSES):
        k = k0 + tl.arange(0, BLOCK_CLASSES)
        logits = tl.zeros((BLOCK_CLASSES, BLOCK_COLUMNS), tl.float32)
        for r in range(first, last):
            for m in range(windows_across):
                begin_m, end_m = tl.load(left + m), tl.load(right + m)
                if (begin_m < begin + BLOCK_COLUMNS) & (end_m > begin):
                    inside = (k < classes)[:, None] & ((x >= begin_m) & (x < end_m))[None, :]
                    head = ((r * windows_across + m) * heads + p).to(tl.int64) * classes
                    window = wide + ((head + k) * h * columns)[:, None] + (x - begin_m)[None, :]
                    row = r * height + y
                    for t in range(tl.load(tap_from + row), tl.load(tap_to + row)):
                        weight = tl.load(weights + row * h + t)
                        logits += weight * tl.load(window + t * columns, mask=inside, other=0.0)
        # nan is the largest, as in torch.
        logits = tl.where(logits == logits, logits, float("inf"))
        logits = tl.where((k < classes)[:, None], logits, float("-inf"))
        top = tl.max(logits, 0)
        found = k0 + tl.argmax(logits, 0, tie_break_left=True)
        label = tl.where(top > best, found, label)
        best = tl.maximum(top, best)
    place = (p.to(tl.int64) * height + y) * width + x
    tl.store(labels + place, label.to(tl.int64), mask=x < width)


def labels_of_windows(
    wide_NPKhC: Tensor,
    row_weights_nHh: Tensor,
    lefts: list[int],
    rights: list[int],
    width: int,
) -> Tensor:
    """(P, H, W) int64: the first class whose weighted sum over windows and rows is the largest.

    Args:
        wide_NPKhC: Logits, along rows at the pixels of the image, else at token rows; windows row
            by row. What is beyond the columns of a narrower window is not read.
        row_weights_nHh: Weights of the token rows of a row of windows at the pixel rows; whatever
            is not 0 lies together, and so do windows of one pixel row.
        lefts: First column of the m windows of a row.
        rights: Last column + 1 of them.
        width: W.
    """
    num, heads, classes, h, columns = wide_NPKhC.shape
    rows, height, _ = row_weights_nHh.shape
    device = wide_NPKhC.device
    used_nHh = row_weights_nHh != 0
    tap_from, tap_to = _from_to(used_nHh)
    window_from, window_to = _from_to(used_nHh.any(2).T)
    left, right = torch.tensor([lefts, rights], dtype=torch.int32).to(device)
    labels_PHW = torch.empty(heads, height, width, dtype=torch.int64, device=device)
    grid = height, triton.cdiv(width, BLOCK_COLUMNS), heads
    with torch.cuda.device(device if device.type == "cuda" else -1):
        labels_kernel[grid](
            wide_NPKhC.contiguous(), row_weights_nHh.contiguous(), tap_from, tap_to, window_from,
            window_to, left, right, labels_PHW, height, width, heads, classes, h, columns,
            num // rows, BLOCK_CLASSES=BLOCK_CLASSES, BLOCK_COLUMNS=BLOCK_COLUMNS,
        )  # fmt: skip
    return labels_PHW


def _from_to(used: Tensor) -> tuple[Tensor, Tensor]:
    """First and last + 1 place that is used along the last axis, int32; 0 and 0 where none is."""
    size = used.shape[-1]
    places = torch.arange(size, device=used.device)
    last = torch.where(used, places + 1, 0).amax(-1)
    first = torch.where(used, places, size).amin(-1).clamp(max=last)
    return first.int().contiguous(), last.int().contiguous()
