"""Statistics: closed forms, slow obvious loops, and how often intervals hold the truth."""

from __future__ import annotations

import dataclasses
import math

import evidence_case
import numpy as np
import pytest
from evidence_case import (
    depth,
    repeat_items,
    segmentation,
    tracking,
    values_evidence,
    video_object,
)

from pe_dense.results.bootstrap import Draws, bootstrap_weights, stretch
from pe_dense.results.evidence import VideoObjectEvidence
from pe_dense.results.statistics import (
    interval,
    intervals,
    paired_difference,
)

# Quantiles of Student's t from a printed table, by degrees of freedom.
T_975 = {3: 3.182446, 5: 2.570582, 6: 2.446912, 11: 2.200985, 29: 2.045230}


def clustered(values_UV: np.ndarray) -> VideoObjectEvidence:
    """J and F of V objects in each of U videos."""
    num_videos, num_objects = values_UV.shape
    return VideoObjectEvidence(
        video_ids=np.repeat([f"v{n:03d}" for n in range(num_videos)], num_objects),
        object_ids=[str(n) for n in range(values_UV.size)],
        j_N=values_UV.ravel(),
        f_N=values_UV.ravel(),
    )


# ---- draws ----------------------------------------------------------------------------------


def test_weights_are_draws_of_whole_units():
    index = np.array([2, 0, 0, 1, 2, 2, 3])
    weights = bootstrap_weights(index, 5000, seed=3)
    assert weights.shape == (5000, 7) and weights.dtype == np.uint8
    units = weights[:, [1, 3, 0, 6]].astype(int)
    assert (units.sum(axis=1) == 4).all()
    np.testing.assert_array_equal(units[:, index], weights)
    # Multinomial: mean 1, variance 1 - 1 / U, covariance -1 / U.
    np.testing.assert_allclose(units.mean(axis=0), 1, atol=0.05)
    np.testing.assert_allclose(np.cov(units.T), np.eye(4) - 0.25, atol=0.05)


def test_weights_follow_the_seed_only():
    index = np.arange(50)
    np.testing.assert_array_equal(bootstrap_weights(index, 9, 1), bootstrap_weights(index, 9, 1))
    assert (bootstrap_weights(index, 9, 1) != bootstrap_weights(index, 9, 2)).any()


def test_weights_need_units_and_resamples():
    with pytest.raises(ValueError, match="one unit"):
        bootstrap_weights(np.zeros(3, int), 10, 0)
    with pytest.raises(ValueError, match="resamples is 0"):
        bootstrap_weights(np.arange(3), 0, 0)


# ---- intervals ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [name for name in evidence_case.ALL if name != "detection"])
def test_equal_to_a_loop_that_repeats_items(kind):
    evidence = evidence_case.ALL[kind]()
    metric = evidence.metric_names[0]
    found = interval(evidence, metric, resamples=60, seed=5)
    scores = []
    for weights_N in bootstrap_weights(evidence.units[evidence.unit], 60, 5):
        scores.append(repeat_items(evidence, weights_N).metrics()[metric])
    score, units = evidence.metrics()[metric], len(set(evidence.unit_labels[evidence.unit]))
    low, high = np.percentile(scores, [2.5, 97.5]) - np.mean(scores)
    factor = np.sqrt(units / (units - 1)) * T_975[units - 1] / 1.959964
    assert found.low == pytest.approx(score + factor * low, rel=1e-5)
    assert found.high == pytest.approx(score + factor * high, rel=1e-5)
    assert found.stretch == pytest.approx(factor, rel=1e-5)
    assert found.standard_error == pytest.approx(np.std(scores, ddof=1), abs=1e-12)
    assert (found.unit, found.num_items) == (evidence.unit, evidence.num_items)
    assert (found.resamples, found.undefined) == (60, 0)


def test_standard_error_of_a_mean():
    values = np.random.default_rng(0).normal(size=300)
    found = interval(values_evidence(values), "m", resamples=5000)
    assert found.standard_error == pytest.approx(values.std() / np.sqrt(300), rel=0.04)
    assert found.low == pytest.approx(values.mean() - 1.96 * found.standard_error, abs=0.01)
    assert found.high == pytest.approx(values.mean() + 1.96 * found.standard_error, abs=0.01)
    assert found.method == "centred percentile bootstrap, stretched to t" and not found.few_units
    narrow = interval(values_evidence(values), "m", level=0.5)
    assert narrow.high - narrow.low == pytest.approx(2 * 0.674 * found.standard_error, rel=0.1)


