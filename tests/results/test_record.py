"""Records: exact round trips, and one clear sentence for everything that is wrong."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from pe_dense.results.record import (
    EncoderInfo,
    content_sha256,
    record_from_json,
    record_to_json,
    upgrade,
)

MADE = {"method": "centred percentile bootstrap", "stretch": None, "thin_classes": None}
UNKNOWN = dict.fromkeys(("method", "stretch", "thin_classes"))


def interval(low, high, unit="image", num_units=72):
    about = {"unit": unit, "num_units": num_units, "resamples": 1000}
    return {"low": low, "high": high, **about, **MADE, "stretch": 1.02, "thin_classes": 3}


FULL = {
    "ci95": {"AP": [interval(0.43, 0.47), interval(0.42, 0.48, "sequence", None)]},
    "by_layer": {"AP": {"0": 0.1, "11": 0.45, "8+9+11": 0.5}},
    "dataset.sha256": "b" * 64,
    "encoder.published": "the released file",
    "encoder.revision": "1" * 40,
    "encoder.whole_params": 7_000_000,
    "training.chosen": "best on the scored split",
    "training.rule": "test-best (paper-compat)",
    "options": {"amp": "bfloat16"},
    "evidence": {"file": "evidence/x.npz", "sha256": "e" * 64},
    "encoder.weights": "hf://facebook/PE-Spatial:PE-Spatial-T16-512.pt",
    "encoder.weights_sha256": "a" * 64,
    "notes": 'quotes " and lines\nand \u00e9',
    "scores": {"AP": 0.1 + 0.2, "tiny": 5e-324, "rmse": 123.456},
    "seed": None,
}


@pytest.mark.parametrize("changes", [{}, FULL, {"hardware.gpu": "H100"}])
def test_round_trip_is_exact(make_record, changes):
    record = make_record(changes)
    text = record_to_json(record)
    assert record_from_json(text) == record
    assert record_to_json(record_from_json(text)) == text
    assert text.endswith("}\n") and text.isascii()
    assert list(json.loads(text)) == sorted(json.loads(text))


def test_round_trip_of_a_reported_record(make_reported):
    record = make_reported()
    assert record_from_json(record_to_json(record)) == record


def test_nested_objects_may_be_given_as_dataclasses(make_record):
    record = make_record()
    assert isinstance(record.encoder, EncoderInfo)
    assert make_record({"encoder": record.encoder}) == record


def test_nested_dataclasses_are_checked_too(make_record):
    encoder = EncoderInfo("x", "random", "random", "0" * 8, num_params="many")
    with pytest.raises(ValueError, match=r"encoder\.num_params.*whole number"):
        make_record({"encoder": encoder})


def test_numbers_become_plain_python(make_record):
    numpy = pytest.importorskip("numpy")
    scores = {"AP": numpy.float32(0.5), "AP50": 1, "AP75": numpy.float64(0.25)}
    record = make_record({"scores": scores, "seed": numpy.int64(3)})
    assert [type(value) for value in record.scores.values()] == [float] * 3
    assert type(record.seed) is int
    assert record_from_json(record_to_json(record)) == record


INVALID = [
    ({"origin": "guessed"}, "origin", "measured"),
    ({"task": "Object Detection"}, "task", "lower-case"),
    ({"protocol.id": "../x"}, "protocol.id", "lower-case"),
    ({"protocol.id": 7}, "protocol.id", "text"),
    ({"protocol.version": 0}, "protocol.version", "1 or more"),
    ({"protocol.version": True}, "protocol.version", "whole number"),
    ({"protocol.version": 1.0}, "protocol.version", "whole number"),
    ({"protocol.higher_is_better": 1}, "protocol.higher_is_better", "true or false"),
    ({"protocol.config_sha256": "C" * 64}, "protocol.config_sha256", "64 hex"),
    ({"protocol.config_sha256": None}, "protocol.config_sha256", "fill it in"),
    ({"protocol.metric": "mIoU"}, "scores", "mIoU"),
    ({"protocol.extra": 1}, "protocol.extra", "remove it"),
    ({"dataset.name": " "}, "dataset.name", "name the data set"),
    ({"dataset.num_items": 0}, "dataset.num_items", "1 or more"),
    ({"dataset.num_items": None}, "dataset.num_items", "fill it in"),
    ({"dataset": "BCCD"}, "dataset", "an object"),
    ({"encoder.name": "../../etc"}, "encoder.name", "letters"),
    ({"encoder.weights": "/home/me/w.pt"}, "encoder.weights", "bare file name"),
    ({"encoder.weights": "C:w.pt"}, "encoder.weights", "bare file name"),
    ({"encoder.weights": "w.pt"}, "encoder.weights_sha256", "random"),
    ({"encoder.weights_sha256": "abc"}, "encoder.weights_sha256", "64 hex"),
    ({"encoder.weights_sha256": None}, "encoder.weights_sha256", "fill it in"),
    ({"encoder.feature_fingerprint": None}, "encoder.feature_fingerprint", "fill it in"),
    ({"encoder.feature_fingerprint": "xyz"}, "encoder.feature_fingerprint", "hex digits"),
    ({"checkpoint_sha256": "best.pth"}, "checkpoint_sha256", "64 hex"),
    ({"scores": {}}, "scores", "AP"),
    ({"scores.AP": float("nan")}, "scores.AP", "finite"),
    ({"scores.AP": float("inf")}, "scores.AP", "finite"),
    ({"scores.AP": 10**400}, "scores.AP", "finite"),
    ({"scores.AP": "0.4"}, "scores.AP", "number"),
    ({"scores.AP": True}, "scores.AP", "number"),
    ({"scores.AP": None}, "scores.AP", "number"),
    ({"scores.AP": 45.12}, "scores.AP", "divide percent by 100"),
    ({"scores.APs": -1.0}, "scores.APs", "leave a metric out"),
    ({"scores.a|b": 0.5}, "scores.a|b", "rename"),
    ({"ci95": {"AP75": [interval(0.1, 0.2)]}}, "ci95.AP75", "no score"),
    ({"ci95": {"AP": [interval(0.5, 0.4)]}}, "ci95.AP[0]", "lower bound"),
    ({"ci95": {"AP": [interval(0.1, 0.2, "two words")]}}, "ci95.AP[0].unit", "resampled"),
    ({"ci95": {"AP": [interval(0.1, 0.2, num_units=0)]}}, "ci95.AP[0].num_units", "1 or more"),
    ({"ci95": {"AP": []}}, "ci95.AP", "leave it out"),
    ({"ci95": {"AP": [0.1, 0.2]}}, "ci95.AP[0]", "an object"),
    ({"ci95": {"AP": 0.1}}, "ci95.AP", "a list"),
    ({"by_layer": {"AP": {"last": 0.1}}}, "by_layer.AP.last", "block index"),
    ({"by_layer": {"AP": {"8+": 0.1}}}, "by_layer.AP.8+", "or several as '8+9'"),
    ({"ci95": {"AP": [interval(0.1, 0.2) | {"stretch": 0.9}]}}, "ci95.AP[0].stretch", "1 or more"),
    (
        {"ci95": {"AP": [interval(0.1, 0.2) | {"thin_classes": -1}]}},
        "ci95.AP[0].thin_classes",
        "0 or more",
    ),
    ({"dataset.sha256": "b" * 63}, "dataset.sha256", "64 hex"),
    ({"encoder.published": "maybe"}, "encoder.published", "'another file'"),
    ({"encoder.revision": "main"}, "encoder.revision", "commit"),
    ({"encoder.whole_params": 0}, "encoder.whole_params", "1 or more"),
    ({"training.chosen": "by luck"}, "training.chosen", "'unfinished'"),
    ({"training.done": 3}, "training.chosen", "3 of 8 epochs: 'unfinished'"),
    ({"training.chosen": "unfinished"}, "training.chosen", "its end"),
    ({"training.unit": None}, "training.done", "name its unit"),
    ({"training.unit": "hour"}, "training.unit", "'epoch'"),
    ({"training.done": -1}, "training.done", "0 or more"),
    ({"options": {"amp": True}}, "options.amp", "text"),
    ({"by_layer": {"AP": {"0": 45.0}}}, "by_layer.AP.0", "divide percent by 100"),
    ({"content_sha256": "0" * 64}, "content_sha256", "edited by hand"),
    ({"content_sha256": None}, "content_sha256", "evaluate again"),
    ({"evidence": {"file": "/abs.npz", "sha256": "e" * 64}}, "evidence.file", "relative"),
    ({"evidence": {"file": "a/../../b", "sha256": "e" * 64}}, "evidence.file", "relative"),
    ({"evidence": {"file": "a.npz", "sha256": ""}}, "evidence.sha256", "64 hex"),
    ({"seed": -1}, "seed", "0 or more"),
    ({"seed": "0"}, "seed", "or null"),
    ({"command": ""}, "command", "fill it in"),
    ({"command": "\udcff"}, "command", "Unicode"),
    ({"created": "2026-01-31 12:00"}, "created", "UTC"),
    ({"created": "2026-02-30T12:00:00Z"}, "created", "UTC"),
    ({"code.commit": "abc"}, "code.commit", "unknown"),
    ({"code": None}, "code", "fill it in"),
    ({"versions": {}}, "versions", "fill it in"),
    ({"versions": {"torch": 2}}, "versions.torch", "text"),
    ({"hardware.cores": 0}, "hardware.cores", "1 or more"),
    ({"cost.train_s": -1}, "cost.train_s", "0 or more"),
    ({"source": {"paper": "p", "table": "t", "mark": ""}}, "source", "only reported"),
    ({"origin": "reported"}, "source", "where its number was read"),
    (
        {"origin": "reported", "source": {"paper": "", "table": "t", "mark": ""}},
        "source.paper",
        "fill it in",
    ),
    ({"schema_version": 7}, "schema_version", "update pe_dense"),
    ({"schema_version": 0}, "schema_version", "start at 1"),
    ({"schema_version": "1"}, "schema_version", "whole number"),
    ({"extra": 1}, "extra", "remove it"),
]


@pytest.mark.parametrize(("changes", "field", "remedy"), INVALID)
def test_each_error_names_file_field_and_remedy(record_data, changes, field, remedy):
    text = json.dumps(record_data(changes))
    with pytest.raises(ValueError) as caught:
        record_from_json(text, source="some/file.json")
    message = str(caught.value)
    assert message.startswith("some/file.json: ")
    assert f"'{field}'" in message and remedy in message and "\n" not in message


@pytest.mark.parametrize(
    "dotted", ["origin", "notes", "schema_version", "protocol.id", "cost.eval_s"]
)
def test_a_missing_key_is_named(record_data, dotted):
    data = record_data()
    *parents, last = dotted.split(".")
    del (data[parents[0]] if parents else data)[last]
    with pytest.raises(ValueError, match=f"f.json: field '{dotted}' is missing; add it"):
        record_from_json(json.dumps(data), source="f.json")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not valid JSON"),
        ('{"origin": ', "not valid JSON"),
        ("[]", "one JSON object"),
        ("null", "one JSON object"),
        ('{"AP": 1, "AP": 2}', "'AP' is given twice"),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_text_that_is_no_record(text, words):
    with pytest.raises(ValueError, match=f"^f.json: .*{words}"):
        record_from_json(text, source="f.json")


def test_building_an_invalid_record_fails_at_once(make_record):
    with pytest.raises(ValueError, match=r"scores\.AP"):
        make_record({"scores.AP": float("nan")})


def test_the_current_schema_needs_no_upgrade(record_data):
    assert upgrade(record_data()) == record_data()


NOT_KEPT = {"training": None, "options": None, "dataset.sha256": None}


def as_schema_3(data):
    """What schema 3 held of a record: the fields that 4 and 5 added are left out."""
    added = ("training", "options", "blind", "content_sha256")
    old = {k: v for k, v in data.items() if k not in added}
    old |= {"schema_version": 3, "dataset": dict(data["dataset"]), "encoder": dict(data["encoder"])}
    for part, name in (
        ("dataset", "sha256"), ("encoder", "published"), ("encoder", "revision"),
        ("encoder", "whole_params"),
    ):  # fmt: skip
        del old[part][name]
    return old


def test_schema_1_is_still_read(record_data, make_record):
    changes = {"scores.AP": 0.45, "ci95": {"AP": [0.43, 0.47]}}
    old = as_schema_3(record_data(changes)) | {"schema_version": 1}
    del old["by_layer"], old["selection"]
    new = record_from_json(json.dumps(old))
    unknown = {"unit": "unknown", "num_units": None, "resamples": None, **UNKNOWN}
    bounds = {"low": 0.43, "high": 0.47}
    assert new == make_record({**changes, **NOT_KEPT, "ci95": {"AP": [{**bounds, **unknown}]}})
    assert record_from_json(record_to_json(new)) == new


def test_schema_1_sources_have_no_mark(record_data, make_reported):
    old = as_schema_3(json.loads(record_to_json(make_reported()))) | {"schema_version": 1}
    del old["by_layer"], old["selection"], old["source"]["mark"]
    assert record_from_json(json.dumps(old)) == make_reported()


def test_schema_2_has_no_selection(record_data, make_record):
    old = as_schema_3(record_data()) | {"schema_version": 2}
    del old["selection"]
    old["content_sha256"] = content_sha256(old)
    assert record_from_json(json.dumps(old)) == make_record(NOT_KEPT)


def test_before_schema_6_nobody_looked_for_heads_that_rise(record_data):
    chosen = {
        "on": "holdout", "metric": "mIoU", "candidates": 2, "chosen": {"layer": "7"},
        "best_minus_last": None, "best_minus_last_ci95": None, "at_edge": {},
    }  # fmt: skip
    old = record_data({"selection": chosen, "schema_version": 5})
    del old["encoder"]["whole_params"]
    old["content_sha256"] = content_sha256(old)
    before = record_from_json(json.dumps(old))
    assert before.selection.rising is None and before.encoder.whole_params is None
    rising = {"7": "mIoU 18.9, 15.2 after a training half as long"}
    new = record_from_json(json.dumps(record_data({"selection": {**chosen, "rising": rising}})))
    assert new.selection.rising == rising


def test_what_schema_3_did_not_keep_is_not_known(record_data, make_record):
    bounds = {"low": 0.4, "high": 0.5, "unit": "image", "num_units": 9, "resamples": 100}
    chosen = {
        "on": "holdout", "metric": "mIoU", "candidates": 72, "chosen": {"layer": "7"},
        "best_minus_last": 0.1, "best_minus_last_ci95": bounds,
    }  # fmt: skip
    changes = {"ci95": {"AP": [bounds]}, "selection": chosen}
    old = as_schema_3(record_data(changes))
    old["content_sha256"] = content_sha256(old)
    new = record_from_json(json.dumps(old))
    chosen = {
        **chosen,
        "best_minus_last_ci95": {**bounds, **UNKNOWN},
        "at_edge": None,
        "rising": None,
    }
    now = {"ci95": {"AP": [{**bounds, **UNKNOWN}]}, "selection": chosen}
    assert new == make_record({**now, **NOT_KEPT})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("dataset", "BCCD"),
        ("encoder", None),
        ("ci95", {"AP": 0.1}),
        ("ci95", {"AP": [0.1]}),
        ("selection", "the last"),
    ],
)
def test_what_is_malformed_in_an_old_record_is_named(record_data, field, value):
    old = as_schema_3(record_data()) | {field: value}
    with pytest.raises(ValueError, match=f"f.json: field '{field}.* is .* but must be"):
        record_from_json(json.dumps(old), source="f.json")


def test_what_was_chosen_is_kept(record_data, make_record):
    gap = {"low": -0.1, "high": 0.3, "unit": "image", "num_units": 9, "resamples": 100, **MADE}
    selection = {
        "on": "holdout", "metric": "mIoU", "candidates": 72, "chosen": {"layer": "7"},
        "best_minus_last": 0.1, "best_minus_last_ci95": gap, "at_edge": None, "rising": None,
    }  # fmt: skip
    record = make_record({"selection": selection})
    assert record.selection.best_minus_last_ci95.low == -0.1
    assert record_from_json(record_to_json(record)) == record
    with pytest.raises(ValueError, match="write the lower bound first"):
        make_record({"selection": {**selection, "best_minus_last_ci95": {**gap, "low": 0.5}}})


def test_any_edit_of_a_file_shows(make_record):
    text = record_to_json(make_record())
    assert "0.4512" in text
    with pytest.raises(ValueError, match="edited by hand"):
        record_from_json(text.replace("0.4512", "0.4612"))


def test_errors_and_signed_metrics_keep_their_range(make_record):
    scores = {"AP": 1.0, "rmse": 4.2, "MOTA": -0.3, "J_decay": -0.1, "F_decay": -0.2}
    assert make_record({"scores": scores}).scores == scores


def test_results_import_neither_torch_nor_openmmlab():
    code = (
        "import sys, pe_dense.results.leaderboard, pe_dense.results.provenance\n"
        "import pe_dense.results.record, pe_dense.results.store\n"
        "heavy = {'torch', 'mmengine', 'mmcv', 'mmdet', 'mmseg'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
