"""J and F of many label maps of one frame at once, as a sweep over layers and settings has them.

All maps of a frame share the annotation, and most of what scoring one costs is per call, not per
pixel. So the masks of all maps are kept as bits, eight maps to a byte, side by side at each pixel:
one operation on bytes then serves eight maps, and only counts are unpacked. Maps that are equal
are scored once. Values are those of `region_and_boundary.frame_scores` to the last digit.

Shape legend: B label maps, K objects, H W image, G = ceil(B / 8) bytes of bits, N pixels.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache

import cv2
import numpy as np
from torch import Tensor

from pe_dense.tracking.mixed_cells import distinct_label_maps
from pe_dense.tracking.region_and_boundary import boundary_map

FEW_ROWS = 32  # rows that are unpacked rather than added


def soft_scores(annotation_HW: np.ndarray, soft_BChw: Sequence[Tensor], radius: int) -> np.ndarray:
    """J and F of all objects under soft labels, upsampled bilinearly to the annotation.

    Args:
        annotation_HW: Label map; other labels than 1 to K are background.
        soft_BChw: Soft labels (K + 1, h, w) of each map, of one shape, on any device.
        radius: Tolerance of F in pixels, see `boundary_radius`.

    Returns:
        (B, K, 2) float64, 0..1.

    Raises:
        ValueError: If there is no map.
    """
    numbers: list[int] = []

    def new_maps() -> Iterable[np.ndarray]:
        for number, labels_HW in distinct_label_maps(soft_BChw, annotation_HW.shape):
            numbers.append(number)
            if labels_HW is not None:
                yield labels_HW

    if not len(soft_BChw):
        raise ValueError("soft_BChw is empty; pass the soft labels of at least one map")
    masks_KHWG = masks_from_maps(new_maps(), len(soft_BChw[0]) - 1)
    return masks_scores(annotation_HW, masks_KHWG, max(numbers) + 1, radius)[numbers]


def masks_from_maps(maps_BHW: Iterable[np.ndarray], num_objects: int) -> np.ndarray:
    """Masks of the objects in label maps, as bits.

    Args:
        maps_BHW: Label maps of integers, of one size; each is used once and not kept.
        num_objects: K.

    Returns:
        uint8 (K, H, W, G): bit b of a pixel is set where map b has label k + 1. The order of bits
        is that of `numpy.packbits`.

    Raises:
        ValueError: If there is no map.
    """
    groups_KHW: list[np.ndarray] = []
    for b, labels_HW in enumerate(maps_BHW):
        if b % 8 == 0:
            groups_KHW.append(np.zeros((num_objects, *labels_HW.shape), np.uint8))
        for k, bits_HW in enumerate(groups_KHW[-1]):
            # A product, because NumPy's shift of bytes is several times slower.
            bits_HW |= (labels_HW == k + 1).view(np.uint8) * np.uint8(128 >> b % 8)
    if not groups_KHW:
        raise ValueError("maps_BHW is empty; pass at least one map")
    return np.stack(groups_KHW, axis=-1)


def masks_scores(
    annotation_HW: np.ndarray, masks_KHWG: np.ndarray, num_maps: int, radius: int
) -> np.ndarray:
    """J and F of all objects in all maps of a frame.

    Args:
        annotation_HW: Label map; other labels than 1 to K are background.
        masks_KHWG: Bits of the predicted masks, see `masks_from_maps`.
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


def _object_scores(
    annotation_HW: np.ndarray, mask_HWG: np.ndarray, maps: int, radius: int
) -> np.ndarray:
    """(B, 2) J and F of one object."""
    box = _box(mask_HWG)  # nothing outside needs counting: most objects are small
    area_B = _counts(mask_HWG[box].reshape(-1, mask_HWG.shape[-1]), maps)
    both_B = _counts(mask_HWG[annotation_HW], maps)
    union_B = np.count_nonzero(annotation_HW) + area_B - both_B
    j_B = np.where(union_B == 0, 1.0, both_B / np.maximum(union_B, 1))

    first_HW, second_HWG = boundary_map(annotation_HW), np.zeros_like(mask_HWG)
    second_HWG[box] = _boundary_bits(mask_HWG[box])
    in_first = np.count_nonzero(first_HW)
    in_second_B = _counts(second_HWG[box].reshape(-1, second_HWG.shape[-1]), maps)
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


def _box(mask_HWG: np.ndarray) -> tuple[slice, slice]:
    """All pixels that are set in a map, and one more on each side: boundaries lie within."""
    used_H = mask_HWG.reshape(len(mask_HWG), -1).max(axis=1)
    used_W = np.bitwise_or.reduce(mask_HWG, axis=0).any(axis=1)
    box = []
    for used in (used_H, used_W):
        places = np.flatnonzero(used)
        first, last = (places[0], places[-1]) if len(places) else (0, -1)
        box.append(slice(max(first - 1, 0), last + 2))
    return tuple(box)


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
