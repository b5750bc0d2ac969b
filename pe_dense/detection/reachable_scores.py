"""What COCO scores can be at most where images hold more objects than detections may be given.

COCO counts the best 100 detections of each image and class, LVIS the best 300 of each image, and a
detector gives a fixed number of each image; objects beyond stay unfound whatever it has learnt.

Shape legend: A objects.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np


class Limits(NamedTuple):
    """How many detections count.

    Attributes:
        of_class: In one image and class; None for any number.
        of_image: In one image, over all classes; None for any number.
    """

    of_class: int | None = 100
    of_image: int | None = None


def limits_of(cfg: Mapping[str, Any]) -> Limits:
    """The limits of a config: of its metric, its queries (one box each) and its test settings."""
    model = cfg.get("model", {})
    test_cfg = model.get("test_cfg") or {}
    # Two-stage detectors say it below 'rcnn'.
    given = test_cfg.get("max_per_img", (test_cfg.get("rcnn") or {}).get("max_per_img"))
    is_lvis = (cfg.get("test_evaluator") or {}).get("type") == "LvisAP"
    of_class = [None if is_lvis else 100, model.get("num_queries")]
    of_image = [300 if is_lvis else None, given]
    return Limits(*(min(filter(None, both), default=None) for both in (of_class, of_image)))


def reachable_recall(image_A: np.ndarray, class_A: np.ndarray, limits: Limits) -> float:
    """The largest mean recall over classes (AR) that detections within the limits can have.

    Args:
        image_A: Image of every scored object, any integers.
        class_A: Its class.
        limits: How many detections count.

    Returns:
        1.0 where all objects can be found; classes without objects do not count.

    Example:
        >>> reachable_recall(np.zeros(4), np.array([0, 0, 0, 1]), Limits(of_class=2))
        0.8333333333333333
    """
    if not len(image_A):
        return 1.0
    pairs_P2, counts_P = np.unique(np.stack([image_A, class_A], 1), axis=0, return_counts=True)
    _, class_P = np.unique(pairs_P2[:, 1], return_inverse=True)
    totals_K = np.bincount(class_P, counts_P)
    # An object of a rare class raises the mean most, so an image's detections go there first.
    order = np.lexsort((totals_K[class_P], pairs_P2[:, 0]))
    images_P, class_P, counts_P = pairs_P2[order, 0], class_P[order], counts_P[order]
    if limits.of_class is not None:
        counts_P = np.minimum(counts_P, limits.of_class)
    if limits.of_image is not None:
        before_P = np.cumsum(counts_P) - counts_P
        before_P -= before_P[np.searchsorted(images_P, images_P)]
        counts_P = np.clip(limits.of_image - before_P, 0, counts_P)
    return float(np.mean(np.bincount(class_P, counts_P) / totals_K))


def reachable_ap(recall: float) -> float:
    """The largest AP, at 101 recall points, that a mean recall allows."""
    return min((100 * recall + 1) / 101, 1.0)
