"""Which detections of one image are right: the greedy matching of COCO at one IoU.

Shape legend: Q detections, G objects.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

CROWD = -2
NO_MATCH = -1


@dataclass(frozen=True)
class Matches:
    """Detections and objects of one image, paired.

    Attributes:
        object_Q: int, index of the object that each detection found; NO_MATCH for a false one;
            CROWD where it lies in a crowd and counts neither as right nor as wrong.
        is_found_G: bool, whether each object was found; of crowds always False.
        is_crowd_G: bool.
    """

    object_Q: np.ndarray
    is_found_G: np.ndarray
    is_crowd_G: np.ndarray

    @property
    def num_right(self) -> int:
        """Detections of an object."""
        return int((self.object_Q >= 0).sum())

    @property
    def num_wrong(self) -> int:
        """Detections of nothing, of another class, or of an object found already."""
        return int((self.object_Q == NO_MATCH).sum())

    @property
    def num_missed(self) -> int:
        """Objects that no detection found, crowds aside."""
        return int((~self.is_found_G & ~self.is_crowd_G).sum())

    @property
    def f1(self) -> float:
        """2 right / (2 right + wrong + missed), 0..1; 1 where nothing is there or detected."""
        mistakes = self.num_wrong + self.num_missed
        return 2 * self.num_right / (2 * self.num_right + mistakes) if mistakes else 1.0


def match_boxes(
    boxes_Q4: np.ndarray,
    scores_Q: np.ndarray,
    labels_Q: np.ndarray,
    object_boxes_G4: np.ndarray,
    object_labels_G: np.ndarray,
    is_crowd_G: np.ndarray | None = None,
    iou_threshold: float = 0.5,
) -> Matches:
    """Match detections to objects of the same class, the best score first.

    A detection takes the object of its class with the highest IoU among those not found yet,
    if that is at least the threshold; failing that, a crowd of its class, where the area of
    overlap counts relative to the detection alone.

    Args:
        boxes_Q4: Detections, x1, y1, x2, y2 in pixels.
        scores_Q: Their scores.
        labels_Q: Their classes.
        object_boxes_G4: Objects, x1, y1, x2, y2.
        object_labels_G: Their classes.
        is_crowd_G: Which of them are crowds; None for none.
        iou_threshold: Least overlap, 0..1.

    Source: pycocotools 2.0.11, COCOeval.evaluateImg, for one IoU and all sizes.
    """
    crowd_G = np.zeros(len(object_labels_G), bool) if is_crowd_G is None else is_crowd_G
    object_Q = np.full(len(labels_Q), NO_MATCH)
    is_found_G = np.zeros(len(object_labels_G), dtype=bool)
    iou_QG = overlaps(boxes_Q4, object_boxes_G4, crowd_G)
    threshold = min(iou_threshold, 1 - 1e-10)
    for q in np.argsort(-scores_Q, kind="stable"):
        is_possible_G = (object_labels_G == labels_Q[q]) & (iou_QG[q] >= threshold)
        free = np.flatnonzero(is_possible_G & ~crowd_G & ~is_found_G)
        if len(free):
            # Of equals the last one, as in pycocotools.
            best = free[len(free) - 1 - np.argmax(iou_QG[q, free][::-1])]
            object_Q[q], is_found_G[best] = best, True
        elif (is_possible_G & crowd_G).any():
            object_Q[q] = CROWD
    return Matches(object_Q, is_found_G, crowd_G)


def overlaps(boxes_Q4: np.ndarray, others_G4: np.ndarray, is_crowd_G: np.ndarray) -> np.ndarray:
    """(Q, G) IoU of x1, y1, x2, y2 boxes; with a crowd, the share of the first box in it."""
    low_QG2 = np.maximum(boxes_Q4[:, None, :2], others_G4[None, :, :2])
    high_QG2 = np.minimum(boxes_Q4[:, None, 2:], others_G4[None, :, 2:])
    common_QG = np.prod(np.clip(high_QG2 - low_QG2, 0, None), axis=-1)
    area_Q = np.prod(boxes_Q4[:, 2:] - boxes_Q4[:, :2], axis=-1)
    area_G = np.prod(others_G4[:, 2:] - others_G4[:, :2], axis=-1)
    union_QG = area_Q[:, None] + np.where(is_crowd_G, 0.0, area_G - common_QG)
    return common_QG / np.maximum(union_QG, 1e-12)
