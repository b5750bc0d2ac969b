"""How far two runs of one model are apart: relative to a range, or detection by detection.

Shape legend: Q detections.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

FLOOR = 0.05  # detections below this score are not compared: nobody draws them


def relative_difference(found: np.ndarray, expected: np.ndarray) -> float:
    """Largest absolute difference over the range (maximum - minimum) of what is expected.

    Infinite where shapes differ or a number is not finite; 0 for arrays without an element. Where
    all that is expected is one number, its size (or 1) stands for the range.

    Example:
        >>> relative_difference(np.array([0.0, 2.0]), np.array([0.0, 4.0]))
        0.5
    """
    if found.shape != expected.shape:
        return math.inf
    if not expected.size:
        return 0.0
    found, expected = found.astype(np.float64), expected.astype(np.float64)
    if not (np.isfinite(found).all() and np.isfinite(expected).all()):
        return math.inf
    span = float(expected.max() - expected.min()) or float(abs(expected.max())) or 1.0
    return float(np.abs(found - expected).max()) / span


class Detections(NamedTuple):
    """Of one picture, by falling score.

    Attributes:
        boxes: Corners relative to the picture, (Q, 4) x1 y1 x2 y2, 0..1.
        scores: (Q,) in 0..1; 0 for places that hold none.
        labels: (Q,) integers.
        masks: (Q, m, m) probabilities inside of the boxes, or None.
    """

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    masks: np.ndarray | None = None


class SetDifference(NamedTuple):
    """What `detection_difference` found.

    Attributes:
        largest: Of scores, corners and masks of partners, all in 0..1.
        compared: Detections that have a partner.
        alone: Detections of either side without one.
    """

    largest: float
    compared: int
    alone: int


def detection_difference(
    found: Detections, expected: Detections, limit: float, floor: float = FLOOR
) -> SetDifference:
    """Compares two sets of detections whatever their order.

    Each detection of one side wants a partner on the other: of its class, with score and corners
    nearest to its own. The order of equal scores is no difference. Neither is one at the end of a
    list, or at the floor, whose score is within `limit` of what cut it off: such a one may be
    missing on the other side.

    Args:
        found: One set.
        expected: The other.
        limit: Difference of score, corner or mask that is allowed.
        floor: Detections below this score are left out.
    """
    sides = [_above(found, floor), _above(expected, floor)]
    used = np.zeros(len(sides[1].scores), bool)
    largest, compared, alone = 0.0, 0, 0
    for place in range(len(sides[0].scores)):
        gaps = _gaps(sides[0], place, sides[1])
        gaps[used] = np.inf
        best = int(gaps.argmin()) if len(gaps) else -1
        if best >= 0 and gaps[best] < 0.1:
            used[best] = True
            compared += 1
            largest = max(largest, float(gaps[best]), _mask_gap(sides[0], place, sides[1], best))
        else:
            alone += not _was_cut(sides[0].scores[place], expected, floor, limit)
    left = np.flatnonzero(~used)
    alone += sum(not _was_cut(sides[1].scores[i], found, floor, limit) for i in left)
    return SetDifference(largest, compared, alone)


def _above(side: Detections, floor: float) -> Detections:
    keep = side.scores >= floor
    masks = None if side.masks is None else side.masks[keep]
    return Detections(side.boxes[keep], side.scores[keep], side.labels[keep], masks)


def _gaps(one: Detections, place: int, other: Detections) -> np.ndarray:
    """Largest difference of score and corners to each of the other side; infinite if unlike."""
    corners = np.abs(other.boxes - one.boxes[place]).max(1, initial=0.0)
    gaps = np.maximum(corners, np.abs(other.scores - one.scores[place]))
    return np.where(other.labels == one.labels[place], gaps, np.inf)


def _mask_gap(one: Detections, place: int, other: Detections, best: int) -> float:
    if one.masks is None or other.masks is None:
        return 0.0 if one.masks is other.masks else math.inf
    return float(np.abs(one.masks[place] - other.masks[best]).max(initial=0.0))


def _was_cut(score: float, other: Detections, floor: float, limit: float) -> bool:
    """Whether a detection may be missing on the other side, because a list ends there."""
    full = len(other.scores) and other.scores.min() > 0.0
    end = max(floor, float(other.scores.min())) if full else floor
    return bool(score <= end + limit)
