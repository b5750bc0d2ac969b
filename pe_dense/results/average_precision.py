"""COCO average precision of matched detections, for many image weightings at once.

Matching detections to ground truth is done once, before; here precision and recall are summed up
again for every weighting of the images. A weight is a multiplicity: 2 counts an image as if the
data set held it twice. Weightings come first in arrays, so that sums run along memory.

Shape legend: D detections of one class, best score first, T = 10 IoU thresholds, R
weightings, J true positives, G ground-truth entries.

Source: written from the definition in pycocotools 2.0.11 `COCOeval.accumulate` (101 recall
points, precision envelope); the sums over true positives only are ours.
"""

from __future__ import annotations

import numpy as np

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALL_POINTS = np.linspace(0.0, 1.0, 101)
AREAS = ("all", "small", "medium", "large")


def needed_rows(matched_DT: np.ndarray, ignored_DT: np.ndarray) -> np.ndarray:
    """Places of the rows that AP rests on, ascending: counted at some IoU, up to the last match.

    What comes after the last true positive of all IoU thresholds is in no precision.
    """
    right_D = (matched_DT & ~ignored_DT).any(axis=1)
    end = len(right_D) - int(np.argmax(right_D[::-1])) if right_D.any() else 0
    return np.flatnonzero(~ignored_DT[:end].all(axis=1))


def average_precision(
    matched_DT: np.ndarray, ignored_DT: np.ndarray, weights_RD: np.ndarray, num_gt_R: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """AP and recall of one class in one range of object sizes.

    Interpolated precision at a recall point is the largest precision at any later true positive.
    So precision is needed at true positives only, and each of them counts as often as recall
    points are first reached there.

    Args:
        matched_DT: bool, the detection matches an object at that IoU; rows best score first. Rows
            that `needed_rows` leaves out may be missing.
        ignored_DT: bool, the detection counts neither as right nor as wrong at that IoU.
        weights_RD: Integers, how often each detection counts: the weight of its image. Small types
            are faster; sums over all detections must stay below 2^31.
        num_gt_R: int64, number of objects to be found, weighted alike.

    Returns:
        (AP, recall), each (T, R) float64 in 0..1; nan where there is nothing to be found.

    Example:
        >>> right, ignored = np.array([[True], [False], [True]]), np.zeros((3, 1), bool)
        >>> ap, recall = average_precision(right, ignored, np.ones((1, 3), "u1"), np.array([4]))
        >>> round(ap.item(), 4), recall.item()  # 26 points at 1, 25 at 2/3, 50 never reached
        (0.4224, 0.5)
    """
    num_rows, num_thresholds = matched_DT.shape
    assert ignored_DT.shape == matched_DT.shape and weights_RD.shape[1] == num_rows
    right_DT = matched_DT & ~ignored_DT
    reached = _points_reached(num_gt_R)
    shape = num_thresholds, len(weights_RD)
    ap_TR, recall_TR = np.zeros(shape), np.zeros(shape)
    seen_RD = np.cumsum(weights_RD, axis=1, dtype=np.int32)
    for t in range(num_thresholds):
        right_J = np.flatnonzero(right_DT[:, t])
        if not len(right_J):
            continue
        right_RJ = np.cumsum(weights_RD.take(right_J, axis=1), axis=1, dtype=np.int32)
        seen_RJ = seen_RD.take(right_J, axis=1)
        seen_RJ -= _ignored_before(right_J, np.flatnonzero(ignored_DT[:, t]), weights_RD)
        ap_TR[t] = _interpolated(right_RJ, seen_RJ, reached)
        recall_TR[t] = right_RJ[:, -1] / np.maximum(num_gt_R, 1)
    ap_TR[:, num_gt_R == 0] = np.nan
    recall_TR[:, num_gt_R == 0] = np.nan
    return ap_TR, recall_TR


def _ignored_before(
    right_J: np.ndarray, ignored_I: np.ndarray, weights_RD: np.ndarray
) -> np.ndarray | int:
    """Weight of the ignored rows before each true positive, (R, J)."""
    if not len(ignored_I):
        return 0
    sums_RI = np.zeros((len(weights_RD), len(ignored_I) + 1), np.int32)
    np.cumsum(weights_RD.take(ignored_I, axis=1), axis=1, out=sums_RI[:, 1:])
    return sums_RI.take(np.searchsorted(ignored_I, right_J), axis=1)


def _points_reached(num_gt_R: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How many recall points are reached by n true positives, for every weighting.

    Returns:
        (table, start): flat uint8 table, and the place in it where n = 0 of each weighting is.
    """
    different_V, which_R = np.unique(num_gt_R, return_inverse=True)
    # The comparison is of the same two float64 numbers as in pycocotools: 35 of 100 do not reach
    # its recall point 0.35000000000000003.
    recalls = [np.arange(n + 1) / max(n, 1) for n in different_V]
    table = np.searchsorted(RECALL_POINTS, np.concatenate(recalls), side="right").astype(np.uint8)
    start_V = np.concatenate([[0], np.cumsum(different_V + 1)[:-1]])
    return table, start_V[which_R]


def _interpolated(
    right_RJ: np.ndarray, seen_RJ: np.ndarray, reached: tuple[np.ndarray, np.ndarray]
) -> np.ndarray:
    """Mean of interpolated precision over the recall points, (R,)."""
    table, start_R = reached
    points_RJ = table.take(right_RJ + start_R[:, None])
    points_RJ[:, 1:] -= points_RJ[:, :-1].copy()  # now: how many are first reached at each row
    # Where nothing has been seen yet, nothing was right either: 0 / 1.
    precision_RJ = right_RJ / np.maximum(seen_RJ, 1)
    envelope_RJ = np.maximum.accumulate(precision_RJ[:, ::-1], axis=1)[:, ::-1]
    return np.einsum("rj,rj->r", envelope_RJ, points_RJ) / len(RECALL_POINTS)
