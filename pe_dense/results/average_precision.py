"""COCO average precision of matched detections, for many image weightings at once.

Matching detections to ground truth is done once, before; here precision and recall are summed up
again for every weighting of the images. A weight is a multiplicity: 2 counts an image as if the
data set held it twice. Shape legend: D detections of one class, best score first, T = 10 IoU
thresholds, R weightings, J true positives, G ground-truth entries.

Source: written from the definition in pycocotools 2.0.11 `COCOeval.accumulate` (101 recall
points, precision envelope); the sums over true positives only are ours.
"""

from __future__ import annotations

import numpy as np

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALL_POINTS = np.linspace(0.0, 1.0, 101)
AREAS = ("all", "small", "medium", "large")


def average_precision(
    matched_DT: np.ndarray, ignored_DT: np.ndarray, weights_DR: np.ndarray, num_gt_R: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """AP and recall of one class in one range of object sizes.

    Interpolated precision at a recall point is the largest precision at any later true positive.
    So precision is needed at true positives only, and each of them counts as often as recall
    points are first reached there.

    Args:
        matched_DT: bool, the detection matches an object at that IoU; rows best score first.
        ignored_DT: bool, the detection counts neither as right nor as wrong at that IoU.
        weights_DR: int32, how often each detection counts: the weight of its image.
        num_gt_R: int64, number of objects to be found, weighted alike.

    Returns:
        (AP, recall), each (T, R) float64 in 0..1; nan where there is nothing to be found.

    Example:
        >>> right, ignored = np.array([[True], [False], [True]]), np.zeros((3, 1), bool)
        >>> ap, recall = average_precision(right, ignored, np.ones((3, 1), "i4"), np.array([4]))
        >>> round(ap.item(), 4), recall.item()  # 26 points at 1, 25 at 2/3, 50 never reached
        (0.4224, 0.5)
    """
    num_rows, num_thresholds = matched_DT.shape
    assert ignored_DT.shape == matched_DT.shape and len(weights_DR) == num_rows
    counted = ~ignored_DT.all(axis=1)
    if not counted.all():
        matched_DT, ignored_DT = matched_DT[counted], ignored_DT[counted]
        weights_DR = weights_DR[counted]
    right_DT = matched_DT & ~ignored_DT
    reached = _points_reached(num_gt_R)

    shape = num_thresholds, weights_DR.shape[1]
    ap_TR, recall_TR = np.zeros(shape), np.zeros(shape)
    seen_UR, place_D = _seen_before(right_DT.any(axis=1), weights_DR)
    for t in range(num_thresholds):
        right_J = np.flatnonzero(right_DT[:, t])
        if not len(right_J):
            continue
        right_JR = np.cumsum(weights_DR[right_J], axis=0, dtype=np.int32)
        seen_JR = seen_UR[place_D[right_J]]
        seen_JR -= _ignored_before(right_J, np.flatnonzero(ignored_DT[:, t]), weights_DR)
        ap_TR[t] = _interpolated(right_JR, seen_JR, reached)
        recall_TR[t] = right_JR[-1] / np.maximum(num_gt_R, 1)
    ap_TR[:, num_gt_R == 0] = np.nan
    recall_TR[:, num_gt_R == 0] = np.nan
    return ap_TR, recall_TR


def _seen_before(wanted_D: np.ndarray, weights_DR: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weight of all rows up to each wanted row (U, R), and the place in it of every wanted row."""
    place_D = np.cumsum(wanted_D) - 1
    wanted_U = np.flatnonzero(wanted_D)
    if not len(wanted_U):
        return np.zeros((0, weights_DR.shape[1]), np.int32), place_D
    # Segments end with a wanted row; what follows the last one is not needed.
    starts_U = np.concatenate([[0], wanted_U[:-1] + 1])
    sums_UR = np.add.reduceat(weights_DR[: wanted_U[-1] + 1], starts_U, axis=0)
    return np.cumsum(sums_UR, axis=0, dtype=np.int32, out=sums_UR), place_D


def _ignored_before(
    right_J: np.ndarray, ignored_I: np.ndarray, weights_DR: np.ndarray
) -> np.ndarray | int:
    """Weight of the ignored rows before each true positive, (J, R)."""
    if not len(ignored_I):
        return 0
    sums_IR = np.zeros((len(ignored_I) + 1, weights_DR.shape[1]), np.int32)
    np.cumsum(weights_DR[ignored_I], axis=0, out=sums_IR[1:])
    return sums_IR[np.searchsorted(ignored_I, right_J)]


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
    right_JR: np.ndarray, seen_JR: np.ndarray, reached: tuple[np.ndarray, np.ndarray]
) -> np.ndarray:
    """Mean of interpolated precision over the recall points, (R,)."""
    table, start_R = reached
    points_JR = table[right_JR + start_R]
    points_JR[1:] -= points_JR[:-1].copy()  # now: how many are first reached at each row
    # Where nothing has been seen yet, nothing was right either: 0 / 1.
    precision_JR = right_JR / np.maximum(seen_JR, 1)
    envelope_JR = np.maximum.accumulate(precision_JR[::-1], axis=0)[::-1]
    return np.einsum("jr,jr->r", envelope_JR, points_JR) / len(RECALL_POINTS)