def test_standard_error_of_clusters():
    """Values = video + object effect: SE^2 = (var_video + var_object / V) / U."""
    rng = np.random.default_rng(1)
    values_UV = 0.5 + 0.1 * rng.normal(size=(80, 1)) + 0.05 * rng.normal(size=(80, 4))
    evidence = clustered(np.clip(values_UV, 0, 1))
    by_video = interval(evidence, "J&F", resamples=5000)
    assert (by_video.unit, by_video.num_units, by_video.num_items) == ("video", 80, 320)
    exact = values_UV.mean(axis=1).std() / np.sqrt(80)  # of the sample
    assert by_video.standard_error == pytest.approx(exact, rel=0.04)
    theory = np.sqrt((0.1**2 + 0.05**2 / 4) / 80)  # of the population
    assert by_video.standard_error == pytest.approx(theory, rel=0.2)
    by_object = interval(evidence, "J&F", resamples=5000, unit="object")
    assert by_object.standard_error == pytest.approx(values_UV.std() / np.sqrt(320), rel=0.04)
    assert by_object.standard_error < 0.6 * by_video.standard_error


def test_standard_error_of_unequal_clusters():
    """The mean over objects is a ratio; its linearised error over clusters is known."""
    rng = np.random.default_rng(2)
    sizes = rng.integers(1, 8, 120)
    video = np.repeat(np.arange(120), sizes)
    j = np.clip(0.5 + 0.15 * rng.normal(size=120)[video] + 0.05 * rng.normal(size=len(video)), 0, 1)
    evidence = VideoObjectEvidence(
        video_ids=[f"v{v:03d}" for v in video],
        object_ids=[str(n) for n in range(len(video))],
        j_N=j,
        f_N=j,
    )
    gaps = np.bincount(video, j - j.mean())
    expected = np.sqrt((gaps**2).sum()) / len(video)
    found = interval(evidence, "J", resamples=5000).standard_error
    assert found == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize("num", [4, 12, 40])
def test_coverage_of_the_truth(num):
    """Without the stretch 0.78 of 4 units, 0.90 of 12 and 0.94 of 40 are expected."""
    rng = np.random.default_rng(0)
    held = 0
    for trial in range(400):
        values = rng.normal(3.0, 2.0, num)
        found = interval(values_evidence(values), "m", resamples=300, seed=trial)
        held += found.low <= 3.0 <= found.high
    assert 0.92 < held / 400 < 0.98  # the standard error of the share is 0.012


@pytest.mark.parametrize("num", [30, 200])
def test_mean_of_many_units_has_the_interval_of_student(num):
    stats = pytest.importorskip("scipy.stats")
    values = np.random.default_rng(num).normal(size=num)
    found = interval(values_evidence(values), "m", resamples=20_000)
    exact = stats.t.interval(0.95, num - 1, values.mean(), stats.sem(values))
    half = (exact[1] - exact[0]) / 2
    assert (found.low, found.high) == pytest.approx(exact, abs=0.04 * half)


def test_an_interval_never_leaves_its_score_out():
    """1 % of the draws are far off, so that both quantiles lie below the mean of all."""
    draws = Draws(depth(num=40), resamples=1000, seed=0, unit=None, level=0.95)
    drawn_R = np.r_[np.zeros(990), np.full(10, 100.0)]
    low, high = draws.bounds(drawn_R, 7.0)
    assert low < 7.0 == high
    assert 0.01 < draws.p_value(drawn_R, -7.0, 1e-12) < 0.05  # and so is 0, seen from below


def test_stretch_by_hand():
    assert stretch(4, 0.025) == pytest.approx(np.sqrt(4 / 3) * 3.182446 / 1.959964)
    assert stretch(30, 0.025) == pytest.approx(np.sqrt(30 / 29) * 2.045230 / 1.959964)
    assert stretch(100_000, 0.025) == pytest.approx(1, abs=1e-4)


