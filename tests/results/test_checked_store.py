"""Forged records are refused by name, each for its reason, and leave all others standing."""

from __future__ import annotations

import dataclasses
import hashlib
import zipfile
from datetime import datetime

import evidence_case
import numpy as np
import pytest
from forgery_case import (
    KINDS,
    PROTOCOLS,
    evidence_of,
    move,
    place,
    read,
    replace_evidence,
    rewrite,
    save,
    sound_store,
)

from pe_dense.results import refusals
from pe_dense.results.checked_store import check_store
from pe_dense.results.record_intervals import rewrite_intervals
from pe_dense.results.statistics import interval
from pe_dense.results.store import find_problems, leftovers, record_files, save_record

NOW = datetime(2026, 2, 1)
NUM_RECORDS = 3 * len(KINDS) + 2


@pytest.fixture
def root(make_record, tmp_path):
    """A sound store."""
    sound_store(tmp_path / "records", make_record)
    return tmp_path / "records"


def check(root, **changes):
    return check_store(root, PROTOCOLS, **{"published": True, "now": NOW, **changes})


def set_field(dotted, value):
    def change(data):
        *parents, last = dotted.split(".")
        for parent in parents:
            data = data[parent]
        data[last] = value(data[last]) if callable(value) else value

    return change


def test_a_sound_store_is_sound(root):
    store = check(root)
    assert store.problems == [] and len(store.records) == NUM_RECORDS
    assert store.not_recomputed == {} and find_problems(root) == []


# ---- forgeries: each changes the store and returns the files that must be named, and a word ------


def higher_score(root):
    path = place(root, "sky-segmentation")
    rewrite(path, set_field("scores.mIoU", lambda value: value + 0.02))
    return [path], "'scores.mIoU' is "


def higher_side_score(root):
    path = place(root, "cats-detection")
    rewrite(path, set_field("scores.AP50", 0.99))
    return [path], "'scores.AP50' is 0.990000, but the evidence gives"


def higher_score_with_its_interval(root):
    path = place(root, "clip-vos")

    def change(data):
        data["scores"]["J&F"] += 0.1
        for end in ("low", "high"):
            data["ci95"]["J&F"][0][end] = min(1.0, data["ci95"]["J&F"][0][end] + 0.1)

    rewrite(path, change)
    return [path], "'ci95.J&F' is "


def other_data(root):
    path = place(root, "sky-segmentation")
    rewrite(path, set_field("dataset.sha256", "b" * 64))
    return [path], "'dataset.sha256' is bbbbbbbbbbbb..., but the evidence gives "


def narrow_interval(root):
    path = place(root, "room-depth")

    def change(data):
        value = data["scores"]["rmse"]
        data["ci95"]["rmse"][0] |= {"low": value - 0.001, "high": value + 0.001}

    rewrite(path, change)
    return [path], "'ci95.rmse' is "


def interval_of_more_images(root):
    path = place(root, "cats-detection")
    rewrite(path, lambda data: data["ci95"]["AP"][0].update(num_units=5000))
    return [path], "over 5000 images, but the evidence gives"


def interval_over_objects(root):
    """What the bootstrap gives for objects instead of whole videos: narrower, and untrue."""
    path = place(root, "clip-vos", "beta")
    found = interval(evidence_of(path, root), "J&F", unit="object")
    new = {"low": found.low, "high": found.high, "unit": "object", "num_units": found.num_units}
    rewrite(path, lambda data: data["ci95"]["J&F"][0].update(new))
    return [path], "12 objects, but the evidence gives"


def interval_in_front(root):
    path = place(root, "clip-vos", "beta")

    def change(data):
        (own,) = data["ci95"]["J&F"]
        middle = data["scores"]["J&F"]
        data["ci95"]["J&F"] = [{**own, "low": middle - 0.01, "high": middle + 0.01}, own]

    rewrite(path, change)
    return [path], "has 2 intervals, but only that over videos"


def hidden_interval(root):
    path = place(root, "clip-vos", "beta")
    rewrite(path, lambda data: data["ci95"].pop("J&F"))
    return [path], "'ci95.J&F' is missing, and the evidence gives one"


def hidden_choice(root):
    """One of three says that its layer was chosen on other data."""
    names = ("alpha", "beta", "gamma")
    paths = [place(root, "clip-vos", name) for name in names]
    for path, on in zip(paths, ("holdout", "val", "val"), strict=True):
        chosen = {"on": on, "metric": "J&F", "candidates": 12, "chosen": {"layer": "3"}}
        chosen |= {
            "best_minus_last": None,
            "best_minus_last_ci95": None,
            "at_edge": None,
            "rising": None,
        }
        rewrite(path, set_field("selection", chosen))
    return paths[:1], "'selection.on' is 'holdout', but 'val' in other records"


