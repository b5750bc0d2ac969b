"""Label maps of soft labels at the size of the image, with work only where labels meet.

A cell is what lies between four neighbouring tokens. Bilinear values inside are weighted means of
those at the corners, with the same weights for all labels. So a label that is the best one at all
four corners is the best one everywhere inside: the cell is clear, and is filled. Only mixed cells
are upsampled and compared.

Maps are those of `label_maps.label_map_from_soft` without stretching and without a patch
size. Clear cells are so to the last pixel: rounding never turns the order of two labels around,
and a lower label, which wins a tie, must be behind by more than rounding can make up for. In mixed
cells two labels that agree to rounding may change places.

Shape legend: B maps, C labels, h w token grid, H W image, n mixed cells, P R rows and columns of
pixels in a cell, X = P R.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view
from torch import Tensor

ROUNDING = 2.0**-19  # of the largest value; twice the error of a bilinear mean is below 2**-20
MAP_BYTES = 2**23  # maps held at a time
CELL_VALUES = 2**18  # upsampled numbers held at a time: about 1 MiB, which fits caches


def distinct_label_maps(
    soft_BChw: Sequence[Tensor], image_hw: tuple[int, int]
) -> Iterator[tuple[int, np.ndarray | None]]:
    """Label maps one after the other, each of them once.

    Args:
        soft_BChw: Soft labels (C, h, w) of each map, of one shape, C from 1 to 255.
        image_hw: Size of the maps.

    Yields:
        For each of the B its number among the distinct maps, in order of appearance, and the map,
        uint8 (H, W), or None where that number came up before. Of equally good labels the lowest
        one counts. Maps with two numbers may still be equal, where their tokens' labels differ.

    Raises:
        ValueError: If there is no map.
    """
    if not len(soft_BChw):
        raise ValueError("soft_BChw is empty; pass the soft labels of at least one map")
    soft_BChw = torch.stack(list(soft_BChw)).cpu().numpy()
    same: dict[bytes, int] = {}  # equal soft labels, as of settings that still see all frames
    source_B = [same.setdefault(soft_Chw.tobytes(), b) for b, soft_Chw in enumerate(soft_BChw)]
    used = sorted(same.values())
    winners_Bhw, is_mixed_Bhw = clear_winners(soft_BChw)
    numbers: dict[bytes, int] = {}
    number_of: dict[int, int] = {}
    step = max(1, MAP_BYTES // (image_hw[0] * image_hw[1]))
    ready: dict[int, np.ndarray] = {}
    for b, source in enumerate(source_B):
        if source == b and b not in ready:
            first = used.index(b)
            chunk = used[first : first + step]
            chunk_BHW = _upsampled(
                soft_BChw[chunk], winners_Bhw[chunk], is_mixed_Bhw[chunk], image_hw
            )
            ready = dict(zip(chunk, chunk_BHW, strict=True))
        labels_HW = None
        if source == b:
            key = soft_BChw[b] if is_mixed_Bhw[b].any() else winners_Bhw[b]
            key = key.tobytes()
            if key not in numbers:
                labels_HW = ready[b]
            number_of[b] = numbers.setdefault(key, len(numbers))
        yield number_of[source], labels_HW


def clear_winners(soft_BChw: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Best label at the upper left corner of each cell, and whether the cell is mixed.

    Cells of the last row and column have their lower or right corners at the upper or left ones.

    Returns:
        uint8 (B, h, w) and bool (B, h, w).
    """
    best_Bhw = soft_BChw[:, 0]
    winners_Bhw = np.zeros(best_Bhw.shape, np.uint8)
    lower_Bhw = np.full_like(best_Bhw, -np.inf)  # the best of the labels below the winner
    for c in range(1, soft_BChw.shape[1]):
        is_better_Bhw = soft_BChw[:, c] > best_Bhw
        lower_Bhw = np.where(is_better_Bhw, best_Bhw, lower_Bhw)
        winners_Bhw[is_better_Bhw] = c
        best_Bhw = np.maximum(best_Bhw, soft_BChw[:, c])
    slack_B11 = ROUNDING * np.abs(soft_BChw).max(axis=(1, 2, 3))[:, None, None]
    is_mixed_Bhw = lower_Bhw >= best_Bhw - slack_B11
    for axis in (1, 2):  # a cell is clear if its corners are, and agree
        next_Bhw = _next(winners_Bhw, axis)
        is_mixed_Bhw = is_mixed_Bhw | _next(is_mixed_Bhw, axis) | (winners_Bhw != next_Bhw)
    return winners_Bhw, is_mixed_Bhw


