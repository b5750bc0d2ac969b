"""Segmentations of a COCO file: which are masks, and what they cover.

They are looked at while the file is read and not kept: of each its bounds and a hash remain.

Shape legend: A annotations; M those of them with a sound mask.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from typing import Any

import numpy as np
from pycocotools import mask as coding

from pe_dense.data.checks.rules import Finding, FindingCollector, Rule

MISSING, POLYGONS, RLE, FAULTY = 0, 1, 2, 3
_FLUSH = 1 << 13  # coordinates
# An outline of this mean thickness or more holds pixels wherever it lies; thinner ones may not.
SURE_PX = 2.0
_LARGEST_PX = 1 << 16  # larger ones are outside of any image, and slow to draw

NO_MASK = Rule(
    "unreadable-masks",
    "segmentations that are neither polygons nor run lengths",
    "write polygons [[x1, y1, x2, y2, x3, y3, ...], ...] or "
    "{'size': [height, width], 'counts': ...}",
)
SHORT_POLYGON = Rule(
    "short-polygons",
    "polygons that are not at least three points x, y",
    "give each polygon six numbers or more, an even count, or take it out",
)
NOT_FINITE = Rule(
    "masks-of-no-number",
    "polygons with coordinates that are no finite numbers",
    "write numbers of pixels",
)
BAD_RUNS = Rule(
    "run-lengths",
    "run lengths that do not add up to their image",
    "write the mask anew: runs from the top of the first column down, 0 or more each",
)


@dataclass
class CocoMasks:
    """What is known of the masks of a file.

    Attributes:
        kind_A: int8, MISSING, POLYGONS, RLE or FAULTY.
        hash_A: int64, the same for equal masks; 0 where there is none.
        bounds_M4: float64, x and y from, x and y to, in pixels; nan for a mask without
            pixels, infinite for one with coordinates that are no finite numbers.
        sizes_M2: int64, width and height that run lengths are for; 0 for polygons.
        findings: Faults of form.
    """

    kind_A: np.ndarray
    hash_A: np.ndarray
    bounds_M4: np.ndarray
    sizes_M2: np.ndarray
    findings: list[Finding]

    def of(self, is_kept_A: np.ndarray) -> CocoMasks:
        """Those of some annotations; the findings stay."""
        is_kept_M = is_kept_A[self.has_mask()]
        return CocoMasks(
            self.kind_A[is_kept_A],
            self.hash_A[is_kept_A],
            self.bounds_M4[is_kept_M],
            self.sizes_M2[is_kept_M],
            self.findings,
        )

    def has_mask(self) -> np.ndarray:
        """(A,) bool, whether there is a sound one."""
        return (self.kind_A == POLYGONS) | (self.kind_A == RLE)


class MaskReader:
    """Takes the segmentations of a file one by one.

    Args:
        file: Its name.
    """

    def __init__(self, file: object) -> None:
        self.faults = FindingCollector(file)
        self.kinds, self.hashes, self.sizes = array("b"), array("q"), array("q")
        self._bounds: list[np.ndarray] = []
        self._wait()

    def _wait(self) -> None:
        """Begin to gather coordinates, which end where a polygon and where a mask ends."""
        self._coordinates, self._ends, self._mask_ends = array("d"), array("q"), array("q")

    def add(self, annotation_id: int, segmentation: Any) -> None:
        """The next annotation's 'segmentation', None where it has none."""
        if not segmentation:
            self.kinds.append(MISSING)
            self.hashes.append(0)
            return
        fault = (
            self._polygons(segmentation)
            if isinstance(segmentation, list)
            else self._runs(segmentation)
        )
        if fault is not None:
            rule, value = fault
            self.kinds.append(FAULTY)
            self.hashes.append(0)
            self.faults.add(rule, f"annotation {annotation_id}", value)
            return
        self._mask_ends.append(len(self._ends))
        if len(self._coordinates) > _FLUSH:
            self._flush()

    def _polygons(self, polygons: list) -> tuple[Rule, str] | None:
        start, num_before = len(self._coordinates), len(self._ends)
        for polygon in polygons:
            if not isinstance(polygon, list):
                fault = NO_MASK, f"has a segmentation {short(polygons)}"
            elif _is_of_points(polygons, polygon):
                fault = NO_MASK, f"has points {short(polygons)}, not numbers in a row"
            elif len(polygon) < 6 or len(polygon) % 2:
                fault = SHORT_POLYGON, f"has a polygon of {len(polygon)} numbers, {short(polygon)}"
            else:
                try:
                    self._coordinates.extend(polygon)
                    self._ends.append(len(self._coordinates))
                    continue
                except (TypeError, OverflowError):
                    fault = NOT_FINITE, f"has a polygon {short(polygon)}"
            del self._coordinates[start:], self._ends[num_before:]
            return fault
        self.kinds.append(POLYGONS)
        self.hashes.append(hash(tuple(map(tuple, polygons))))
        self.sizes.extend((0, 0))
        return None

    def _runs(self, segmentation: Any) -> tuple[Rule, str] | None:
        unreadable = NO_MASK, f"has a segmentation {short(segmentation)}"
        if not isinstance(segmentation, dict):
            return unreadable
        size, counts = segmentation.get("size"), segmentation.get("counts")
        if not isinstance(size, list) or [type(side) for side in size] != [int, int]:
            return unreadable
        height, width = size
        if isinstance(counts, str):
            runs_R = uncompressed(counts)
        elif isinstance(counts, list) and all(type(count) is int for count in counts):
            runs_R = np.array(counts, dtype=np.float64)  # exact far beyond any image
        else:
            return unreadable
        if runs_R is None or (runs_R < 0).any() or runs_R.sum() != height * width:
            total = "cannot be read" if runs_R is None else f"cover {runs_R.sum():.0f} px"
            return BAD_RUNS, f"has run lengths that {total}, for {width} x {height} px"
        self.kinds.append(RLE)
        self.hashes.append(hash(counts if isinstance(counts, str) else tuple(counts)))
        self.sizes.extend((width, height))
        self._coordinates.extend(bounds_of_runs(runs_R.astype(np.int64), height))
        self._ends.append(len(self._coordinates))
        return None

    def _flush(self) -> None:
        if not self._mask_ends:
            return
        points_P2 = np.frombuffer(self._coordinates, dtype=np.float64).reshape(-1, 2)
        starts_G = np.array([0, *self._ends[:-1]]) // 2  # G polygons, or bounds of run lengths
        low_G2 = np.minimum.reduceat(points_P2, starts_G)
        high_G2 = np.maximum.reduceat(points_P2, starts_G)
        first_M = np.array([0, *self._mask_ends[:-1]])
        low_M2 = np.minimum.reduceat(low_G2, first_M)
        high_M2 = np.maximum.reduceat(high_G2, first_M)
        bounds_M4 = np.concatenate([low_M2, high_M2], axis=1)
        is_outline_G = np.diff(self._ends, prepend=0) > 4  # of run lengths there are bounds
        is_finite_M = np.isfinite(bounds_M4).all(1)
        bounds_M4[~is_finite_M & is_outline_G[first_M]] = np.inf
        with np.errstate(invalid="ignore", over="ignore"):
            longest_G = (high_G2 - low_G2).max(1)
            is_thin_G = ~(_areas(points_P2, starts_G) >= SURE_PX * longest_G) & is_outline_G
            is_thin_G &= np.abs([low_G2, high_G2]).max((0, 2)) <= _LARGEST_PX
        is_thin_M = np.logical_and.reduceat(is_thin_G, first_M) & is_finite_M
        ends_M = np.append(first_M[1:], len(starts_G))
        polygons = np.split(points_P2, starts_G[1:]) if is_thin_M.any() else []
        for m in np.flatnonzero(is_thin_M):
            if not any(map(_has_pixels, polygons[first_M[m] : ends_M[m]])):
                bounds_M4[m] = np.nan
        self._bounds.append(bounds_M4)
        self._wait()

    def masks(self) -> CocoMasks:
        """All of them."""
        self._flush()
        kind_A = np.array(self.kinds, dtype=np.int8)
        bounds_M4 = np.concatenate([np.zeros((0, 4)), *self._bounds])
        sizes_M2 = np.array(self.sizes, dtype=np.int64).reshape(-1, 2)
        hash_A = np.array(self.hashes, dtype=np.int64)
        return CocoMasks(kind_A, hash_A, bounds_M4, sizes_M2, self.faults.findings())