def untrained_seed_twice(root):
    """Label propagation has no chance in it; a second seed would be the first one again."""
    path = place(root, "clip-vos", "gamma")
    rewrite(path, set_field("checkpoint_sha256", None))

    def change(data):
        data |= {"seed": 1, "command": data["command"].replace("--seed 0", "--seed 1")}

    return [path, move(path, root, change)], "though nothing is left to chance"


def another_released_file(root):
    paths = [place(root, id_, "gamma") for id_ in ("clip-vos", "street-mot", "room-depth")]
    for path in paths:
        rewrite(path, set_field("encoder.published", "the released file"))
    forged = move(paths[0], root, set_field("encoder.weights_sha256", "7" * 64))
    (root / read(paths[0])["evidence"]["file"]).unlink()
    paths[0].unlink()
    return [forged], "'encoder.weights_sha256' is '777777777777"


def huge_evidence(root):
    """A file of a few kilobytes that unpacks to more than any memory has."""
    path = place(root, "clip-vos")
    file = root / read(path)["evidence"]["file"]
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr("more.npy", b"")
        archive.getinfo("more.npy").file_size = 2**40  # as its table says
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    name = f"{path.stem}.{digest[:8]}.npz"
    file.rename(file.with_name(name))
    folder = path.parent.relative_to(root).as_posix()
    rewrite(path, set_field("evidence", {"file": f"{folder}/{name}", "sha256": digest}))
    return [path], "not an evidence file, or damaged"


def more_items(root):
    path = place(root, "clip-vos", "beta")
    rewrite(path, set_field("dataset.num_items", 61))
    return [path], "'dataset.num_items' is 61, but the evidence holds 6 videos"


def made_up_metric(root):
    path = place(root, "street-mot")
    rewrite(path, lambda data: data["scores"].update(AP=0.9))
    return [path], "'scores.AP' is no metric"


def no_evidence(root):
    path = place(root, "sky-segmentation", "gamma")
    rewrite(path, set_field("evidence", None))
    return [path], "has no per-item evidence"


def lost_evidence(root):
    path = place(root, "room-depth", "beta")
    (root / read(path)["evidence"]["file"]).unlink()
    return [path], "is missing"


def other_settings(root):
    path = place(root, "room-depth", "gamma")
    rewrite(path, set_field("protocol.config_sha256", "e" * 64))
    return [path], "'protocol.config_sha256' is eeeeeeeeeeee..., but the settings of room-depth-v1"


def unknown_protocol(root):
    path = place(root, "street-mot", "gamma")
    move(path, root, set_field("protocol.id", "my-mot"))
    (root / read(path)["evidence"]["file"]).unlink()
    path.unlink()
    return [place(root, "my-mot", "gamma")], "protocol my-mot-v1 is not in"


def from_the_future(root):
    path = place(root, "street-mot")
    rewrite(path, set_field("created", "2031-01-01T00:00:00Z"))
    return [path], "'created' is 2031-01-01T00:00:00Z, which is still to come"


def other_encoder_in_the_command(root):
    path = place(root, "cats-detection", "beta")
    rewrite(path, set_field("command", lambda text: text.replace("beta", "delta")))
    return [path], "'command' scores the encoder delta, not beta"


def other_config_in_the_command(root):
    path = place(root, "cats-detection", "beta")
    rewrite(path, set_field("command", lambda text: text.replace("cats-detection", "room-depth")))
    return [path], "'command' scores under configs/room-depth.py, which is room-depth-v1"


def copied_to_another_encoder(root):
    path = place(root, "sky-segmentation", "beta")
    copy = move(path, root, copied_identity)
    return [path, copy], "has the same evidence as"


def copied_identity(data):
    data["encoder"] |= {"name": "best", "weights_sha256": "9" * 64}
    data |= {"checkpoint_sha256": "8" * 64, "created": "2026-01-31T13:00:00Z"}
    data["command"] = data["command"].replace("beta", "best")


