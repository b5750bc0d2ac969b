"""The smallest difference that can be shown, against scipy and against how often it is found."""

from __future__ import annotations

import numpy as np
import pytest
from evidence_case import values_evidence, video_object

from pe_dense.results.power import detectable_difference, smallest_detectable_difference
from pe_dense.results.statistics import encoder_difference, interval, paired_difference


def test_by_hand_for_many_units():
    """1.96 + 0.8416 errors, and 1.96 + 1.2816 for nine of ten."""
    assert smallest_detectable_difference(0.02, 10**6) == pytest.approx(0.02 * 2.8016, rel=1e-4)
    nine = smallest_detectable_difference(0.02, 10**6, power=0.9)
    assert nine == pytest.approx(0.02 * 3.2415, rel=1e-4)
    assert smallest_detectable_difference(0.0, 30) == 0.0


def test_seeds_add_as_squares():
    alone = smallest_detectable_difference(0.0, 30, 0.01, 4)
    assert alone == pytest.approx(0.01 * (2.7764 + 0.9410), rel=1e-4)  # t of 4, from a table
    both = smallest_detectable_difference(0.03, 10**6, 0.04, 10**6)
    assert both == pytest.approx(0.05 * 2.8016, rel=1e-4)


@pytest.mark.parametrize("num", [8, 30, 200])
def test_power_of_student(num):
    """Against the noncentral t distribution, which is exact for a normal mean."""
    stats = pytest.importorskip("scipy.stats")
    difference = smallest_detectable_difference(1 / np.sqrt(num), num)
    limit = stats.t.isf(0.025, num - 1)
    found = stats.nct.sf(limit, num - 1, difference * np.sqrt(num))
    assert found == pytest.approx(0.8, abs=0.02)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((-1.0, 30), "errors are -1.0"),
        ((float("nan"), 30), "errors are nan"),
        ((0.1, 1), "1 units"),
        ((0.1, 30, 0.1), "degrees of freedom"),
        ((0.1, 30, 0.0, 0, 0.4), "power is 0.4"),
        ((0.1, 30, 0.0, 0, 0.8, 95), "level 95"),
    ],
)
def test_wrong_arguments(arguments, text):
    with pytest.raises(ValueError, match=text):
        smallest_detectable_difference(*arguments)


def test_of_records_by_their_paired_error():
    rng = np.random.default_rng(0)
    hard = rng.normal(size=400)
    a, b = (values_evidence(hard + rng.normal(0, 0.1, 400)) for _ in "ab")
    found = detectable_difference({"a": [a], "b": [b]}, "m")
    error = paired_difference(a, b, "m").standard_error
    assert found.difference == pytest.approx(error * 2.81, rel=0.01)
    assert (found.pairs, found.num_units, found.unit) == (1, 400, "image")
    assert found.compares == "checkpoints" and found.power == 0.8
    third = detectable_difference({"a": [a], "b": [b], "c": [b]}, "m")
    assert third.pairs == 3 and third.difference == pytest.approx(found.difference)  # the median


def test_of_one_encoder_as_if_another_had_nothing_in_common():
    evidence = video_object()
    found = detectable_difference({"a": [evidence]}, "J&F")
    error = interval(evidence, "J&F").standard_error * np.sqrt(6 / 5)
    assert found.difference == pytest.approx(np.sqrt(2) * error * (2.5706 + 0.9195), rel=1e-3)
    assert (found.pairs, found.num_units, found.unit) == (0, 6, "video")
    with pytest.raises(ValueError, match="no evidence"):
        detectable_difference({}, "J&F")


@pytest.mark.parametrize(("num", "seeds"), [(60, 1), (15, 1), (60, 3)])
def test_it_is_found_in_four_of_five_trials(num, seeds):
    rng, found, trials = np.random.default_rng(num + seeds), 0, 250
    seed_sd = 0.0 if seeds == 1 else 0.1
    error = np.sqrt(2 * (0.3**2 / num) / seeds)
    freedom = 2 * (seeds - 1)
    gap = smallest_detectable_difference(error, num, seed_sd * np.sqrt(2 / seeds), freedom)
    for trial in range(trials):
        hard = rng.normal(size=num)
        encoders = {
            name: [
                values_evidence(hard + level + rng.normal(0, 0.3, num) + rng.normal(0, seed_sd))
                for _ in range(seeds)
            ]
            for name, level in (("a", gap), ("b", 0.0))
        }
        compared = encoder_difference(encoders, "a", "b", "m", resamples=200, seed=trial)
        found += compared.p_value < 0.05 and compared.difference > 0
    assert 0.72 < found / trials < 0.88