def _is_of_points(polygons: list, polygon: list) -> bool:
    """Whether points [x, y] stand where numbers belong, in a polygon or instead of polygons."""
    if polygon and all(isinstance(point, (list, tuple, dict)) for point in polygon):
        return True
    return len(polygons) > 2 and all(isinstance(p, list) and len(p) == 2 for p in polygons)


def _has_pixels(points_P2: np.ndarray) -> bool:
    """Whether an outline holds pixels, drawn as data sets and scores do, wherever it lies."""
    points_P2 = points_P2 - np.floor(points_P2.min(0).clip(max=0))  # rounds, so only where it must
    width, height = points_P2.max(0).astype(int) + 2
    return bool(coding.area(coding.frPyObjects([points_P2.ravel()], height, width)).any())


def _areas(points_P2: np.ndarray, starts_G: np.ndarray) -> np.ndarray:
    """(G,) area that each outline encloses, in square pixels (the shoelace formula)."""
    next_P = np.arange(1, len(points_P2) + 1)
    next_P[np.append(starts_G[1:], len(points_P2)) - 1] = starts_G  # each outline closes
    # From its first point on, so that no digits are lost far from the origin.
    counts_G = np.diff(np.append(starts_G, len(points_P2)))
    x_P, y_P = (points_P2 - np.repeat(points_P2[starts_G], counts_G, axis=0)).T
    return np.abs(np.add.reduceat(x_P * y_P[next_P] - x_P[next_P] * y_P, starts_G)) / 2


