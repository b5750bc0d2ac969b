"""The intervals that records keep, against those of the statistics."""

from __future__ import annotations

import dataclasses

import evidence_case
import numpy as np
import pytest
from evidence_case import depth, tracking, values_evidence, video_object

from pe_dense.results.evidence import DepthEvidence
from pe_dense.results.evidence_file import evidence_bytes
from pe_dense.results.record import IntervalInfo, Selection
from pe_dense.results.record_intervals import (
    confidence_intervals,
    interval_info,
    rewrite_intervals,
    with_intervals,
)
from pe_dense.results.statistics import METHOD, interval, paired_difference
from pe_dense.results.store import load_records, rewrite_record, save_record


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
    assert (info.method, info.stretch, info.thin_classes) == (METHOD, gap.stretch, None)


# ---- records of an older method --------------------------------------------------------------


def old_record(make_record, evidence, scores, selection=None):
    """As records were before the stretch: percentiles as they are, and a second, finer unit."""
    plain = dict(low=0.0, high=0.3, num_units=6, resamples=1000)
    ci95 = {"J&F": [dict(plain, unit="video", **UNKNOWN), dict(plain, unit="object", **UNKNOWN)]}
    changes = {
        "task": "tracking", "protocol.metric": "J&F", "protocol.id": "davis",
        "scores": scores, "ci95": ci95, "selection": selection,
        "dataset.num_items": evidence.num_items, "dataset.sha256": None,
    }  # fmt: skip
    return make_record(changes)


UNKNOWN = {"method": None, "stretch": None, "thin_classes": None}


def test_intervals_of_old_records_are_made_again(make_record, tmp_path):
    evidence = video_object()
    old = old_record(make_record, evidence, evidence.metrics())
    save_record(old, tmp_path, evidence=evidence_bytes(evidence))
    other = make_record({"encoder.name": "without_evidence"})
    save_record(other, tmp_path)
    assert len(rewrite_intervals(tmp_path)) == 1
    records = {record.encoder.name: record for record in load_records(tmp_path)}
    assert records["without_evidence"] == other
    new = records[old.encoder.name]
    assert set(new.ci95) == {"J&F", "J", "F"}
    (one,) = new.ci95["J&F"]
    assert (one.unit, one.num_units, one.method) == ("video", 6, METHOD)
    assert one.stretch == pytest.approx(np.sqrt(6 / 5) * 2.570582 / 1.959964, rel=1e-5)
    rest = {"ci95": None, "evidence": None}
    assert dataclasses.replace(new, **rest) == dataclasses.replace(old, **rest)
    assert rewrite_intervals(tmp_path) == []  # once is enough


def test_gap_to_the_last_layer_is_stretched_once(make_record):
    evidence = video_object()
    plain = IntervalInfo(-0.1, 0.4, "video", 6, 1000)
    selection = Selection("holdout", "J&F", 12, {"layer": "7"}, 0.1, plain)
    old = old_record(make_record, evidence, evidence.metrics(), selection)
    new = with_intervals(old, evidence)
    gap, factor = new.selection.best_minus_last_ci95, np.sqrt(6 / 5) * 2.570582 / 1.959964
    assert gap.low == pytest.approx(0.1 - 0.2 * factor, rel=1e-5)
    assert gap.high == pytest.approx(0.1 + 0.3 * factor, rel=1e-5)
    assert (gap.method, gap.unit, gap.num_units) == (METHOD, "video", 6)
    assert with_intervals(new, evidence) == new


def test_a_forged_record_is_not_given_new_intervals(make_record, tmp_path):
    evidence = video_object()
    forged = old_record(make_record, evidence, evidence.metrics() | {"J&F": 0.99})
    path = save_record(forged, tmp_path, evidence=evidence_bytes(evidence))
    before = path.read_bytes()
    with pytest.raises(ValueError, match="evaluate again"):
        rewrite_intervals(tmp_path)
    assert path.read_bytes() == before


def test_a_record_that_was_replaced_meanwhile_is_not_rewritten(make_record, tmp_path):
    old = make_record()
    path = save_record(make_record({"scores.AP": 0.5}), tmp_path)
    before = path.read_bytes()
    with pytest.raises(ValueError, match="another process"):
        rewrite_record(old, dataclasses.replace(old, ci95=None, notes="derived"), tmp_path)
    assert path.read_bytes() == before


def test_rounding_is_no_reason_to_rewrite(make_record, tmp_path):
    evidence = video_object()
    record = with_intervals(old_record(make_record, evidence, evidence.metrics()), evidence)

    def moved(by: float):
        (one,) = record.ci95["J&F"]
        return record.ci95 | {"J&F": (dataclasses.replace(one, high=one.high + by),)}

    rounded = dataclasses.replace(record, ci95=moved(1e-14))
    path = save_record(rounded, tmp_path, evidence=evidence_bytes(evidence))
    assert rewrite_intervals(tmp_path) == []
    wrong = dataclasses.replace(record, ci95=moved(1e-6))
    save_record(wrong, tmp_path, supersede=True, evidence=evidence_bytes(evidence))
    assert rewrite_intervals(tmp_path) == [path]
    few = dataclasses.replace(record, ci95={"J": record.ci95["J"]})
    save_record(few, tmp_path, supersede=True, evidence=evidence_bytes(evidence))
    assert rewrite_intervals(tmp_path) == [path]
