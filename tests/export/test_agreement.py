"""Differences of arrays, and of sets of detections in any order."""

import numpy as np
import pytest

from pe_dense.export.agreement import Detections, detection_difference, relative_difference


def detections(*rows, full=False):
    """Rows of (score, label, left); boxes are 0.2 wide."""
    scores = np.array([r[0] for r in rows], float)
    boxes = np.array([[r[2], 0.1, r[2] + 0.2, 0.4] for r in rows], float).reshape(-1, 4)
    labels = np.array([r[1] for r in rows], int)
    if not full and len(rows):  # a place that holds nothing: the list has not been cut
        scores, labels = np.append(scores, 0.0), np.append(labels, 0)
        boxes = np.append(boxes, np.zeros((1, 4)), 0)
    return Detections(boxes, scores, labels)


def test_the_range_is_what_differences_are_measured_by():
    expected = np.array([[-1.0, 3.0]])
    assert relative_difference(expected + 0.4, expected) == pytest.approx(0.1)
    assert relative_difference(np.full(3, 2.5), np.full(3, 2.0)) == pytest.approx(0.25)
    assert relative_difference(np.zeros((0, 2)), np.zeros((0, 2))) == 0.0


@pytest.mark.parametrize("found", [np.zeros(2), np.array([0.0, np.nan, 1.0]), np.full(3, np.inf)])
def test_other_shapes_and_numbers_that_are_none_are_infinitely_far(found):
    assert relative_difference(found, np.arange(3.0)) == np.inf


def test_the_order_of_detections_is_no_difference():
    first = detections((0.9, 1, 0.1), (0.8, 0, 0.3), (0.8, 1, 0.6))
    second = detections((0.9, 1, 0.1), (0.8, 1, 0.6), (0.8, 0, 0.3001))
    found = detection_difference(first, second, limit=1e-4)
    assert (found.compared, found.alone) == (3, 0)
    assert found.largest == pytest.approx(1e-4)


@pytest.mark.parametrize(
    "other", [(0.8, 1, 0.3), (0.8, 0, 0.6)], ids=["another class", "another place"]
)
def test_a_detection_without_a_partner_is_told_on_both_sides(other):
    found = detection_difference(
        detections((0.9, 1, 0.1), other), detections((0.9, 1, 0.1), (0.8, 0, 0.3)), limit=1e-4
    )
    assert (found.compared, found.alone) == (1, 2)


def test_none_is_matched_twice():
    twice = detections((0.9, 1, 0.1), (0.9, 1, 0.1))
    assert detection_difference(twice, detections((0.9, 1, 0.1)), 1e-4).alone == 1


def test_what_a_list_cut_off_may_be_missing_and_nothing_else():
    full = detections((0.9, 1, 0.1), (0.5, 0, 0.3), full=True)
    near = detections((0.9, 1, 0.1), (0.50005, 0, 0.7), full=True)
    assert detection_difference(near, full, limit=1e-4).alone == 0
    far = detections((0.9, 1, 0.1), (0.7, 0, 0.7), full=True)
    assert detection_difference(far, full, limit=1e-4).alone == 1
    assert detection_difference(detections((0.0501, 1, 0.1)), detections(), 1e-3).alone == 0


def test_no_detections_on_both_sides_agree():
    assert detection_difference(detections(), detections(), 1e-4) == (0.0, 0, 0)


def test_masks_are_compared():
    one = detections((0.9, 1, 0.1))
    masks = np.zeros((2, 3, 3))
    found = detection_difference(one._replace(masks=masks), one._replace(masks=masks + 0.25), 1e-4)
    assert found.largest == 0.25
    assert detection_difference(one._replace(masks=masks), one, 1e-4).largest == np.inf
