"""Groups of encoders: clear cases by hand, and how often equal ones are told apart."""

from __future__ import annotations

import numpy as np
import pytest
from evidence_case import values_evidence

from pe_dense.results.rank_groups import Rank, rank_groups
from pe_dense.results.statistics import paired_difference


def encoders(means: dict[str, float], num: int = 100, noise: float = 0.1, seed: int = 0) -> dict:
    rng = np.random.default_rng(seed)
    hard = rng.normal(size=num)
    return {name: values_evidence(hard + rng.normal(m, noise, num)) for name, m in means.items()}


def groups(ranks: list[Rank]) -> dict[str, int]:
    return {rank.name: rank.group for rank in ranks}


def test_clear_groups():
    given = encoders({"c": 1.0, "a": 3.0, "d": 1.0, "b": 3.0, "e": 0.0})
    ranks = rank_groups(given, "m", higher_is_better=True)
    assert groups(ranks) == {"a": 1, "b": 1, "c": 2, "d": 2, "e": 3}
    assert [rank.group for rank in ranks] == [1, 1, 2, 2, 3]
    assert ranks[0].p_adjusted == 1.0 and ranks[1].p_adjusted > 0.05
    assert all(rank.p_adjusted == 1 / 1001 for rank in ranks[2:])
    assert all(rank.score == given[rank.name].metrics()["m"] for rank in ranks)
    assert all(rank.num_seeds == 1 and not rank.few_units for rank in ranks)
    assert rank_groups(encoders({"a": 0.0}, num=19), "m", True)[0].few_units
    lower = rank_groups(given, "m", higher_is_better=False)
    assert groups(lower) == {"e": 1, "c": 2, "d": 2, "a": 3, "b": 3}


def test_same_seed_same_ranks_in_any_order():
    given = encoders({"a": 0.02, "b": 0.0, "c": 0.01, "d": -0.03})
    ranks = rank_groups(given, "m", True, seed=4)
    assert rank_groups(given, "m", True, seed=4) == ranks
    assert rank_groups(dict(reversed(given.items())), "m", True, seed=4) == ranks


def test_equal_encoders_and_a_single_one():
    one = encoders({"a": 0.0})["a"]
    assert rank_groups({"a": one}, "m", True) == [
        Rank("a", one.metrics()["m"], 1, 1.0, 1, False, "checkpoints")
    ]
    ranks = rank_groups({"b": one, "a": one}, "m", True)
    assert [rank.name for rank in ranks] == ["a", "b"]
    assert {(rank.group, rank.p_adjusted) for rank in ranks} == {(1, 1.0)}


def test_constant_gap_is_certain():
    one = encoders({"a": 0.0})["a"]
    better = values_evidence(one.values_NM[:, 0] + 0.01)
    ranks = rank_groups({"a": one, "b": better}, "m", True)
    assert groups(ranks) == {"b": 1, "a": 2}


def test_two_encoders_agree_with_the_paired_comparison():
    given = encoders({"a": 0.02, "b": 0.0}, seed=5)
    pair = paired_difference(given["a"], given["b"], "m")
    last = rank_groups(given, "m", True)[-1]
    assert last.p_adjusted == pytest.approx(pair.p_value, abs=0.015)  # tails apart or together


@pytest.mark.parametrize("num", [12, 60])
def test_equal_encoders_are_rarely_told_apart(num):
    wrong = 0
    for trial in range(200):
        given = encoders(dict.fromkeys("abcdef", 0.0), num=num, seed=trial)
        ranks = rank_groups(given, "m", True, resamples=200, seed=trial)
        wrong += ranks[-1].group > 1
    # 0.05 is wanted; each pair on its own gave 0.4, and 12 units without their t 0.2.
    assert wrong / 200 < 0.09


def trained(rng, counts, gaps, num: int = 200, seed_sd: float = 0.1) -> dict:
    """Encoders of several seeds; every seed has a level of its own."""
    hard = rng.normal(size=num)
    return {
        name: [
            values_evidence(hard + rng.normal(gap, 0.05, num) + rng.normal(0, seed_sd))
            for _ in range(count)
        ]
        for name, count, gap in zip("abcdef", counts, gaps, strict=False)
    }


def test_seeds_widen_the_comparison():
    rng = np.random.default_rng(0)
    hard = rng.normal(size=200)
    shifts = {"a": (0.3, -0.2, 0.05), "b": (-0.3, 0.2, 0.0)}

    def seeds(name):
        return [values_evidence(hard + rng.normal(0, 0.05, 200) + s) for s in shifts[name]]

    given = {name: seeds(name) for name in shifts}
    together = rank_groups(given, "m", True)
    assert groups(together) == {"a": 1, "b": 1} and together[0].num_seeds == 3
    assert rank_groups(dict(reversed(given.items())), "m", True) == together
    assert {rank.compares for rank in together} == {"encoders"}
    first = rank_groups({name: found[0] for name, found in given.items()}, "m", True)
    assert groups(first) == {"a": 1, "b": 2}  # one lucky seed
    assert {rank.compares for rank in first} == {"checkpoints"}


@pytest.mark.parametrize("counts", [(2,) * 6, (3,) * 6, (1, 3, 3, 3, 3, 3), (3, 3)])
def test_equal_encoders_of_unequal_seeds_are_rarely_told_apart(counts):
    rng, wrong = np.random.default_rng(1), 0
    for trial in range(150):
        given = trained(rng, counts, [0.0] * 6)
        wrong += rank_groups(given, "m", True, resamples=200, seed=trial)[-1].group > 1
    assert wrong / 150 < 0.10


def test_three_seeds_find_a_gap_of_six_seed_sds():
    rng, found = np.random.default_rng(2), 0
    for trial in range(40):
        given = trained(rng, (3,) * 6, [-0.6, 0, 0, 0, 0, 0])
        ranks = rank_groups(given, "m", True, resamples=200, seed=trial)
        found += groups(ranks)["a"] > 1
    assert found / 40 > 0.9  # 0.22 while every encoder had only its own two degrees of freedom


def test_wrong_arguments():
    given = encoders({"a": 0.0, "b": 0.0})
    for nothing in ({}, {"a": []}):
        with pytest.raises(ValueError, match="nothing to rank"):
            rank_groups(nothing, "m", True)
    with pytest.raises(ValueError, match="'x' is unknown"):
        rank_groups(given, "x", True)
    with pytest.raises(ValueError, match="level is 95"):
        rank_groups(given, "m", True, level=95)
    with pytest.raises(ValueError, match="only one of the two"):
        rank_groups({**given, "c": values_evidence(np.zeros(3))}, "m", True)
    empty = values_evidence(np.full(100, np.nan))
    with pytest.raises(ValueError, match="of 'c' is undefined"):
        rank_groups({**given, "c": empty}, "m", True)