def uncompressed(text: str) -> np.ndarray | None:
    """(R,) run lengths of COCO's compressed form; None where the text is none.

    Five bits a character, the lowest first, 32 for 'goes on', 16 in the last one for a sign; from
    the fourth on each is the difference to the one before the last. Source: pycocotools 2.0,
    common/maskApi.c (rleFrString).

    Example:
        >>> uncompressed("48").tolist()
        [4.0, 8.0]
    """
    codes_B = np.frombuffer(text.encode("utf-8", "replace"), dtype=np.uint8).astype(np.int64) - 48
    is_last_B = (codes_B & 32) == 0
    if ((codes_B < 0) | (codes_B > 63)).any() or not len(codes_B) or not is_last_B[-1]:
        return None
    ends_R = np.flatnonzero(is_last_B)
    starts_R = np.concatenate([[0], ends_R[:-1] + 1])
    digit_B = np.arange(len(codes_B)) - np.repeat(starts_R, ends_R - starts_R + 1)
    if digit_B.max() > 8:
        return None
    values_R = np.add.reduceat((codes_B & 31) << (5 * digit_B), starts_R)
    is_negative_R = (codes_B[ends_R] & 16) > 0
    values_R = values_R - np.where(is_negative_R, 1 << (5 * (digit_B[ends_R] + 1)), 0)
    runs_R = values_R.astype(np.float64)
    for first in (1, 2):  # differences along odd and along even places
        runs_R[first::2] = np.cumsum(runs_R[first::2])
    return runs_R


def bounds_of_runs(runs_R: np.ndarray, height: int) -> tuple[float, ...]:
    """Lowest x and y, highest x and y in pixels of runs that begin outside; nan for empty ones."""
    ends_R = np.cumsum(runs_R)
    is_mask_R = (np.arange(len(runs_R)) % 2 == 1) & (runs_R > 0)
    if not is_mask_R.any():
        return (np.nan,) * 4
    first_R, last_R = (ends_R - runs_R)[is_mask_R], ends_R[is_mask_R] - 1
    wraps = (first_R // height != last_R // height).any()
    low = 0 if wraps else (first_R % height).min()
    high = height - 1 if wraps else (last_R % height).max()
    return float(first_R[0] // height), float(low), float(last_R[-1] // height + 1), float(high + 1)


def short(value: Any) -> str:
    """A value as messages show it."""
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:40]}..."
