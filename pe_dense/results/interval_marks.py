"""What makes an interval less sure than its level says: few units, and classes on few images.

The bootstrap knows of other test sets only what this one shows. With few units it knows little,
and a class that rests on a handful of images is drawn away in many resamples, or stands or falls
with one of them. Such intervals are published with a mark; how much they miss is measured by
benchmarks/experiments/interval_coverage.py and told in docs/intervals.md.

Shape legend: N images, K classes, G pairs of image and class with objects.
"""

from __future__ import annotations

import numpy as np

from pe_dense.results.average_precision import AREAS
from pe_dense.results.detection_evidence import DetectionEvidence
from pe_dense.results.evidence import SegmentationEvidence
from pe_dense.results.item_evidence import ItemEvidence

FEW_UNITS = 30
FEW_IMAGES = 10
_AREA_OF = {"APs": "small", "APm": "medium", "APl": "large"}


def images_per_class(evidence: ItemEvidence, metric: str | None = None) -> dict[str, int]:
    """Number of images that the score of each class rests on.

    An image counts if the class is annotated on it: has pixels there, or objects of the sizes that
    the metric is about. Classes that the metric does not score are left out: those that are
    nowhere in the data, and for mIoU nowhere in the predictions either; one that is predicted but
    never annotated has IoU 0, from 0 images.

    Args:
        evidence: Any kind.
        metric: A metric of the evidence; default: its main one.

    Returns:
        Class -> images, in the order of the classes. Empty for a metric that does not score
        classes, as those of depth and tracking, and 'aAcc', which counts pixels whatever they are.

    Raises:
        ValueError: If the metric is unknown to the evidence.
    """
    metric = evidence.metric_names[0] if metric is None else metric
    if metric not in evidence.metric_names:
        raise ValueError(f"metric '{metric}' is unknown to this {evidence.kind} evidence")
    if isinstance(evidence, SegmentationEvidence):
        if metric == "aAcc":
            return {}
        images_K = (evidence.target_NK > 0).sum(axis=0)
        scored_K = images_K > 0
        if metric != "mAcc":
            scored_K = scored_K | (evidence.prediction_NK > 0).any(axis=0)
    elif isinstance(evidence, DetectionEvidence):
        there_G = evidence.gt_count_GA[:, AREAS.index(_AREA_OF.get(metric, "all"))] > 0
        images_K = np.bincount(evidence.gt_class_G[there_G], minlength=len(evidence.classes))
        scored_K = images_K > 0
    else:
        return {}
    only = metric.split("/", 1)[1] if "/" in metric else None
    return {
        name: int(images)
        for name, images, scored in zip(evidence.classes, images_K, scored_K, strict=True)
        if scored and only in (None, name)
    }


def thin_classes(evidence: ItemEvidence, metric: str | None = None) -> int | None:
    """How many of the classes that a metric scores rest on fewer than 10 images.

    None for a metric that does not score classes. Arguments and errors are those of
    `images_per_class`.
    """
    images = images_per_class(evidence, metric)
    return sum(count < FEW_IMAGES for count in images.values()) if images else None


def marks_in_words(unit: str, num_units: int | None, thin: int | None) -> tuple[str, ...]:
    """Why an interval may be too narrow, for a page; none where nothing is known against it.

    Args:
        unit: What was resampled, as an interval says it.
        num_units: How many there are; None where a record does not know.
        thin: Number of classes on fewer than 10 images; None where there are none to count.

    Example:
        >>> marks_in_words("video", 4, None)
        ('fewer than 30 videos',)
        >>> marks_in_words("image", 100, 3)
        ('3 classes on fewer than 10 images',)
        >>> marks_in_words("image", 100, 0)
        ()
    """
    marks = []
    if num_units is not None and num_units < FEW_UNITS:
        marks.append(f"fewer than {FEW_UNITS} {unit}s")
    if thin:
        marks.append(f"{thin} class{'' if thin == 1 else 'es'} on fewer than {FEW_IMAGES} images")
    return tuple(marks)
