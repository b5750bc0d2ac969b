"""J and F of many label maps of one frame at once, as a sweep over layers and settings has them.

All maps of a frame share the annotation, and most of what scoring one costs is per call, not per
pixel. So the masks of all maps are kept as bits, eight maps to a byte, side by side at each pixel:
one operation on bytes then serves eight maps, and only counts are unpacked. Values are those of
`region_and_boundary.frame_scores` to the last digit; label maps are those of
`label_propagation.label_map_from_soft`, whose bilinear upsampling is two small matrix products
here, up to pixels where two labels agree to rounding.

Shape legend: B label maps, K objects, C = K + 1 labels, h w token grid, H W image, G = ceil(B / 8)
bytes of bits, N pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import cv2
import numpy as np
import torch
from torch import Tensor

from pe_dense.tracking.region_and_boundary import boundary_map

BAND_VALUES = 2**18  # upsampled numbers held at a time: about 1 MiB, which fits caches
FEW_ROWS = 32  # rows that are unpacked rather than added


def masks_from_soft(soft_BChw: Sequence[Tensor], image_hw: tuple[int, int]) -> np.ndarray:
    """Masks of the objects in all label maps, upsampled bilinearly to the image.

    The same as `label_map_from_soft` without stretching and without a patch size. A band of rows
    is upsampled at a time, so memory stays small whatever the number of maps.

    Args:
        soft_BChw: Soft labels (C, h, w) of each map, of one shape and device.
        image_hw: Size of the masks.

    Returns:
        uint8 (K, H, W, G): bit b of a pixel is set where map b has label k + 1; of equally good
        labels the lowest one counts. The order of bits is that of `numpy.packbits`.

    Raises:
        ValueError: If there is no map.
    """
    if not len(soft_BChw):
        raise ValueError("soft_BChw is empty; pass the soft labels of at least one map")
    soft_ChwB = torch.stack(list(soft_BChw)).permute(1, 2, 3, 0).contiguous()
    labels, h, w, maps = soft_ChwB.shape
    height, width = image_hw
    rows_Hh = bilinear_matrix(height, h).to(soft_ChwB)
    columns_Ww = bilinear_matrix(width, w).to(soft_ChwB)
    near_rows, near_columns = slice(0, height), slice(0, width)
    if labels > 1 and soft_ChwB.min() >= 0:  # without support no object beats the background
        support_hw = (soft_ChwB[1:] > 0).any(dim=3).any(dim=0)
        near_rows = _reached(rows_Hh, support_hw.any(dim=1))
        near_columns = _reached(columns_Ww, support_hw.any(dim=0))
    columns_Ww = columns_Ww[near_columns]
    tall_CHwB = (rows_Hh @ soft_ChwB.flatten(2)).unflatten(2, (w, maps))
    masks_KHWG = np.zeros((labels - 1, height, width, -(-maps // 8)), np.uint8)
    near_width = len(columns_Ww)
    step = max(1, BAND_VALUES // (max(near_width, 1) * maps * labels))
    # Reused by all bands: fresh pages would cost more time than what is written to them.
    space_CRWB = soft_ChwB.new_empty(labels, step, near_width, maps)
    is_greater_RWB = np.empty((step, near_width, maps), bool)
    for top in range(near_rows.start, near_rows.stop, step):
        rows = min(step, near_rows.stop - top)
        band_CRWB = space_CRWB[:, :rows]
        for c in range(labels):
            torch.matmul(columns_Ww, tall_CHwB[c, top : top + rows], out=band_CRWB[c])
        best_RWB = band_CRWB[0]
        for c in range(1, labels):
            is_better_RWB = _greater(band_CRWB[c], best_RWB, is_greater_RWB[:rows])
            masks_KHWG[c - 1, top : top + rows, near_columns] = _packed(is_better_RWB)
            if c < labels - 1:
                torch.maximum(best_RWB, band_CRWB[c], out=best_RWB)
    # A bit says that a label beats all lower ones; the highest label that does is the best.
    beaten_HWG = np.zeros_like(masks_KHWG[0]) if len(masks_KHWG) else None
    for mask_HWG in masks_KHWG[::-1]:
        wins_HWG = mask_HWG.copy()
        mask_HWG &= ~beaten_HWG
        beaten_HWG |= wins_HWG
    return masks_KHWG


def masks_from_maps(maps_BHW: Sequence[np.ndarray], num_objects: int) -> np.ndarray:
    """Masks of the objects in label maps that exist, as `masks_from_soft` has them.

    Args:
        maps_BHW: Label maps of integers, of one size.
        num_objects: K.
    """
    maps_HWB = np.stack(maps_BHW, axis=-1)
    return np.stack([np.packbits(maps_HWB == k + 1, axis=-1) for k in range(num_objects)])


def masks_scores(
    annotation_HW: np.ndarray, masks_KHWG: np.ndarray, num_maps: int, radius: int
) -> np.ndarray:
    """J and F of all objects in all maps of a frame.

    Args:
        annotation_HW: Label map; other labels than 1 to K are background.
        masks_KHWG: Bits of the predicted masks, see `masks_from_soft`.
        num_maps: B.
        radius: Tolerance of F in pixels, see `boundary_radius`.

    Returns:
        (B, K, 2) float64, 0..1.

    Raises:
        ValueError: If sizes or the number of maps do not fit.
    """
    if masks_KHWG.shape[1:] != (*annotation_HW.shape, -(-num_maps // 8)):
        raise ValueError(
            f"masks of shape {masks_KHWG.shape} do not belong to {num_maps} maps and an annotation "
            f"of shape {annotation_HW.shape}; pass (K, H, W, ceil(maps / 8))"
        )
    scores_BK2 = np.empty((num_maps, len(masks_KHWG), 2))
    for k, mask_HWG in enumerate(masks_KHWG):
        scores_BK2[:, k] = _object_scores(annotation_HW == k + 1, mask_HWG, num_maps, radius)
    return scores_BK2


@lru_cache(maxsize=32)
def bilinear_matrix(size: int, source: int) -> Tensor:
    """Weights (size, source) of bilinear resizing along an axis, pixel centres aligned by area.

    As `torch.nn.functional.interpolate` with align_corners=False and no antialiasing.

    Example:
        >>> bilinear_matrix(4, 2).tolist()
        [[1.0, 0.0], [0.75, 0.25], [0.25, 0.75], [0.0, 1.0]]
    """
    at = ((torch.arange(size, dtype=torch.float32) + 0.5) * (source / size) - 0.5).clamp(min=0)
    low = at.floor().long().clamp(max=source - 1)
    high = (low + 1).clamp(max=source - 1)
    share, row = at - low, torch.arange(size)
    matrix = torch.zeros(size, source)
    matrix[row, low] += 1 - share
    matrix[row, high] += share
    return matrix


def _reached(weights_Pt: Tensor, has_support_t: Tensor) -> slice:
    """Pixels from the first to the last that take anything from tokens with support."""
    places = torch.nonzero((weights_Pt[:, has_support_t] > 0).any(dim=1)).flatten().tolist()
    return slice(places[0], places[-1] + 1) if places else slice(0, 0)


def _greater(first: Tensor, second: Tensor, out: np.ndarray) -> np.ndarray:
    if first.device.type == "cpu":  # NumPy compares several times faster
        return np.greater(first.numpy(), second.numpy(), out=out)
    return (first > second).cpu().numpy()


def _packed(is_set_RWB: np.ndarray) -> np.ndarray:
    """(..., G) bits; NumPy packs one long row much faster than many short ones."""
    *shape, maps = is_set_RWB.shape
    if maps % 8:
        return np.packbits(is_set_RWB, axis=-1)
    return np.packbits(is_set_RWB.reshape(-1)).reshape(*shape, maps // 8)


def _object_scores(
    annotation_HW: np.ndarray, mask_HWG: np.ndarray, maps: int, radius: int
) -> np.ndarray:
    """(B, 2) J and F of one object."""
    area_B = _counts(mask_HWG.reshape(-1, mask_HWG.shape[-1]), maps)
    both_B = _counts(mask_HWG[annotation_HW], maps)
    union_B = np.count_nonzero(annotation_HW) + area_B - both_B
    j_B = np.where(union_B == 0, 1.0, both_B / np.maximum(union_B, 1))

    first_HW, second_HWG = boundary_map(annotation_HW), _boundary_bits(mask_HWG)
    in_first = np.count_nonzero(first_HW)
    in_second_B = _counts(second_HWG.reshape(-1, second_HWG.shape[-1]), maps)
    if not in_first:
        return np.stack([j_B, (in_second_B == 0).astype(np.float64)], axis=1)
    near_HW = cv2.dilate(first_HW.view(np.uint8), _disk(radius)).view(bool)
    found_B = _counts(second_HWG[near_HW], maps)
    recalled_B = _counts(_near(np.argwhere(first_HW), second_HWG, radius), maps)
    precision_B = found_B / np.maximum(in_second_B, 1)
    recall_B = recalled_B / in_first
    sum_B = precision_B + recall_B
    f_B = 2 * precision_B * recall_B / np.where(sum_B == 0, 1.0, sum_B)
    return np.stack([j_B, f_B], axis=1)


def _boundary_bits(mask_HWG: np.ndarray) -> np.ndarray:
    """`boundary_map` of all maps: pixels unlike their right, lower or lower right neighbour."""
    padded = np.pad(mask_HWG, ((0, 1), (0, 1), (0, 0)), mode="edge")
    boundary_HWG = mask_HWG ^ padded[:-1, 1:]
    boundary_HWG |= mask_HWG ^ padded[1:, :-1]
    boundary_HWG |= mask_HWG ^ padded[1:, 1:]
    return boundary_HWG


def _near(places_N2: np.ndarray, boundary_HWG: np.ndarray, radius: int) -> np.ndarray:
    """(N, G) bits of the maps with a boundary pixel within `radius` of each place."""
    height, width, groups = boundary_HWG.shape
    flat_PG = boundary_HWG.reshape(-1, groups)
    near_NG = np.zeros((len(places_N2), groups), np.uint8)
    for dy, dx in (np.argwhere(_disk(radius)) - radius).tolist():
        # A place moved to the edge of the frame is still within the radius: the disk is convex
        # and symmetric, and the edge lies between the place and where it would have been.
        y = (places_N2[:, 0] + dy).clip(0, height - 1)
        x = (places_N2[:, 1] + dx).clip(0, width - 1)
        near_NG |= flat_PG[y * width + x]
    return near_NG


@lru_cache(maxsize=64)
def _disk(radius: int) -> np.ndarray:
    """uint8 square with 1 where the distance from the centre is at most `radius`."""
    steps = np.arange(-radius, radius + 1)
    return (steps[:, None] ** 2 + steps**2 <= radius**2).astype(np.uint8)


def _counts(bits_NG: np.ndarray, maps: int) -> np.ndarray:
    """(B,) int64: in how many rows the bit of each map is set.

    Full adders on bits: three rows of one weight become a sum of that weight and a carry of twice
    the weight, until few rows are left to unpack. Each pass is five operations on bytes, many
    times less than to unpack all.
    """
    total_B, weight = np.zeros(maps, np.int64), 1
    while len(bits_NG):
        carries, left = [], []
        while (third := len(bits_NG) // 3) >= FEW_ROWS:
            first, second = bits_NG[:third], bits_NG[third : 2 * third]
            last = bits_NG[2 * third : 3 * third]
            left.append(bits_NG[3 * third :])
            half = first ^ second
            carry = first & second
            carry |= half & last
            half ^= last
            carries.append(carry)
            bits_NG = half
        left.append(bits_NG)
        few_NB = np.unpackbits(np.concatenate(left), axis=1, count=maps)
        total_B += weight * few_NB.sum(axis=0, dtype=np.int64)
        if not carries:
            break
        bits_NG, weight = np.concatenate(carries), 2 * weight
    return total_B
