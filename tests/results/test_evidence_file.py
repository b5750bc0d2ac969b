"""Evidence files: exact round trips, stable bytes, and one sentence for all that is wrong."""

from __future__ import annotations

import dataclasses
import json
import os
import time
import zipfile

import evidence_case
import numpy as np
import pytest
from coco_case import evaluate, evidence_of, random_case

from pe_dense.files import file_sha256
from pe_dense.results.evidence_file import load_evidence, save_evidence


def assert_equal(one, other) -> None:
    assert type(one) is type(other)
    for field in dataclasses.fields(one):
        a, b = getattr(one, field.name), getattr(other, field.name)
        assert type(a) is type(b), field.name
        if isinstance(a, np.ndarray):
            assert a.dtype == b.dtype and not b.flags.writeable
            np.testing.assert_array_equal(a, b)
        else:
            assert a == b


@pytest.mark.parametrize("kind", evidence_case.ALL)
def test_round_trip(kind, tmp_path):
    evidence = evidence_case.ALL[kind]()
    digest = save_evidence(evidence, tmp_path / "new" / "e.npz")
    assert digest == file_sha256(tmp_path / "new" / "e.npz")
    loaded = load_evidence(tmp_path / "new" / "e.npz", digest)
    assert_equal(evidence, loaded)
    np.testing.assert_equal(evidence.metrics(), loaded.metrics())


@pytest.mark.parametrize("num_images", [1, 4, 12])
def test_round_trip_of_real_matches(num_images, tmp_path):
    evidence = evidence_of(evaluate(*random_case(4, num_images), list(range(1, num_images + 1))))
    save_evidence(evidence, tmp_path / "e.npz")
    assert_equal(evidence, load_evidence(tmp_path / "e.npz"))


def test_scores_that_need_float64_keep_it(tmp_path):
    evidence = evidence_case.detection()
    assert not np.array_equal(evidence.score_D.astype(np.float32), evidence.score_D)
    halves = dataclasses.replace(evidence, score_D=evidence.score_D.astype(np.float32))
    for one, dtype in ((evidence, np.float64), (halves, np.float32)):
        save_evidence(one, tmp_path / "e.npz")
        assert np.load(tmp_path / "e.npz")["score_D"].dtype == dtype
        assert_equal(one, load_evidence(tmp_path / "e.npz"))


def test_large_counts_and_names_survive(tmp_path):
    evidence = evidence_case.segmentation()
    big = evidence.target_NK * 2**20
    names = ["\u00e9", "a/b", 'quote"', "x ", "null\0"]
    evidence = dataclasses.replace(evidence, target_NK=big, classes=names)
    save_evidence(evidence, tmp_path / "e.npz")
    assert_equal(evidence, load_evidence(tmp_path / "e.npz"))


@pytest.mark.parametrize("kind", evidence_case.ALL)
def test_same_evidence_same_bytes(kind, tmp_path, monkeypatch):
    first = save_evidence(evidence_case.ALL[kind](), tmp_path / "a.npz")
    monkeypatch.setattr(time, "time", lambda: 2e9)
    assert save_evidence(evidence_case.ALL[kind](), tmp_path / "b.npz") == first
    assert save_evidence(evidence_case.ALL[kind](seed=1), tmp_path / "b.npz") != first
    assert sorted(os.listdir(tmp_path)) == ["a.npz", "b.npz"]


def test_files_are_plain_arrays(tmp_path):
    save_evidence(evidence_case.detection(), tmp_path / "e.npz")
    with np.load(tmp_path / "e.npz", allow_pickle=False) as file:
        header = json.loads(file["header"].tobytes())
        assert all(file[name].dtype.kind in "uif" for name in file.files)
    assert header["kind"] == "detection" and header["numbers"] == {"max_dets": 100}


def sentence(path, sha256=None) -> str:
    with pytest.raises(ValueError) as error:
        load_evidence(path, sha256)
    message = str(error.value)
    assert str(path) in message and "\n" not in message
    return message


def test_missing_edited_and_foreign_files(tmp_path):
    path = tmp_path / "e.npz"
    assert "no such evidence file" in sentence(path)
    digest = save_evidence(evidence_case.depth(), path)
    other = save_evidence(evidence_case.depth(seed=1), tmp_path / "other.npz")
    assert "edited or is of another run" in sentence(path, other)
    load_evidence(path, digest)
    whole = path.read_bytes()
    for content in (b"", b"text", whole[: len(whole) // 2], whole[:40] + b"xx" + whole[42:]):
        path.write_bytes(content)
        assert "not an evidence file, or damaged" in sentence(path)
    np.save(tmp_path / "array.npy", np.zeros(3))
    assert "not an evidence file" in sentence(tmp_path / "array.npy")
    np.savez(path, x=np.zeros(3))
    assert "not an evidence file" in sentence(path)
    np.savez(path, header=np.array([{}], dtype=object))  # a pickle is not opened
    assert "not an evidence file" in sentence(path)
    np.savez(path, header=np.frombuffer(b"[1]", np.uint8))
    assert "not an evidence file" in sentence(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")
    assert "not an evidence file" in sentence(path)


def rewrite(path, change) -> None:
    """The file with its arrays and header changed."""
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    header = json.loads(arrays["header"].tobytes())
    change(arrays, header)
    arrays["header"] = np.frombuffer(json.dumps(header).encode(), np.uint8)
    np.savez(path, **arrays)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda a, h: h.update(version=2), "update pe_dense"),
        (lambda a, h: h.update(kind="pose"), "kind 'pose'"),
        (lambda a, h: h.update(format="x"), "not an evidence file"),
        (lambda a, h: h["texts"]["image_ids"].pop(), "image_ids|image not there"),
        (lambda a, h: h["texts"].pop("classes"), "classes"),
        (lambda a, h: h.pop("texts"), "texts"),
        (lambda a, h: a.update(score_D=a["score_D"][:-1]), "score_D"),
        (lambda a, h: a.update(image_D=a["image_D"][:-9]), "bits|class_D"),
        (lambda a, h: a.update(matched_DAT=a["matched_DAT"][:-1]), "bits"),
        (lambda a, h: a.update(extra=np.zeros(1)), "extra"),
        (lambda a, h: a.pop("gt_count_GA"), "gt_count_GA"),
    ],
)
def test_damaged_content(change, text, tmp_path):
    path = tmp_path / "e.npz"
    save_evidence(evidence_case.detection(), path)
    rewrite(path, change)
    with pytest.raises(ValueError, match=text):
        load_evidence(path)
    sentence(path)


def test_sizes(tmp_path):
    """A million areas, nearly all zero, take little room."""
    rng = np.random.default_rng(0)
    target = rng.integers(0, 300_000, (500, 150)) * (rng.random((500, 150)) < 0.07)
    intersection = rng.binomial(target, 0.8)
    evidence = dataclasses.replace(
        evidence_case.segmentation(),
        image_ids=[f"ADE_val_{n:08d}" for n in range(500)],
        classes=[f"class{k}" for k in range(150)],
        intersection_NK=intersection,
        prediction_NK=intersection,
        target_NK=target,
    )
    save_evidence(evidence, tmp_path / "e.npz")
    assert (tmp_path / "e.npz").stat().st_size < 100_000
