"""Hashes of what was scored: one number, what differs, and no comparison over other data."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from pe_dense.results.comparison import compare_records, evidence_of, may_be_ranked, rank_records
from pe_dense.results.evidence import SegmentationEvidence
from pe_dense.results.evidence_file import evidence_bytes, load_content, load_evidence
from pe_dense.results.scored_content import ScoredContent
from pe_dense.results.store import load_records, save_record

ITEMS = {f"{i}.jpg": f"{i:032x}" for i in range(30)}
CONTENT = ScoredContent("a" * 64, ITEMS)


def evidence(right=50):
    rng = np.random.default_rng(right)
    right_NK = rng.integers(right - 5, right + 5, (30, 2))
    return SegmentationEvidence(
        image_ids=tuple(ITEMS),
        classes=("sky", "sea"),
        intersection_NK=right_NK,
        prediction_NK=right_NK + 10,
        target_NK=np.full((30, 2), 70),
    )


@pytest.fixture
def save(make_record, tmp_path):
    """Function: save a record of segmentation with content into tmp_path."""

    def build(encoder, content, right=50, **changes):
        found = evidence(right)
        record = make_record({
            "task": "segmentation", "protocol.id": "mini-segmentation", "protocol.metric": "mIoU",
            "encoder.name": encoder, "dataset.num_items": 30,
            "dataset.sha256": None if content is None else content.sha256,
            "scores": {"mIoU": found.metrics()["mIoU"]}, **changes,
        })  # fmt: skip
        save_record(record, tmp_path, evidence=evidence_bytes(found, content))

    return build


def changed(content=CONTENT, **changes):
    return dataclasses.replace(content, **changes)


def test_the_hash_is_over_all_and_in_no_order():
    turned = ScoredContent("a" * 64, dict(reversed(ITEMS.items())))
    others = [
        changed(labels=None),
        changed(labels="b" * 64),
        changed(items=ITEMS | {"0.jpg": "f" * 32}),
        changed(items=ITEMS | {"new.jpg": "f" * 32}),
        changed(items={k: v for k, v in ITEMS.items() if k != "0.jpg"}),
        # The same pictures under each other's names.
        changed(items=ITEMS | {"0.jpg": ITEMS["1.jpg"], "1.jpg": ITEMS["0.jpg"]}),
    ]
    assert turned.sha256 == CONTENT.sha256
    assert len({content.sha256 for content in [CONTENT, *others]}) == 1 + len(others)
    assert all(CONTENT.difference(other) for other in others)
    assert CONTENT.difference(turned) is None


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"labels": "b" * 64}, "annotation file is another"),
        ({"items": ITEMS | {"7.jpg": "f" * 32, "8.jpg": "f" * 32}}, "of 7.jpg and 1 more is"),
        ({"items": ITEMS | {"new.jpg": "f" * 32}}, "has 31 items, not 30"),
        (
            {"items": {("x" if k == "3.jpg" else k): v for k, v in ITEMS.items()}},
            "has no 3.jpg",
        ),
    ],
)
def test_what_differs_is_named(changes, words):
    assert words in CONTENT.difference(changed(**changes))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"labels": "a", "items": ITEMS}, "64 hex digits"),
        ({"labels": None, "items": {}}, "is empty"),
        ({"labels": None, "items": {"a": "f" * 31}}, "items.a"),
        ({"labels": None, "items": {"a": 7}}, "must be a text"),
    ],
)
def test_malformed_hashes_are_refused(values, words):
    with pytest.raises(ValueError, match=words):
        ScoredContent(**values)


def test_evidence_keeps_the_hashes(tmp_path):
    file = tmp_path / "e.npz"
    file.write_bytes(evidence_bytes(evidence(), CONTENT))
    assert load_content(file) == CONTENT
    assert load_evidence(file).metrics() == evidence().metrics()
    file.write_bytes(evidence_bytes(evidence()))
    assert load_content(file) is None


def test_damaged_hashes_are_named(tmp_path, monkeypatch):
    file = tmp_path / "e.npz"
    monkeypatch.setattr(ScoredContent, "to_json", lambda self: {"labels": 7, "items": {}})
    file.write_bytes(evidence_bytes(evidence(), CONTENT))
    with pytest.raises(ValueError, match="e.npz: damaged hashes"):
        load_content(file)


def test_a_record_with_another_hash_than_its_evidence_is_refused(save, tmp_path):
    save("a", CONTENT, **{"dataset.sha256": "b" * 64})
    (record,) = load_records(tmp_path)
    with pytest.raises(ValueError, match=r"hash of what was scored but its record says bbbbbb"):
        evidence_of(record, tmp_path)


def test_a_hash_without_any_in_the_evidence_is_refused(save, tmp_path):
    save("a", None, **{"dataset.sha256": "b" * 64})
    (record,) = load_records(tmp_path)
    with pytest.raises(ValueError, match="gives nothing as the hash"):
        evidence_of(record, tmp_path)


def test_comparison_over_other_data_is_refused_by_name(save, tmp_path):
    save("a", CONTENT)
    save("b", changed(items=ITEMS | {"7.jpg": "f" * 32}), right=40)
    first, second = load_records(tmp_path)
    with pytest.raises(ValueError, match=r"b/random/mini-.* than a/random/.*7\.jpg is another"):
        compare_records(first, second, tmp_path)


def test_a_ranking_over_other_data_is_refused_by_name(save, tmp_path):
    for encoder in "acd":
        save(encoder, CONTENT)
    save("b", changed(labels="b" * 64), right=40)
    with pytest.raises(ValueError, match=r"^b/random/.*annotation file is another"):
        rank_records(load_records(tmp_path), tmp_path)


def test_what_does_not_know_its_data_can_be_compared(save, tmp_path):
    save("a", CONTENT)
    save("b", None, right=40)
    assert len(compare_records(*load_records(tmp_path), tmp_path)) == 1


@pytest.mark.parametrize(
    ("changes", "may"),
    [
        ({}, True),
        ({"training": None}, True),
        ({"training.chosen": "nothing to train"}, True),
        ({"training.chosen": "best on held-out"}, False),
        ({"training.chosen": "best on the scored split"}, False),
        ({"training.chosen": "unfinished", "training.done": 3}, False),
        ({"training": None, "protocol.id": "a.unfinished-3-of-8-epochs"}, False),
        ({"training": None, "protocol.id": "a.chosen-on-the-scored-split"}, False),
        ({"training": None, "protocol.id": "a.mod-12345678"}, True),
    ],
)
def test_what_may_be_ranked(make_record, changes, may):
    assert may_be_ranked(make_record(changes)) is may


def test_unfinished_trainings_are_not_ranked_with_each_other(save, tmp_path):
    unfinished = {"training.chosen": "unfinished", "training.done": 3}
    for encoder, right in (("a", 50), ("b", 40)):
        save(encoder, CONTENT, right, **unfinished)
    assert rank_records(load_records(tmp_path), tmp_path) == {}


def test_the_content_is_plain_json():
    assert ScoredContent(**json.loads(json.dumps(CONTENT.to_json()))) == CONTENT
