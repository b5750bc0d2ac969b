"""What COCO scores can be at most where images hold more objects than detections may be given.

COCO counts the best 100 detections of each image and class, LVIS the best 300 of each image, and a
detector gives a fixed number of each image; objects beyond stay unfound whatever it has learnt.

Shape legend: A objects.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from pe_dense.data.checks.coco_file import read_coco_file, scored_objects
from pe_dense.data.checks.coco_split import CocoFacts, CocoSplit
from pe_dense.data.checks.remembered import Answer, remembered
from pe_dense.data.checks.rules import Fault, Finding, Rule

MORE_OBJECTS = Rule(
    "more-objects-than-detections",
    "sets with images of more objects than detections count, which bounds the scores",
    "cut such images into parts, or raise num_queries and test_cfg.max_per_img below COCO's 100",
    is_problem=False,
)


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


def limit_findings(split: CocoSplit, facts: CocoFacts, limits: Limits) -> list[Finding]:
    """The bound of AR and AP where some image of a scored split holds more than the limits."""
    of_class, of_image = (np.inf if limit is None else limit for limit in limits)
    if facts.most_of_class <= of_class and facts.most_objects <= of_image:
        return []
    question = {"reachable recall in": str(split.json_file), "limits": list(limits)}
    recall = remembered(split.root, question, functools.partial(_find_recall, split, limits))
    value = (
        f"has up to {facts.most_objects:,} objects in an image and {facts.most_of_class:,} of one "
        f"class, where {_words(limits)} count: AR is at most {recall:.3f}, AP at most "
        f"{reachable_ap(recall):.3f}"
    )
    return [Finding(MORE_OBJECTS, 1, (Fault(str(split.json_file), "", value),))]


def _find_recall(split: CocoSplit, limits: Limits) -> Answer:
    coco = read_coco_file(split.json_file, split.naming)
    return Answer(reachable_recall(*scored_objects(coco), limits), [split.json_file])


def _words(limits: Limits) -> str:
    parts = ((limits.of_image, "of an image"), (limits.of_class, "of an image and class"))
    return " and ".join(f"{limit} detections {of}" for limit, of in parts if limit is not None)
