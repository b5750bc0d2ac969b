"""Where boxes lie on average: the few that stand for all of a training set.

Shape legend: N boxes, M clusters.
"""

from __future__ import annotations

import numpy as np

CLUSTERS = 4, 60  # fewest and most of a class; between them three for each box of an image
DETECTIONS = 100  # per image, as COCO counts them
MOST_BOXES = 20_000  # per class that are clustered


def mean_layout(
    boxes_N4: np.ndarray,
    labels_N: np.ndarray,
    num_classes: int,
    num_images: int,
    detections: int = DETECTIONS,
) -> np.ndarray:
    """The boxes that are predicted everywhere, (M, 6): cx, cy, w, h as shares, score, class.

    The boxes of each class are grouped by k-means from evenly spread beginnings, so that the same
    boxes give the same groups; a group's score is how many of its boxes an image has.

    Args:
        boxes_N4: Training boxes, cx, cy, w, h as shares of their images.
        labels_N: Their classes, 0 to num_classes - 1.
        num_classes: Number of classes.
        num_images: Training images.
        detections: Most that are kept, those of the highest score.
    """
    found = []
    for k in range(num_classes):
        mine_N4 = boxes_N4[labels_N == k]
        if not len(mine_N4):
            continue
        step = max(1, -(-len(mine_N4) // MOST_BOXES))
        most = min(max(-(-3 * len(mine_N4) // num_images), CLUSTERS[0]), CLUSTERS[1])
        centres_M4, counts_M = _k_means(mine_N4[::step], most)
        scores_M = counts_M * step / num_images
        label_M = np.full(len(centres_M4), float(k))
        found.append(np.column_stack([centres_M4, scores_M, label_M]))
    if not found:
        return np.zeros((0, 6))
    rows_M6 = np.concatenate(found)
    return rows_M6[np.argsort(-rows_M6[:, 4], kind="stable")][:detections]


def _k_means(points_N4: np.ndarray, most: int, rounds: int = 20) -> tuple[np.ndarray, np.ndarray]:
    """Centres (M, 4) and how many points each has, (M,)."""
    order = np.lexsort(points_N4.T)
    at = np.linspace(0, len(order) - 1, min(most, len(order))).round().astype(int)
    centres_M4 = np.unique(points_N4[order[at]], axis=0)
    for _ in range(rounds):
        squares_NM = ((points_N4[:, None] - centres_M4[None]) ** 2).sum(-1)
        nearest_N = squares_NM.argmin(axis=1)
        counts_M = np.bincount(nearest_N, minlength=len(centres_M4))
        sums_M4 = np.zeros_like(centres_M4)
        np.add.at(sums_M4, nearest_N, points_N4)
        kept = counts_M > 0
        moved_M4 = sums_M4[kept] / counts_M[kept, None]
        if moved_M4.shape == centres_M4.shape and np.allclose(moved_M4, centres_M4):
            break
        centres_M4 = moved_M4
    return moved_M4, counts_M[kept]
