"""Mean ranks over tasks: by hand, against scipy, and what their intervals hold."""

from __future__ import annotations

import numpy as np
import pytest
from evidence_case import values_evidence, video_object

from pe_dense.results.mean_rank import Task, largest_block, mean_ranks, places


def task(rng, means: dict[str, float], num: int = 100, noise: float = 0.3, higher=True) -> Task:
    hard = rng.normal(size=num)
    evidences = {
        n: [values_evidence(hard + m + rng.normal(0, noise, num))] for n, m in means.items()
    }
    return Task(evidences, "m", higher)


def exact(means: dict[str, float], higher: bool = True) -> Task:
    return Task({n: [values_evidence(np.full(40, m))] for n, m in means.items()}, "m", higher)


def test_mean_rank_by_hand():
    """a is 1st, 1st and shares 1st and 2nd; b is 2nd, 3rd and shares; c is 3rd, 2nd, 3rd."""
    tasks = {
        "depth": exact({"a": 0.1, "b": 0.2, "c": 0.3}, higher=False),
        "seg": exact({"a": 0.9, "b": 0.1, "c": 0.5}),
        "vos": exact({"a": 0.5, "b": 0.5, "c": 0.4}),
    }
    found = mean_ranks(tasks, resamples=50)
    assert found.protocols == ("depth", "seg", "vos") and found.left_out == {}
    ranks = {row.name: row.ranks for row in found.rows}
    assert ranks["a"] == {"depth": 1, "seg": 1, "vos": 1.5}
    assert ranks["b"] == {"depth": 2, "seg": 3, "vos": 1.5}
    assert [row.name for row in found.rows] == ["a", "b", "c"]
    means = [row.mean_rank for row in found.rows]
    assert means == pytest.approx([3.5 / 3, 6.5 / 3, 8 / 3])
    # Scores without any chance in them have ranks without any.
    assert all((row.low, row.high) == (row.mean_rank, row.mean_rank) for row in found.rows)


def test_places_are_those_of_scipy():
    stats = pytest.importorskip("scipy.stats")
    scores = np.random.default_rng(0).integers(0, 5, (7, 30)).astype(float)
    np.testing.assert_array_equal(places(scores), stats.rankdata(scores, axis=0))
    close = np.array([[0.3], [0.1 + 0.2], [0.5]])
    assert places(close)[:, 0].tolist() == [1.5, 1.5, 3.0]


def test_encoders_that_lack_a_task_are_named():
    rng = np.random.default_rng(0)
    tasks = {
        "depth": task(rng, {"a": 0, "b": 1, "c": 2}),
        "seg": task(rng, {"a": 0, "b": 1, "d": 9}),
    }
    found = mean_ranks(tasks, resamples=100)
    assert [row.name for row in found.rows] == ["b", "a"]
    assert found.left_out == {"c": ("seg",), "d": ("depth",)}
    # Nobody's rank depends on those who are not there.
    assert found.rows[0].ranks == {"depth": 1.0, "seg": 1.0}
    with pytest.raises(ValueError, match="1 of 2 encoders have all of depth, seg"):
        mean_ranks({"depth": exact({"a": 1}), "seg": exact({"a": 1, "b": 2})})
    with pytest.raises(ValueError, match="no protocol"):
        mean_ranks({})


def test_intervals_stay_within_the_places_and_say_what_they_rest_on():
    videos = Task({"a": [video_object(0)], "b": [video_object(1)]}, "J&F", True)
    found = mean_ranks({"vos": videos})
    assert {row.few_units for row in found.rows} == {True}
    assert {row.compares for row in found.rows} == {"checkpoints"}
    assert all(1 <= row.low <= row.mean_rank <= row.high <= 2 for row in found.rows)
    again = mean_ranks({"vos": videos})
    assert again == found
    rng = np.random.default_rng(0)
    several = task(rng, {"a": 0, "b": 3})
    seeds = {name: seeds * 2 for name, seeds in several.evidences.items()}
    known = mean_ranks({"seg": Task(seeds, "m", True)})
    assert {(row.compares, row.few_units) for row in known.rows} == {("encoders", False)}


def test_seeds_make_ranks_less_sure():
    rng = np.random.default_rng(1)
    hard = rng.normal(size=300)
    shifts = {"a": (0.4, -0.2), "b": (-0.3, 0.1), "c": (-0.9, -0.9)}

    def of(name, num):
        return [values_evidence(hard + rng.normal(0, 0.05, 300) + s) for s in shifts[name][:num]]

    one = mean_ranks({"seg": Task({name: of(name, 1) for name in shifts}, "m", True)})
    two = mean_ranks({"seg": Task({name: of(name, 2) for name in shifts}, "m", True)})
    assert [(row.low, row.high) for row in one.rows] == [(1, 1), (2, 2), (3, 3)]
    assert two.rows[0].high > 1


def test_what_intervals_hold():
    """Three tasks; b and c are equal, a is better, d worse: mean ranks 1, 2.5, 2.5 and 4."""
    truth = {"a": 1.0, "b": 2.5, "c": 2.5, "d": 4.0}
    held, trials = dict.fromkeys(truth, 0), 150
    for trial in range(trials):
        rng = np.random.default_rng(trial)
        means = {"a": 0.15, "b": 0.0, "c": 0.0, "d": -0.15}
        tasks = {f"t{n}": task(rng, means) for n in range(3)}
        for row in mean_ranks(tasks, resamples=200, seed=trial).rows:
            held[row.name] += row.low <= truth[row.name] <= row.high
    assert min(held.values()) / trials > 0.9


def test_largest_block():
    encoders_of = {
        "depth": {"a", "b", "c", "d"},
        "seg": {"a", "b", "c"},
        "vos": {"a", "b", "c", "e"},
        "mot": {"a", "e"},
    }
    assert largest_block(encoders_of) == (("depth", "seg", "vos"), ("a", "b", "c"))
    assert largest_block({"depth": {"a", "b"}}) == ((), ())
    assert largest_block({"depth": {"a", "b"}}, 1) == (("depth",), ("a", "b"))
    assert largest_block({}) == ((), ())
    assert largest_block({"depth": {"a"}, "seg": {"b"}}, 1) == ((), ())
