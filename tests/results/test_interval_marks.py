"""What an interval rests on: counted by hand."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from evidence_case import depth, detection, segmentation, tracking

from pe_dense.results.evidence import SegmentationEvidence
from pe_dense.results.interval_marks import images_per_class, marks_in_words, thin_classes
from pe_dense.results.statistics import interval, paired_difference


def counted() -> SegmentationEvidence:
    """12 images: sky on all, sea on 9, fog predicted on one and never annotated, sun nowhere."""
    target = np.zeros((12, 4), int)
    target[:, 0], target[:9, 1] = 50, 20
    prediction = target.copy()
    prediction[3, 2] = 7
    return SegmentationEvidence(
        image_ids=[f"i{n}" for n in range(12)],
        classes=("sky", "sea", "fog", "sun"),
        intersection_NK=target,
        prediction_NK=prediction,
        target_NK=target,
    )


def test_images_of_each_class_by_hand():
    evidence = counted()
    assert images_per_class(evidence) == {"sky": 12, "sea": 9, "fog": 0}
    assert images_per_class(evidence, "mAcc") == {"sky": 12, "sea": 9}
    assert images_per_class(evidence, "aAcc") == {}
    assert images_per_class(evidence, "IoU/sea") == {"sea": 9}
    assert [thin_classes(evidence, m) for m in ("mIoU", "mAcc", "IoU/sky", "aAcc")] == [
        2,
        1,
        0,
        None,
    ]


def test_images_of_each_class_of_a_detector():
    evidence = detection(num=12)  # one object of each class and image, none of them large
    assert images_per_class(evidence) == {"cat": 12, "dog": 12}
    assert images_per_class(evidence, "AP/dog") == {"dog": 12}
    assert images_per_class(evidence, "APl") == {}
    small = np.where(np.arange(24) < 7, 1, 0)  # the first 7 entries, all of cats
    counts = np.stack([np.ones(24, int), small, 1 - small, np.zeros(24, int)], axis=1)
    nothing = np.zeros_like(evidence.matched_DAT)
    evidence = dataclasses.replace(evidence, gt_count_GA=counts, matched_DAT=nothing)
    assert images_per_class(evidence, "APs") == {"cat": 7}
    assert (thin_classes(evidence, "APs"), thin_classes(evidence, "AP")) == (1, 0)


@pytest.mark.parametrize("evidence", [depth(), tracking()])
def test_no_classes_no_count(evidence):
    assert images_per_class(evidence) == {} and thin_classes(evidence) is None
    with pytest.raises(ValueError, match="'PQ' is unknown"):
        images_per_class(evidence, "PQ")


def test_results_carry_what_they_rest_on():
    evidence = counted()
    found = interval(evidence, "mIoU", resamples=50)
    assert found.few_units and found.thin_classes == 2
    assert interval(evidence, "aAcc", resamples=50).thin_classes is None
    assert paired_difference(evidence, segmentation_like(evidence), "mIoU").thin_classes == 2
    large = segmentation(num=40)
    assert not interval(large, "mIoU", resamples=50).few_units
    assert thin_classes(large, "IoU/class0") == 0


def segmentation_like(evidence: SegmentationEvidence) -> SegmentationEvidence:
    half = evidence.intersection_NK // 2
    return dataclasses.replace(evidence, intersection_NK=half)


def test_words():
    assert marks_in_words("video", 29, None) == ("fewer than 30 videos",)
    assert marks_in_words("video", 30, 0) == ()
    both = marks_in_words("image", 5, 1)
    assert both == ("fewer than 30 images", "1 class on fewer than 10 images")
    assert marks_in_words("unknown", None, None) == ()
