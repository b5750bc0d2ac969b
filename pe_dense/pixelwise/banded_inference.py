"""Label maps from token logits, band by band: the K x H x W logits never exist.

Shape legend: K classes, h w token grid of a window, H W pixels of the image, P Q pixels of the
original image, R rows of one band.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pe_dense.pixelwise.upsampled_loss import BAND_NUMEL, interpolation_matrix


@dataclass(frozen=True)
class Window:
    """One square or rectangle of an image: pixel rows [top, bottom), columns [left, right)."""

    top: int
    left: int
    bottom: int
    right: int


def slide_windows(
    image_hw: tuple[int, int], crop_hw: tuple[int, int], stride_hw: tuple[int, int]
) -> list[Window]:
    """Windows of sliding inference, row by row; the last ones are moved back inside the image.

    Source: mmseg's `slide_inference`.

    Example:
        >>> [w.left for w in slide_windows((4, 10), (4, 4), (4, 3))]
        [0, 3, 6]
    """
    places = []
    for size, crop, stride in zip(image_hw, crop_hw, stride_hw, strict=True):
        count = max(size - crop + stride - 1, 0) // stride + 1
        ends = [min(i * stride + crop, size) for i in range(count)]
        places.append([(max(end - crop, 0), end) for end in ends])
    rows, columns = places
    return [Window(top, left, bottom, right) for top, bottom in rows for left, right in columns]


def labels_of_windows(
    logits: Sequence[Tensor],
    windows: Sequence[Window],
    image_hw: tuple[int, int],
    original_hw: tuple[int, int],
    flip: str | None = None,
) -> Tensor:
    """Best class of every pixel, where windows overlap by the mean of their logits.

    Token logits are upsampled to their windows, averaged, cut to the image, resized to the
    original size and compared: all linear up to the last step, and done for a band of rows at a
    time.

    Args:
        logits: (K, h, w) for each window.
        windows: Their places, which must cover the image.
        image_hw: Size of the image without padding at the bottom and right.
        original_hw: Size of the label map.
        flip: 'horizontal' or 'vertical' if the image was mirrored.

    Returns:
        (P, Q) int64 labels.
    """
    height, width = image_hw
    device, classes = logits[0].device, logits[0].shape[0]
    counts_HW = torch.zeros(height, width, device=device)
    for w in windows:
        counts_HW[w.top : w.bottom, w.left : w.right] += 1
    assert bool((counts_HW > 0).all()), "windows leave pixels out"
    alone = len(windows) == 1
    rows_PH = interpolation_matrix(height, original_hw[0], logits[0])
    columns_WQ = interpolation_matrix(width, original_hw[1], logits[0]).T.contiguous()
    if flip == "vertical":
        rows_PH = rows_PH.flip(1)
    if flip == "horizontal":
        columns_WQ = columns_WQ.flip(0)
    keeps_rows, keeps_columns = (
        (height, width)[axis] == original_hw[axis] and flip is None for axis in (0, 1)
    )
    wide = [  # columns first: rows of tokens are few
        tokens.float() @ interpolation_matrix(tokens.shape[2], w.right - w.left, tokens).T
        for tokens, w in zip(logits, windows, strict=True)
    ]
    upright = [
        interpolation_matrix(tokens.shape[1], w.bottom - w.top, tokens)
        for tokens, w in zip(logits, windows, strict=True)
    ]
    numel = BAND_NUMEL.get(device.type, BAND_NUMEL["default"])
    band = max(1, numel // (classes * max(width, original_hw[1])))
    labels = []
    for start in range(0, original_hw[0], band):
        if keeps_rows:
            first, last = start, min(start + band, height)
        else:
            used = rows_PH[start : start + band].any(0).nonzero()
            first, last = int(used[0]), int(used[-1]) + 1
        sums_KRW = torch.zeros(classes, last - first, width, device=device)
        for w, wide_KhW, rows_Hh in zip(windows, wide, upright, strict=True):
            top, bottom = max(w.top, first), min(w.bottom, last, height)
            if top >= bottom:
                continue
            right = min(w.right, width)
            part = rows_Hh[top - w.top : bottom - w.top] @ wide_KhW[:, :, : right - w.left]
            sums_KRW[:, top - first : bottom - first, w.left : right] += part
        if not (keeps_rows and keeps_columns):
            if not alone:  # before a resize, sums of different counts must become means
                sums_KRW /= counts_HW[first:last]
            if not keeps_rows:
                sums_KRW = rows_PH[start : start + band, first:last] @ sums_KRW
            if not keeps_columns:
                sums_KRW = sums_KRW @ columns_WQ
        labels.append(sums_KRW.argmax(0))
    return torch.cat(labels)
