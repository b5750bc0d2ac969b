"""The intervals that records keep, against those of the statistics."""

from __future__ import annotations

import dataclasses

import evidence_case
import numpy as np
import pytest
from evidence_case import depth, tracking, values_evidence, video_object

from pe_dense.results.evidence import DepthEvidence
from pe_dense.results.record_intervals import confidence_intervals, interval_info
from pe_dense.results.statistics import interval, paired_difference


@pytest.mark.parametrize("kind", evidence_case.ALL)
def test_one_interval_for_each_score_over_the_right_unit(kind):
    evidence = evidence_case.ALL[kind]()
    scores = {name: value for name, value in evidence.metrics().items() if np.isfinite(value)}
    found = confidence_intervals(evidence, scores)
    assert set(found) <= set(scores) and evidence.metric_names[0] in found
    for name, (one,) in found.items():  # objects of a video are not drawn on their own
        drawn = interval(evidence, name)
        assert (one.unit, one.num_units) == (evidence.unit, drawn.num_units)
        assert one.low <= scores[name] <= one.high
        assert one.low >= drawn.low - 1e-12 and one.high <= drawn.high + 1e-12


def test_only_scores_that_the_record_has():
    assert list(confidence_intervals(depth(), {"rmse": 5.0, "other": 1.0})) == ["rmse"]
    assert confidence_intervals(depth(), {}) is None
    assert confidence_intervals(values_evidence(np.ones(1)), {"m": 1.0}) is None


def test_one_video_of_several_objects_has_no_interval():
    evidence = video_object()
    one = dataclasses.replace(evidence, video_ids=["v"] * evidence.num_items)
    assert confidence_intervals(one, one.metrics()) is None


def test_fractions_end_where_they_end():
    """Four units, one far from the others: stretched bounds leave 0 to 1, those kept do not."""
    values = np.array([[0.9, 1.0], [1.0, 0.0], [1.0, 0.05], [0.2, 0.0]])
    evidence = DepthEvidence(
        image_ids=list("abcd"), metric_names=("delta1", "delta2"), values_NM=values
    )
    found = confidence_intervals(evidence, evidence.metrics())
    drawn = interval(evidence, "delta1"), interval(evidence, "delta2")
    assert drawn[0].high > 1 and drawn[1].low < 0
    assert found["delta1"][0].high == 1.0 and found["delta2"][0].low == 0.0
    assert found["delta1"][0].low == pytest.approx(drawn[0].low)
    assert found["delta2"][0].high == 1.0


def test_signed_metrics_and_differences_may_be_negative():
    evidence = tracking()
    (kept,) = confidence_intervals(evidence, evidence.metrics())["MOTA"]
    assert kept.low == interval(evidence, "MOTA").low
    gap = paired_difference(values_evidence(np.zeros(9)), values_evidence(np.arange(9.0)), "m")
    info = interval_info(gap, "mIoU")
    assert (info.low, info.high) == (gap.low, gap.high) and info.low < -1