def copied_with_a_change(root):
    """One image is made better, so that no hash is that of the original."""
    path = place(root, "sky-segmentation", "beta")
    copy = move(path, root, copied_identity)
    evidence = evidence_of(copy, root)
    better = evidence.intersection_NK.copy()
    better[0] = np.minimum(evidence.prediction_NK[0], evidence.target_NK[0])
    changed = dataclasses.replace(evidence, intersection_NK=better)
    replace_evidence(copy, root, changed, consistent=True)
    return [path, copy], "gave exactly the same on "


def same_checkpoint(root):
    paths = [place(root, "street-mot", name) for name in ("alpha", "beta")]
    rewrite(paths[0], set_field("checkpoint_sha256", read(paths[1])["checkpoint_sha256"]))
    return paths, "has the same checkpoint as"


def seed_twice(root):
    path = place(root, "room-depth", seed=1)

    def change(data):
        data |= {"seed": 3, "command": data["command"].replace("--seed 1", "--seed 3")}

    return [path, move(path, root, change)], "which is another run"


def swapped_seeds(root):
    paths = [place(root, "room-depth", seed=seed) for seed in (1, 2)]
    contents = [read(path) for path in paths]
    for path, other in zip(paths, reversed(contents), strict=True):
        rewrite(path, lambda data, other=other: data.update({**other, "seed": data["seed"]}))
    return paths, "as its evidence, but its own would be"


def swapped_seeds_with_their_evidence(root):
    paths = [place(root, "room-depth", seed=seed) for seed in (1, 2)]
    found = [evidence_of(path, root) for path in paths]
    for path, evidence, seed in zip(paths, reversed(found), (2, 1), strict=True):
        replace_evidence(path, root, evidence, consistent=True)
        old = f"--seed {3 - seed}"
        rewrite(path, set_field("command", lambda t, o=old, s=seed: t.replace(o, f"--seed {s}")))
    return paths, "but the command has --seed"


def another_place(root):
    path = place(root, "cats-detection", "gamma")
    copy = path.with_name("cats-detection-v1.seed7.json")
    copy.write_bytes(path.read_bytes())
    return [copy], "its content belongs at"


def fewer_objects(root):
    """What was not found is taken out of the evidence, and every number is made anew."""
    path = place(root, "cats-detection", "gamma")
    evidence = evidence_of(path, root)
    found = np.zeros(len(evidence.gt_image_G), bool)
    right_D = evidence.matched_DAT[:, 0, 0]
    for n, k in zip(evidence.image_D[right_D], evidence.class_D[right_D], strict=True):
        found |= (evidence.gt_image_G == n) & (evidence.gt_class_G == k)
    parts = {name: getattr(evidence, name)[found] for name in (
        "gt_image_G", "gt_class_G", "gt_count_GA",
    )}  # fmt: skip
    replace_evidence(path, root, dataclasses.replace(evidence, **parts), consistent=True)
    return [path], "what is annotated on them is"


def easier_images(root):
    """Another set of as many images, under the name of the first."""
    path = place(root, "room-depth", "gamma")
    evidence = evidence_of(path, root)
    names = [f"easy{n}" for n in range(evidence.num_items)]
    changed = dataclasses.replace(evidence, image_ids=names, values_NM=evidence.values_NM * 0.5)
    replace_evidence(path, root, changed, consistent=True)
    return [path], "the set of scored items is"


def more_params(root):
    path = place(root, "room-depth", seed=2)
    rewrite(path, set_field("encoder.num_params", 1000))
    return [path], "'encoder.num_params' is 1000, but 6000000"


def edited_evidence(root):
    path = place(root, "sky-segmentation", "beta")
    evidence = evidence_of(path, root)
    better = np.minimum(evidence.prediction_NK, evidence.target_NK)
    changed = dataclasses.replace(evidence, intersection_NK=better)
    replace_evidence(path, root, changed, consistent=False)
    return [path], "but the evidence gives"


def flipped_bytes(root):
    path = place(root, "sky-segmentation", "beta")
    file = root / read(path)["evidence"]["file"]
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    return [path], "is not the evidence that"


def called_another_metric(root):
    path = place(root, "cats-detection")
    rewrite(path, set_field("protocol.metric", "AP50"))
    return [path], "'protocol.metric' is 'AP50', but 'AP' in other records"


def unfinished(root):
    path = place(root, "clip-vos", "gamma")
    training = {"unit": "epoch", "done": 3, "planned": 8, "rule": ""}
    rewrite(path, set_field("training", {"chosen": "unfinished", **training}))
    return [path], "'training.chosen' is 'unfinished', and its protocol's id does not say so"


