"""Spread between seeds: by hand, against scipy, and what intervals of encoders hold."""

from __future__ import annotations

import math

import numpy as np
import pytest
from evidence_case import depth, values_evidence

from pe_dense.results.seeds import (
    SeedVariance,
    item_part,
    seed_component,
    seed_variance,
)
from pe_dense.results.statistics import (
    combined_interval,
    combined_intervals,
    encoder_difference,
    interval,
    paired_difference,
)


def trained(rng, num, counts, seed_sd=0.3, gaps=(0.0,) * 9) -> dict:
    """Encoders of equal mean 2, plus a gap, with a level of its own for every seed."""
    hard = rng.normal(2, 1, num)
    return {
        f"e{e}": [values_evidence(hard + gaps[e] + rng.normal(0, seed_sd)) for _ in range(count)]
        for e, count in enumerate(counts)
    }


# ---- the spread ------------------------------------------------------------------------------


def test_seed_component_by_hand():
    found = seed_component([0.1, 0.2, 0.6])
    assert (found.mean, found.low, found.high, found.n) == (pytest.approx(0.3), 0.1, 0.6, 3)
    assert found.sd == pytest.approx(math.sqrt((0.04 + 0.01 + 0.09) / 2))
    assert found.standard_error == pytest.approx(found.sd / math.sqrt(3))
    one = seed_component([0.4])
    assert one.mean == 0.4 and math.isnan(one.sd) and math.isnan(one.standard_error)
    for bad in ([], [0.1, math.nan]):
        with pytest.raises(ValueError, match="one finite number per seed"):
            seed_component(bad)


def test_pooled_variance_by_hand():
    """(0.02 + 0.02) / 3; the lone seed gives no degree of freedom."""
    found = seed_variance([[0.5, 0.7], [0.1, 0.2, 0.3], [0.9]])
    assert found.total == found.variance == pytest.approx(0.04 / 3)
    assert (found.degrees_of_freedom, found.is_known) == (3, True)
    assert found.of_mean(2) == pytest.approx(0.02 / 3)
    # Items explain 0.003 of the first and 0.006 of the second: (0.003 + 2 * 0.006) / 3.
    less = seed_variance([[0.5, 0.7], [0.1, 0.2, 0.3], [0.9]], [0.003, 0.006, 0.0])
    assert less.variance == pytest.approx(0.04 / 3 - 0.005) and less.total == found.total
    assert seed_variance([[0.5, 0.7]], [1.0]).variance == 0.0


def test_nothing_is_known_of_single_seeds():
    found = seed_variance([[0.5], [0.7]])
    assert not found.is_known and math.isnan(found.variance) and found.of_mean(1) == 0.0
    assert seed_variance([]).degrees_of_freedom == 0


def test_pooled_variance_is_the_mean_square_within_groups():
    stats = pytest.importorskip("scipy.stats")
    groups = [np.random.default_rng(n).normal(n, 1, size) for n, size in enumerate((3, 5, 4))]
    found = seed_variance([group.tolist() for group in groups])
    means = np.array([group.mean() for group in groups])
    sizes = np.array([len(group) for group in groups])
    between = (sizes * (means - np.concatenate(groups).mean()) ** 2).sum() / 2
    assert between / found.total == pytest.approx(stats.f_oneway(*groups).statistic)


def test_what_seeds_do_to_items_is_seen_by_resamples_of_them():
    rng = np.random.default_rng(0)
    drawn_R = rng.normal(size=4000)  # in common: no difference between seeds
    own_SR = rng.normal(0, 0.5, (3, 4000))
    assert item_part(drawn_R + own_SR, 50) == pytest.approx(0.25 * 50 / 49, rel=0.05)
    assert item_part(np.stack([drawn_R, drawn_R]), 50) == pytest.approx(0, abs=1e-15)
    assert item_part(drawn_R[None], 50) == 0.0


# ---- intervals of encoders -------------------------------------------------------------------


def test_combined_interval_tells_items_from_seeds():
    rng = np.random.default_rng(0)
    items = rng.normal(0, 1.0, 400)
    shifts = np.array([-0.2, 0.0, 0.1, 0.1])
    seeds = [values_evidence(items + shift) for shift in shifts]
    found = combined_interval(seeds, "m")
    assert found.mean == pytest.approx(items.mean())
    assert found.item_standard_error == pytest.approx(items.std() / 20, rel=0.08)
    assert found.seed_standard_error == pytest.approx(shifts.std(ddof=1) / 2)
    total = math.hypot(found.item_standard_error, found.seed_standard_error)
    assert found.standard_error == pytest.approx(total)
    assert (found.num_seeds, found.compares) == (4, "encoders")
    half = math.hypot(1.966 * found.item_standard_error, 3.1824 * found.seed_standard_error)
    assert found.high - found.low == pytest.approx(2 * half, rel=0.05)
    assert found.seed_freedom == 3


