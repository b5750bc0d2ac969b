"""A store of several encoders, seeds and protocols: differences, power lines, one list of all."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from evidence_case import depth

from pe_dense.results.across_tables import detectable_differences, mean_ranks_of_records
from pe_dense.results.comparison import compare_encoders, compare_records, ranked_rows
from pe_dense.results.evidence_file import evidence_bytes
from pe_dense.results.leaderboard import format_difference
from pe_dense.results.power import detectable_difference
from pe_dense.results.statistics import encoder_difference
from pe_dense.results.store import load_records, save_record


@pytest.fixture
def store(make_record, tmp_path):
    """Function: writes a record of an encoder, protocol and seed, with evidence; the folder."""

    def save(encoder, protocol="nyu-linear", seed=0, level=0.0, version=1, **changes):
        evidence = depth(seed=hash_of(encoder, protocol), num=60)
        values = evidence.values_NM + level + 0.03 * np.random.default_rng(seed).normal()
        evidence = dataclasses.replace(evidence, values_NM=values)
        record = make_record({
            "task": "depth", "protocol.id": protocol, "protocol.version": version,
            "protocol.metric": "rmse", "protocol.higher_is_better": False,
            "encoder.name": encoder, "seed": seed, "scores": evidence.metrics(),
            "dataset.num_items": 60, "dataset.sha256": None, **changes,
        })  # fmt: skip
        save_record(record, tmp_path, evidence=evidence_bytes(evidence))
        return tmp_path

    return save


def hash_of(*words: str) -> int:
    return sum(map(ord, "".join(words)))


def test_rows_that_may_be_ranked(store):
    store("a", seed=0)
    store("a", seed=1)
    root = store("b", protocol="sun-linear")
    unfinished = {"training.chosen": "unfinished", "training.done": 3}
    store("c", **unfinished)
    found = {one.protocol.id: one for one in ranked_rows(load_records(root), root)}
    assert set(found) == {"nyu-linear", "sun-linear"}
    assert list(found["nyu-linear"].evidences) == ["a/random"]
    assert len(found["nyu-linear"].evidences["a/random"]) == 2


def test_encoders_are_compared_over_all_their_seeds(store):
    for seed in (0, 1, 2):
        store("a", seed=seed)
        root = store("b", seed=seed + 7, level=0.5)
    store("c", seed=0)
    records = load_records(root)
    a, b = (next(r for r in records if r.encoder.name == name) for name in "ab")
    (found,) = compare_encoders(a, b, records, root)
    (one,) = ranked_rows(records, root)
    assert found.paired == encoder_difference(one.evidences, "a/random", "b/random", "rmse")
    assert found.paired.compares == "encoders" and found.paired.seed_freedom == 4
    assert found.first - found.second == pytest.approx(found.paired.difference)
    assert "checkpoints" not in format_difference(found)
    (single,) = compare_records(a, b, root)
    assert single.paired.compares == "checkpoints"
    assert format_difference(single).endswith("compares checkpoints, not encoders")


def test_comparing_encoders_that_cannot_be(store):
    root = store("a")
    store("b", **{"training.chosen": "unfinished", "training.done": 3})
    store("a", protocol="sun-linear")
    first, other, unfinished = load_records(root)
    with pytest.raises(ValueError, match="b/random has no record of nyu-linear-v1"):
        compare_encoders(first, unfinished, load_records(root), root)
    with pytest.raises(ValueError, match="different protocols"):
        compare_encoders(first, other, load_records(root), root)


def test_few_units_are_said_in_words(store, make_record, tmp_path):
    values = depth(num=12)
    for name in "ab":
        record = make_record({
            "task": "depth", "protocol.id": "small", "protocol.metric": "rmse",
            "protocol.higher_is_better": False, "encoder.name": name,
            "scores": values.metrics(), "dataset.num_items": 12,
            "dataset.sha256": None,
        })  # fmt: skip
        save_record(record, tmp_path, evidence=evidence_bytes(values))
    (found,) = compare_records(*load_records(tmp_path), tmp_path)
    assert "fewer than 30 images" in format_difference(found)


def test_power_lines(store):
    store("a")
    store("b")
    root = store("a", protocol="sun-linear")
    found = detectable_differences(load_records(root), root)
    assert {key: one.pairs for key, one in found.items()} == {
        ("nyu-linear", 1): 1,
        ("sun-linear", 1): 0,
    }
    rows = {one.protocol.id: one for one in ranked_rows(load_records(root), root)}
    again = detectable_difference(rows["nyu-linear"].evidences, "rmse")
    assert found["nyu-linear", 1] == again
    assert detectable_differences([], root) == {}


def test_one_list_over_protocols(store):
    for protocol in ("kitti-linear", "nyu-linear", "sun-linear"):
        store("a", protocol=protocol, level=-1.0)
        root = store("b", protocol=protocol)
    store("c", protocol="nyu-linear", level=1.0)
    found = mean_ranks_of_records(load_records(root), root)
    assert found.protocols == ("kitti-linear-v1", "nyu-linear-v1", "sun-linear-v1")
    assert [(row.name, row.mean_rank) for row in found.rows] == [("a/random", 1), ("b/random", 2)]
    assert found.left_out == {"c/random": ("kitti-linear-v1", "sun-linear-v1")}
    named = mean_ranks_of_records(load_records(root), root, [("nyu-linear", 1)])
    assert [row.name for row in named.rows] == ["a/random", "b/random", "c/random"]
    with pytest.raises(ValueError, match="no record of mot-v2"):
        mean_ranks_of_records(load_records(root), root, [("mot", 2)])


def test_no_list_without_shared_protocols(store):
    store("a")
    root = store("b")
    assert mean_ranks_of_records(load_records(root), root) is None
    assert mean_ranks_of_records(load_records(root), root, least_protocols=1) is not None
    assert mean_ranks_of_records([], root) is None


def test_only_the_newest_version_of_a_protocol_counts(store):
    for name in "ab":
        store(name, version=1)
        store(name, version=2)
        root = store(name, protocol="sun-linear")
    found = mean_ranks_of_records(load_records(root), root)
    assert found.protocols == ("nyu-linear-v2", "sun-linear-v1")