FORGERIES = [
    higher_score, higher_side_score, higher_score_with_its_interval, narrow_interval, other_data,
    interval_of_more_images, interval_over_objects, interval_in_front, hidden_interval,
    hidden_choice, untrained_seed_twice, another_released_file, huge_evidence, more_items,
    made_up_metric, no_evidence, lost_evidence,
    other_settings, unknown_protocol, from_the_future, other_encoder_in_the_command,
    other_config_in_the_command, copied_to_another_encoder, copied_with_a_change, same_checkpoint,
    seed_twice, swapped_seeds, swapped_seeds_with_their_evidence, another_place, fewer_objects,
    easier_images, more_params, edited_evidence, flipped_bytes, called_another_metric, unfinished,
]  # fmt: skip


@pytest.mark.parametrize("forge", FORGERIES, ids=lambda forge: forge.__name__)
def test_a_forgery_is_named_and_the_others_stand(root, forge):
    files = set(record_files(root))
    named, words = forge(root)
    store = check(root)
    assert set(store.refused) == set(named), store.problems
    for path in named:
        assert any(words in text for text in store.refused[path]), store.refused[path]
        assert all("\n" not in text and ": " in text for text in store.refused[path])
    assert len(store.records) == len(files | set(record_files(root))) - len(named) - len(
        files - set(record_files(root))
    )


def test_twelve_forgeries_in_one_store_are_each_named(root):
    """Of different kinds, each on a record of its own."""
    forged = {}
    for forge in (
        higher_score, higher_side_score, higher_score_with_its_interval, narrow_interval,
        more_items, made_up_metric, no_evidence, lost_evidence, other_settings,
        other_encoder_in_the_command, another_place, unfinished,
    ):  # fmt: skip
        (path,), words = forge(root)
        assert path not in forged
        forged[path] = words
    assert len(forged) == 12
    store = check(root)
    assert set(store.refused) == set(forged), store.problems
    for path, words in forged.items():
        assert any(str(path.name) in t and words in t for t in store.refused[path])
    assert len(store.records) == NUM_RECORDS - 11  # one forgery is a second file
    assert refusals.heading(12) == "12 records are refused and not shown"


# ---- what is no forgery --------------------------------------------------------------------------


def test_what_no_evidence_gives_is_listed_and_checked_against_the_rest(make_record, tmp_path):
    evidence = evidence_case.depth(0, 30)
    rmse = evidence.metrics()["rmse"]
    layers = {"0": rmse + 0.5, "1": rmse, "2": rmse + 0.2}
    selection = {
        "on": "holdout", "metric": "rmse", "candidates": 3, "chosen": {"layer": "1"},
        "best_minus_last": -0.2, "best_minus_last_ci95": None, "at_edge": None, "rising": None,
    }  # fmt: skip
    changes = {
        "task": "depth", "protocol.metric": "rmse", "protocol.higher_is_better": False,
        "by_layer": {"rmse": layers}, "selection": selection,
    }  # fmt: skip
    path = save(tmp_path, make_record, changes, evidence)
    (numbers,) = check_store(tmp_path, {}, now=NOW).not_recomputed.values()
    assert set(numbers) == {"by_layer.rmse.0", "by_layer.rmse.2"}
    for field, value, words in (
        ("by_layer.rmse.1", rmse + 0.1, "'by_layer.rmse.1' is"),
        ("selection.best_minus_last", -0.5, "'selection.best_minus_last' is -0.500000, but"),
    ):
        old = read(path)
        rewrite(path, set_field(field, value))
        (problem,) = check_store(tmp_path, {}, now=NOW).problems
        assert words in problem
        rewrite(path, lambda data, old=old: data.update(old))
    assert check_store(tmp_path, {}, now=NOW).problems == []


def test_mask_ap_is_listed_as_not_recomputed(make_record, tmp_path):
    path = save(tmp_path, make_record, {}, evidence_case.detection(0, 30))
    rewrite(path, lambda data: data["scores"].update({"mask_AP50": 0.5, "APr": 0.1}))
    (numbers,) = check_store(tmp_path, {}, now=NOW).not_recomputed.values()
    assert set(numbers) == {"scores.mask_AP50", "scores.APr"}


def test_records_without_evidence_are_for_home_use(make_record, tmp_path):
    save_record(make_record(), tmp_path)
    store = check_store(tmp_path, PROTOCOLS, now=NOW)
    assert len(store.records) == 1
    assert list(store.not_recomputed.values()) == [("scores.AP", "scores.AP50")]