def test_combined_interval_of_one_seed_is_the_interval():
    evidence = depth(num=50)
    found, plain = combined_interval([evidence], "rmse"), interval(evidence, "rmse")
    assert (found.low, found.high) == (plain.low, plain.high)
    assert found.standard_error == found.item_standard_error == plain.standard_error
    assert math.isnan(found.seed_standard_error) and found.num_seeds == 1
    assert found.compares == "checkpoints"
    twice = combined_interval([evidence, evidence], "rmse")
    assert twice.seed_standard_error == 0 and (twice.low, twice.high) == (plain.low, plain.high)
    for nothing in ({}, {"a": []}):
        with pytest.raises(ValueError, match="no evidence"):
            combined_intervals(nothing, "rmse")


def test_seeds_that_differ_only_do_on_any_items():
    """Items that are all alike: the interval is that of the mean of three seeds."""
    stats = pytest.importorskip("scipy.stats")
    values = [0.1, 0.2, 0.6]
    found = combined_interval([values_evidence(np.full(40, value)) for value in values], "m")
    exact = stats.t.interval(0.95, 2, np.mean(values), stats.sem(values))
    assert (found.low, found.high) == pytest.approx(exact)


def test_an_encoder_of_one_seed_borrows_the_spread_of_the_others():
    encoders = trained(np.random.default_rng(3), 80, (1, 3, 4))
    found = combined_intervals(encoders, "m")
    scores = [[one.metrics()["m"] for one in seeds] for seeds in encoders.values()]
    squares = sum(np.var(group) * len(group) for group in scores)
    assert found["e0"].seed_standard_error == pytest.approx(math.sqrt(squares / 5))
    assert found["e1"].seed_standard_error == pytest.approx(math.sqrt(squares / 5 / 3))
    assert {one.compares for one in found.values()} == {"encoders"}
    alone = combined_interval(encoders["e1"], "m")
    assert alone.seed_standard_error != found["e1"].seed_standard_error


def test_what_seeds_do_to_items_does_not_count_twice():
    """Seeds without a level of their own: their mean is a mean over items, no more."""
    rng = np.random.default_rng(4)
    hard, widths = rng.normal(size=300), []
    for _ in range(30):
        seeds = [values_evidence(hard + rng.normal(0, 1, 300)) for _ in range(4)]
        widths.append(combined_interval(seeds, "m", resamples=200).standard_error)
    of_items = math.sqrt((hard.var() + 1 / 4) / 300)
    assert np.mean(widths) == pytest.approx(of_items, rel=0.1)  # counted twice: 1.2 times this


@pytest.mark.parametrize(("counts", "num"), [((3,), 50), ((2,), 50), ((1, 3, 3), 50), ((3, 3), 12)])
def test_coverage_for_other_items_and_seeds(counts, num):
    rng, held = np.random.default_rng(1), 0
    for trial in range(300):
        found = combined_intervals(trained(rng, num, counts), "m", resamples=300, seed=trial)["e0"]
        held += found.low <= 2.0 <= found.high
    assert held / 300 > 0.92  # items alone hold it in 0.86 and less


# ---- two encoders ----------------------------------------------------------------------------


def test_difference_of_single_checkpoints_is_the_paired_one():
    a, b = depth(0, 40), depth(1, 40)
    found = encoder_difference({"a": [a], "b": [b]}, "a", "b", "rmse")
    assert found == paired_difference(a, b, "rmse") and found.compares == "checkpoints"
    back = encoder_difference({"a": [a], "b": [b]}, "b", "a", "rmse")
    assert back.difference == -found.difference
    with pytest.raises(ValueError, match="'c'; it is there of a, b"):
        encoder_difference({"a": [a], "b": [b]}, "a", "c", "rmse")


def test_difference_of_encoders_is_that_of_two_samples():
    """Items that cancel: what is left is Student's two-sample test over the seeds."""
    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(5)
    encoders = trained(rng, 60, (4, 3), gaps=(0.5, 0.0))
    found = encoder_difference(encoders, "e0", "e1", "m")
    scores = [[one.metrics()["m"] for one in seeds] for seeds in encoders.values()]
    exact = stats.ttest_ind(*scores)
    assert found.p_value == pytest.approx(exact.pvalue, rel=1e-3)
    limits = exact.confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((limits.low, limits.high), rel=1e-6)
    assert found.seed_freedom == 5
    assert found.seed_standard_error == pytest.approx(found.standard_error)
    assert (found.p_value < 0.05) is not (found.low <= 0 <= found.high)
    assert found.compares == "encoders" and math.isnan(found.stretch)


def test_spread_of_third_encoders_counts():
    rng = np.random.default_rng(6)
    encoders = trained(rng, 60, (1, 1, 4, 4), seed_sd=0.2)
    two = {name: encoders[name] for name in ("e0", "e1")}
    alone = encoder_difference(two, "e0", "e1", "m")
    among = encoder_difference(encoders, "e0", "e1", "m")
    assert alone.difference == among.difference
    assert (alone.compares, among.compares) == ("checkpoints", "encoders")
    assert among.standard_error > 0.1 > alone.standard_error
    assert alone.p_value < 0.05 < among.p_value


def test_values_that_records_show():
    assert SeedVariance(0.04, 0.05, 4).of_mean(4) == pytest.approx(0.01)
