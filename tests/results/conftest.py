"""A hand-made record, with any field replaced by its dotted name."""

from __future__ import annotations

import copy
import hashlib
import json

import pytest

from pe_dense.results.record import Record

MEASURED = {
    "origin": "measured",
    "task": "detection",
    "protocol": {
        "id": "bccd-detection-scratch",
        "version": 1,
        "metric": "AP",
        "higher_is_better": True,
        "config_sha256": "c" * 64,
    },
    "dataset": {"name": "BCCD", "split": "test", "num_items": 72, "sha256": "9" * 64},
    "encoder": {
        "name": "pe_spatial_t16_512",
        "weights": "random",
        "weights_sha256": "random",
        "feature_fingerprint": "0123456789abcdef",
        "num_params": 6_000_000,
        "whole_params": None,
        "published": None,
        "revision": None,
    },
    "scores": {"AP": 0.4512, "AP50": 0.8},
    "created": "2026-01-31T12:00:00Z",
    "command": "python tools/test.py configs/detection/bccd.py best.pth",
    "source": None,
    "checkpoint_sha256": "d" * 64,
    "ci95": None,
    "by_layer": None,
    "selection": None,
    "training": {
        "chosen": "end of training",
        "unit": "epoch",
        "done": 8,
        "planned": 8,
        "rule": "",
    },
    "options": {},
    "blind": None,
    "evidence": None,
    "seed": 0,
    "code": {"commit": "1234567890" * 4, "dirty": False},
    "versions": {"python": "3.11.7", "pe_dense": "0.1.0"},
    "hardware": {"cpu": "some CPU", "cores": 2, "gpu": None},
    "cost": {"train_s": 90.0, "eval_s": 4.5, "peak_memory_gib": 1.25},
    "notes": "",
    "schema_version": 6,
}
REPORTED = {
    "origin": "reported",
    "source": {"paper": "arXiv:2504.13181", "table": "Table 15", "mark": ""},
    "protocol.config_sha256": None,
    "encoder.weights": "official.pt",
    "encoder.weights_sha256": None,
    "encoder.feature_fingerprint": None,
    "encoder.num_params": None,
    "encoder.whole_params": None,
    "dataset.num_items": None,
    "dataset.sha256": None,
    "checkpoint_sha256": None,
    "command": "",
    "code": None,
    "versions": {},
    "hardware": None,
    "cost": {"train_s": None, "eval_s": None, "peak_memory_gib": None},
    "seed": None,
    "training": None,
    "options": None,
}


def changed(data: dict, changes: dict) -> dict:
    data = copy.deepcopy(data)
    for dotted, value in changes.items():
        *parents, last = dotted.split(".")
        target = data
        for parent in parents:
            target = target[parent]
        target[last] = copy.deepcopy(value)
    return data


@pytest.fixture
def record_data():
    """Function: record data as JSON holds it; `record_data({'protocol.id': 'x'})`.

    The checksum is that of the changed data, unless `changes` has one.
    """

    def build(changes=None):
        data = changed(MEASURED, changes or {})
        rest = {key: value for key, value in data.items() if key != "content_sha256"}
        text = json.dumps(rest, sort_keys=True, separators=(",", ":"))
        return {"content_sha256": hashlib.sha256(text.encode()).hexdigest(), **data}

    return build


@pytest.fixture
def make_record():
    """Function: a measured record with changes."""
    return lambda changes=None: Record(**changed(MEASURED, changes or {}))


@pytest.fixture
def make_reported():
    """Function: a reported record with changes."""
    return lambda changes=None: Record(**changed(MEASURED, {**REPORTED, **(changes or {})}))