def test_intervals_by_another_method_are_to_be_made_again(make_record, tmp_path):
    """Those of old records, which were narrower: they would be a way to narrow new ones."""
    changes = {"task": "depth", "protocol.metric": "rmse", "protocol.higher_is_better": False}
    path = save(tmp_path, make_record, changes, evidence_case.depth(0, 12))
    old = dict.fromkeys(("method", "stretch", "thin_classes"))
    rewrite(path, lambda data: data["ci95"]["rmse"][0].update(old))
    (problem,) = check_store(tmp_path, {}, now=NOW).problems
    assert "by the method of old records, not by" in problem
    assert "python tools/leaderboard.py intervals makes it again" in problem
    rewrite_intervals(tmp_path)
    assert check_store(tmp_path, {}, now=NOW).problems == []


def test_what_was_computed_is_remembered_and_nothing_else(root, tmp_path, monkeypatch):
    from pe_dense.results import recomputed

    memory = tmp_path / "memory"
    first = check(root, memory=memory)

    def never(*_):
        raise RuntimeError("computed again")

    monkeypatch.setattr(recomputed, "recompute", never)
    assert check(root, memory=memory).records == first.records
    monkeypatch.setattr(recomputed, "_code", lambda: "other code")
    with pytest.raises(RuntimeError, match="computed again"):
        check(root, memory=memory)


def test_a_damaged_memory_is_not_trusted(root, tmp_path):
    memory = tmp_path / "memory"
    check(root, memory=memory)
    for n, file in enumerate(sorted(memory.rglob("*.json"))):
        file.write_text(("", "{", "[]", "{}")[n % 4])
    assert check(root, memory=memory).problems == []


def test_memory_that_cannot_be_written_changes_nothing(root, tmp_path):
    (tmp_path / "file").write_text("")
    assert check(root, memory=tmp_path / "file").problems == []


def test_evidence_that_two_encoders_can_share(make_record, tmp_path):
    """Heads that have learnt nothing say the same everywhere; that is no copy."""
    evidence = evidence_case.segmentation(0, 30)
    nothing = np.zeros_like(evidence.prediction_NK)
    nothing[:, 0] = evidence.target_NK.sum(axis=1)
    for number, name in enumerate(("a", "b")):
        found = nothing.copy()
        found[0, 1 + number] += 1  # the hashes of the two files differ
        right = np.minimum(nothing, evidence.target_NK)
        one = dataclasses.replace(evidence, intersection_NK=right, prediction_NK=found)
        changes = {
            "encoder.name": name, "task": "segmentation", "protocol.metric": "mIoU",
            "checkpoint_sha256": hashlib.sha256(name.encode()).hexdigest(),
        }  # fmt: skip
        save(tmp_path, make_record, changes, one)
    assert check_store(tmp_path, {}, now=NOW).problems == []


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("header", lambda a: np.frombuffer(a.tobytes().replace(b'"detection"', b'{"a": 1}'), "u1")),
        ("header", lambda a: np.frombuffer(b"[" * 100_000, "u1")),
        ("score_D", lambda a: a.astype(np.complex64)),
        ("score_D", lambda a: a[:-1]),
        ("gt_count_GA", lambda a: np.full(a.shape, 2**62)),
        ("class_D", lambda a: np.zeros(0)),
        ("image_D", lambda a: a.astype("U3")),
    ],
)
def test_damaged_evidence_with_hashes_made_anew_stops_nothing(root, name, damage):
    path = place(root, "cats-detection", "beta")
    file = root / read(path)["evidence"]["file"]
    with np.load(file) as found:
        arrays = {key: found[key] for key in found.files}
    arrays[name] = damage(arrays[name])
    np.savez(file, **arrays)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    new = file.with_name(f"{path.stem}.{digest[:8]}.npz")
    file.rename(new)
    evidence = {"file": new.relative_to(root).as_posix(), "sha256": digest}
    rewrite(path, set_field("evidence", evidence))
    store = check(root)
    assert list(store.refused) == [path] and len(store.records) == NUM_RECORDS - 1


def test_texts_of_any_length_are_told_in_one_line(root):
    path = place(root, "clip-vos")
    rewrite(path, lambda data: data["ci95"]["J&F"][0].update(method="a\n" * 10_000))
    (problem,) = check(root).problems
    assert "\n" not in problem and len(problem) < 700


def test_leftovers_are_no_records(root):
    (root / "alpha" / "left.npz").write_bytes(b"")
    assert check(root).problems == [] and len(leftovers(root)) == 1