def test_intervals_share_draws_and_leave_out_what_is_undefined():
    evidence = segmentation()
    found = intervals(evidence, resamples=200)
    assert np.isnan(evidence.metrics()["IoU/class4"])  # nowhere in the data
    assert set(found) == set(evidence.metric_names) - {"IoU/class4"}
    for name, one in found.items():
        assert one == interval(evidence, name, resamples=200)
    named = intervals(evidence, ["aAcc", "mIoU"], resamples=200)
    assert list(named) == ["aAcc", "mIoU"] and named["mIoU"] == found["mIoU"]
    with pytest.raises(ValueError, match="'IoU/class4' is undefined"):
        intervals(evidence, ["IoU/class4"])
    with pytest.raises(ValueError, match="'IoU/class4' is undefined"):
        interval(evidence, "IoU/class4")


def test_resamples_without_the_metric_are_counted():
    values = np.full((12, 2), 1.0)
    values[2:, 1] = np.nan  # two of twelve images: (10 / 12)^12 = 0.11 of the draws have none
    evidence = dataclasses.replace(depth(), values_NM=values)
    found = interval(evidence, "abs_rel", resamples=2000)
    assert found.undefined / 2000 == pytest.approx((10 / 12) ** 12, abs=0.03)
    assert found.low == found.high == 1.0
    values[1, 1] = np.nan
    values[0, 1] = 1.0
    evidence = dataclasses.replace(depth(num=12), values_NM=values)
    assert interval(evidence, "abs_rel").undefined > 300


def test_few_units_are_marked():
    assert interval(tracking(), "HOTA").few_units
    assert interval(tracking(), "HOTA").num_units == 7
    assert interval(depth(num=29), "rmse").few_units
    assert not interval(depth(num=30), "rmse").few_units
    assert interval(depth(num=30, per_sequence=5), "rmse").few_units
    assert not interval(depth(num=30, per_sequence=5), "rmse", unit="image").few_units


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"metric": "PQ"}, "'PQ' is unknown.*rmse, abs_rel"),
        ({"unit": "video"}, "unit 'video' is unknown.*image, sequence"),
        ({"level": 95}, "level is 95"),
        ({"resamples": 0}, "resamples is 0"),
    ],
)
def test_wrong_arguments(arguments, text):
    evidence = depth(per_sequence=4)
    with pytest.raises(ValueError, match=text) as error:
        interval(evidence, **{"metric": "rmse", **arguments})
    assert "\n" not in str(error.value)


def test_one_unit_has_no_interval():
    with pytest.raises(ValueError, match="one sequence only"):
        interval(depth(num=4, per_sequence=4), "rmse")
    with pytest.raises(ValueError, match="one image only"):
        interval(depth(num=1), "rmse")


# ---- pairs ----------------------------------------------------------------------------------


def test_pairs_cancel_what_is_common():
    rng = np.random.default_rng(0)
    hard = rng.normal(0, 1.0, 200)
    a, b = (values_evidence(hard + rng.normal(m, 0.1, 200)) for m in (5.05, 5.0))
    found = paired_difference(a, b, "m")
    gaps = (a.values_NM - b.values_NM)[:, 0]
    assert found.difference == pytest.approx(gaps.mean())
    assert found.standard_error == pytest.approx(gaps.std() / np.sqrt(200), rel=0.08)
    assert found.low > 0 and found.p_value < 0.01
    assert found.standard_error < 0.2 * interval(a, "m").standard_error
    back = paired_difference(b, a, "m")
    assert back.difference == -found.difference
    assert back.p_value == pytest.approx(found.p_value, abs=1e-6)
    assert (back.low, back.high) == pytest.approx((-found.high, -found.low))


def test_p_value_by_a_loop():
    a, b = video_object(0), video_object(3)
    found = paired_difference(a, b, "J", resamples=80, seed=2)
    gaps = []
    for weights_N in bootstrap_weights(a.units["video"], 80, 2):
        one, other = repeat_items(a, weights_N), repeat_items(b, weights_N)
        gaps.append(one.metrics()["J"] - other.metrics()["J"])
    noise = np.array(gaps) - np.mean(gaps)
    factor = np.sqrt(6 / 5) * T_975[5] / 1.959964
    low = factor * np.percentile(noise, 2.5) + found.difference
    assert found.low == pytest.approx(low, rel=1e-5)
    # The p-value is where intervals of other levels begin to hold 0.
    for level, inside in ((0.99 - found.p_value, False), (1.01 - found.p_value, True)):
        at = paired_difference(a, b, "J", resamples=80, seed=2, level=level)
        assert (at.low <= 0 <= at.high) is inside
    assert found.unit == "video" and found.num_units == 6 and found.few_units


