"""What a record says of itself, alone in its store, against the list of protocols."""

from __future__ import annotations

import functools
from datetime import datetime

import evidence_case
import pytest
from forgery_case import rewrite, save

from pe_dense.results.checked_store import check_store

NOW = datetime(2026, 2, 1)
NOTHING = {"chosen": "nothing to train", "unit": None, "done": None, "planned": None, "rule": ""}
LAYERS = {
    "metric": "AP", "candidates": 12, "chosen": {"layer": "7"}, "best_minus_last": None,
    "best_minus_last_ci95": None,
    "at_edge": None, "rising": None,
}  # fmt: skip


def set_field(dotted, value):
    def change(data):
        *parents, last = dotted.split(".")
        for parent in parents:
            data = data[parent]
        data[last] = value(data[last]) if callable(value) else value

    return change


@pytest.mark.parametrize(
    ("field", "value"),
    [("protocol.metric", "AP50"), ("dataset.name", "COCO"), ("dataset.split", "val"),
     ("task", "depth")],
)  # fmt: skip
def test_a_lone_record_says_what_its_protocol_says(make_record, tmp_path, field, value):
    """Where no other record of the protocol is there to contradict."""
    known = {"sha256": "c" * 64, "task": "detection", "dataset": "BCCD", "split": "test"}
    known |= {"metric": "AP", "config": "c.py"}
    path = save(tmp_path, make_record, {}, evidence_case.detection(0, 30))
    protocols = {"bccd-detection-scratch-v1": known}
    assert check_store(tmp_path, protocols, now=NOW).problems == []
    rewrite(path, set_field(field, value))
    (problem,) = check_store(tmp_path, protocols, now=NOW).problems
    assert f"'{field}' is '{value}', but protocol bccd-detection-scratch-v1 has" in problem


@pytest.mark.parametrize(
    ("honest", "forged", "named"),
    [
        ({}, {"training.done": 4, "training.planned": 4}, "'training.planned' is 4 epochs"),
        ({}, {"training.unit": "iter"}, "'training.planned' is 8 iters"),
        ({}, {"training.rule": "early stopping"}, "'training.rule' is 'early stopping'"),
        ({}, {"training": NOTHING}, "'training.planned' is nothing"),
        ({"selection": {**LAYERS, "on": "val"}}, {"selection.on": "select"},
         "'selection.on' is 'select'"),
        ({"selection": {**LAYERS, "on": "val"}}, {"selection": None}, "'selection.on' is None"),
    ],
)  # fmt: skip
def test_a_lone_record_trained_and_chose_as_its_protocol_does(
    make_record, tmp_path, honest, forged, named
):
    """Half a training called a whole one, and a layer picked on the scored split without a note."""
    chosen_on = "val" if honest else ""
    known = {"sha256": "c" * 64, "config": "c.py", "training": "8 epochs", "rule": ""}
    path = save(tmp_path, make_record, honest, evidence_case.detection(0, 30))
    protocols = {"bccd-detection-scratch-v1": known | {"chosen_on": chosen_on}}
    assert check_store(tmp_path, protocols, now=NOW).problems == []
    for field, value in forged.items():
        rewrite(path, set_field(field, value))
    (problem,) = check_store(tmp_path, protocols, now=NOW).problems
    assert named in problem and "but protocol bccd-detection-scratch-v1" in problem


def test_a_protocol_for_own_data_leaves_their_name_open(make_record, tmp_path):
    known = {"sha256": "c" * 64, "config": "c.py", "dataset": "$data.name"}
    save(tmp_path, make_record, {}, evidence_case.detection(0, 30))
    assert check_store(tmp_path, {"bccd-detection-scratch-v1": known}, now=NOW).problems == []


@pytest.mark.parametrize(
    "command", ["make it so", "python tools/test.py", "python tools/test.py c.py && ls x.py"]
)
def test_a_published_record_was_written_by_an_evaluation(make_record, tmp_path, command):
    known = {"sha256": "c" * 64, "config": "c.py"}
    path = save(tmp_path, make_record, {}, evidence_case.detection(0, 30))
    check = functools.partial(
        check_store, tmp_path, {"bccd-detection-scratch-v1": known}, now=NOW, published=True
    )
    before = check().problems
    rewrite(path, set_field("command", command))
    assert [p for p in check().problems if p not in before and "'command' does not end" in p]