@lru_cache(maxsize=32)
def bilinear_sources(size: int, source: int) -> tuple[np.ndarray, np.ndarray]:
    """Where pixels along an axis come from when `source` tokens are resized bilinearly.

    As `torch.nn.functional.interpolate` with align_corners=False and no antialiasing.

    Returns:
        int64 (size,) token before each pixel, and float32 (size,) share of the token after it.

    Example:
        >>> low, share = bilinear_sources(4, 2)
        >>> low.tolist(), share.tolist()
        ([0, 0, 0, 1], [0.0, 0.25, 0.75, 0.25])
    """
    at = (np.arange(size, dtype=np.float32) + np.float32(0.5)) * np.float32(source / size)
    at = np.maximum(at - np.float32(0.5), 0)
    low = np.minimum(at.astype(np.int64), source - 1)
    return low, (at - low).astype(np.float32)


def _next(x_Bhw: np.ndarray, axis: int) -> np.ndarray:
    """Each entry replaced by the following one along an axis, the last one kept."""
    last = x_Bhw.shape[axis] - 1
    return x_Bhw.take(np.minimum(np.arange(last + 1) + 1, last), axis=axis)


@lru_cache(maxsize=32)
def _kinds_of_cells(size: int, source: int) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    """First pixel (source,) and kind (source,) of each cell along an axis, and kinds' weights.

    Cells are of a kind if they have the same weights (2, pixels) of their two corners.
    """
    low, share = bilinear_sources(size, source)
    counts = np.bincount(low, minlength=source)
    starts = np.cumsum(counts) - counts
    kinds: dict[bytes, int] = {}
    weights: list[np.ndarray] = []
    kind_of_cells = np.empty(source, np.int64)
    for i, (start, count) in enumerate(zip(starts, counts, strict=True)):
        shares = share[start : start + count]
        kind_of_cells[i] = kinds.setdefault(shares.tobytes(), len(kinds))
        if len(kinds) > len(weights):
            weights.append(np.stack([1 - shares, shares]))
    return starts, kind_of_cells, weights


def _upsampled(
    soft_BChw: np.ndarray,
    winners_Bhw: np.ndarray,
    is_mixed_Bhw: np.ndarray,
    image_hw: tuple[int, int],
) -> np.ndarray:
    """(B, H, W) best label of each pixel."""
    (height, width), (h, w) = image_hw, soft_BChw.shape[2:]
    low_H, low_W = bilinear_sources(height, h)[0], bilinear_sources(width, w)[0]
    labels_BHW = winners_Bhw.take(low_W, axis=2).take(low_H, axis=1)
    tops_h, kinds_h, weights_y = _kinds_of_cells(height, h)
    lefts_w, kinds_w, weights_x = _kinds_of_cells(width, w)
    b_n, y_n, x_n = np.nonzero(is_mixed_Bhw)
    kind_n = kinds_h[y_n] * len(weights_x) + kinds_w[x_n]
    order_n = np.argsort(kind_n, kind="stable")
    ends = np.cumsum(np.bincount(kind_n, minlength=len(weights_y) * len(weights_x)))
    start = 0
    for kind, end in enumerate(ends.tolist()):
        weights_2P, weights_2R = weights_y[kind // len(weights_x)], weights_x[kind % len(weights_x)]
        rows, columns = weights_2P.shape[1], weights_2R.shape[1]
        if start == end or not rows * columns:
            start = end
            continue
        weights_4X = weights_2P[:, None, :, None] * weights_2R[None, :, None, :]
        weights_4X = weights_4X.reshape(4, -1).astype(soft_BChw.dtype)  # X = P * R pixels
        blocks_BHWPR = sliding_window_view(labels_BHW, (rows, columns), (1, 2), writeable=True)
        step = max(1, CELL_VALUES // (soft_BChw.shape[1] * rows * columns))
        for first in range(start, end, step):
            cells = order_n[first : min(first + step, end)]
            b, y, x = b_n[cells], y_n[cells], x_n[cells]
            down, right = np.minimum(y + 1, h - 1), np.minimum(x + 1, w - 1)
            corners = [soft_BChw[b, :, v, u] for v in (y, down) for u in (x, right)]
            labels_nX = _best_labels(np.stack(corners, axis=2), weights_4X)
            blocks_BHWPR[b, tops_h[y], lefts_w[x]] = labels_nX.reshape(-1, rows, columns)
        start = end
    return labels_BHW


def _best_labels(corners_nC4: np.ndarray, weights_4X: np.ndarray) -> np.ndarray:
    """(n, X) uint8 label with the largest mean of its corners at each pixel."""
    best_nX = corners_nC4[:, 0] @ weights_4X
    labels_nX = np.zeros(best_nX.shape, np.uint8)
    for c in range(1, corners_nC4.shape[1]):
        values_nX = corners_nC4[:, c] @ weights_4X
        np.copyto(labels_nX, np.uint8(c), where=values_nX > best_nX)
        np.maximum(best_nX, values_nX, out=best_nX)
    return labels_nX
