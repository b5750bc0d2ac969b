"""What is taken for what: counts of true and predicted classes of maps and of boxes.

Shape legend: K classes, N pixels or boxes, D detections, G true boxes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Confusion:
    """Counts of pairs of classes.

    Attributes:
        rows: Names of the true classes.
        columns: Names of the predicted ones.
        counts_RC: Non-negative whole numbers, a row for each true class.
        unit: What is counted: 'pixels', 'boxes'.
        about: Over what, in words.
    """

    rows: Sequence[str]
    columns: Sequence[str]
    counts_RC: np.ndarray
    unit: str
    about: str


def of_labels(truth_N: np.ndarray, predicted_N: np.ndarray, num_classes: int) -> np.ndarray:
    """How often each true class was predicted as each class, (K, K) int64.

    Elements whose truth or prediction is no class (negative, or at least K) are left out.

    Example:
        >>> of_labels(np.array([0, 0, 1, 255]), np.array([0, 1, 1, 1]), 2).tolist()
        [[1, 1], [0, 1]]
    """
    truth_N, predicted_N = (np.asarray(x).ravel().astype(np.int64) for x in (truth_N, predicted_N))
    is_class_N = (truth_N >= 0) & (truth_N < num_classes)
    is_class_N &= (predicted_N >= 0) & (predicted_N < num_classes)
    pairs_N = truth_N[is_class_N] * num_classes + predicted_N[is_class_N]
    return np.bincount(pairs_N, minlength=num_classes**2).reshape(num_classes, num_classes)


def of_boxes(
    truth_G4: np.ndarray,
    truth_G: np.ndarray,
    detected_D4: np.ndarray,
    detected_D: np.ndarray,
    scores_D: np.ndarray,
    num_classes: int,
    iou: float = 0.5,
) -> np.ndarray:
    """What each true box was detected as, whatever its class, (K + 1, K + 1) int64.

    Detections choose in the order of their scores the true box that they overlap most, if that is
    by at least `iou` and free. Last column: not found; last row: nothing is there.

    Args:
        truth_G4: x1, y1, x2, y2 in pixels.
        truth_G: Classes, 0-based.
        detected_D4: As `truth_G4`.
        detected_D: Classes.
        scores_D: 0..1.
        num_classes: K.
        iou: Least overlap, 0..1.

    Example:
        >>> box = np.array([[0.0, 0, 2, 2]])
        >>> of_boxes(box, np.array([0]), box, np.array([1]), np.array([0.9]), 2).tolist()
        [[0, 1, 0], [0, 0, 0], [0, 0, 0]]
    """
    counts = np.zeros((num_classes + 1, num_classes + 1), dtype=np.int64)
    overlap_DG = _ious(np.asarray(detected_D4, float), np.asarray(truth_G4, float))
    free_G = np.ones(len(truth_G), dtype=bool)
    for d in np.argsort(-np.asarray(scores_D), kind="stable"):
        row = num_classes
        if free_G.any():
            best = int(np.where(free_G, overlap_DG[d], -1.0).argmax())
            if overlap_DG[d, best] >= iou:
                free_G[best], row = False, int(truth_G[best])
        counts[row, int(detected_D[d])] += 1
    for label in np.asarray(truth_G)[free_G]:
        counts[int(label), num_classes] += 1
    return counts


def _ious(a_D4: np.ndarray, b_G4: np.ndarray) -> np.ndarray:
    """Overlap of all pairs of boxes, (D, G), 0..1."""
    a_D14, b_1G4 = a_D4.reshape(-1, 1, 4), b_G4.reshape(1, -1, 4)
    low, high = (
        np.maximum(a_D14[..., :2], b_1G4[..., :2]),
        np.minimum(a_D14[..., 2:], b_1G4[..., 2:]),
    )
    shared_DG = np.clip(high - low, 0, None).prod(-1)
    areas = (np.clip(x[..., 2:] - x[..., :2], 0, None).prod(-1) for x in (a_D14, b_1G4))
    union_DG = sum(areas) - shared_DG
    return np.divide(shared_DG, union_DG, out=np.zeros_like(shared_DG), where=union_DG > 0)