@pytest.mark.parametrize("num", [4, 7, 30, 120])
def test_interval_leaves_0_out_exactly_if_p_is_below_5_percent(num):
    rng = np.random.default_rng(num)
    seen = set()
    for trial in range(60):
        # Skewed, so that the two sides differ.
        a = values_evidence(rng.exponential(size=num) + rng.normal(0.8, 0.8) / math.sqrt(num))
        b = values_evidence(rng.exponential(size=num))
        found = paired_difference(a, b, "m", resamples=200, seed=trial)
        assert (found.p_value < 0.05) is not (found.low <= 0 <= found.high)
        back = paired_difference(b, a, "m", resamples=200, seed=trial)
        assert back.p_value == pytest.approx(found.p_value, abs=1e-6)
        seen.add(found.p_value < 0.05)
    assert seen == {True, False}


@pytest.mark.parametrize("kind", evidence_case.ALL)
def test_equal_evidence_has_no_difference(kind):
    evidence = evidence_case.ALL[kind]()
    found = paired_difference(evidence, evidence, evidence.metric_names[0], resamples=50)
    assert (found.difference, found.low, found.high, found.p_value) == (0, 0, 0, 1)


def test_constant_difference_is_certain():
    values = np.random.default_rng(0).normal(size=30)
    found = paired_difference(values_evidence(values + 0.5), values_evidence(values), "m")
    assert found.difference == pytest.approx(0.5) and found.standard_error < 1e-12
    assert found.p_value == 2 / 1001


@pytest.mark.parametrize(
    "kind",
    [
        "segmentation", "depth_sequences", "video_object", "tracking", "classification",
        "retrieval",
    ],
)  # fmt: skip
def test_order_of_items_does_not_matter(kind):
    a, b = evidence_case.ALL[kind](seed=0), evidence_case.ALL[kind](seed=1)
    order = np.random.default_rng(0).permutation(b.num_items)
    changes = {}
    for field in dataclasses.fields(b):
        value = getattr(b, field.name)
        if isinstance(value, np.ndarray):
            changes[field.name] = value[order]
        elif field.name.endswith("_ids") and value is not None:
            changes[field.name] = [value[n] for n in order]
    shuffled = dataclasses.replace(b, **changes)
    assert shuffled.item_ids != b.item_ids
    metric = a.metric_names[0]
    one, other = paired_difference(a, b, metric), paired_difference(a, shuffled, metric)
    for name, value in dataclasses.asdict(one).items():
        assert getattr(other, name) == pytest.approx(value, abs=1e-12), name
    again = paired_difference(b, shuffled, metric)  # differs by rounding only
    assert again.p_value == 1.0 and abs(again.high) < 1e-12


def test_p_values_under_no_difference():
    rng = np.random.default_rng(3)
    p_values = [
        paired_difference(*(values_evidence(rng.normal(size=60)) for _ in "ab"), "m", 200).p_value
        for _ in range(300)
    ]
    assert 0.02 < np.mean(np.array(p_values) <= 0.05) < 0.10
    assert 0.4 < np.mean(p_values) < 0.6


def test_only_the_same_items_can_be_paired():
    a = depth(num=12)
    with pytest.raises(ValueError, match="3 items .* frame0012, frame0013, frame0014"):
        paired_difference(a, depth(num=15), "rmse")
    with pytest.raises(ValueError, match="'depth' and 'segmentation'"):
        paired_difference(a, segmentation(), "rmse")
    with pytest.raises(ValueError, match="other sequences"):
        paired_difference(depth(num=12, per_sequence=3), depth(num=12, per_sequence=4), "rmse")
    with pytest.raises(ValueError, match="other sequences"):
        paired_difference(depth(num=12, per_sequence=3), a, "rmse")
