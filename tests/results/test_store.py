"""The store: the path is the key, nothing is overwritten, nothing is half-written."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time

import pytest

from pe_dense import files
from pe_dense.results import store
from pe_dense.results.record import record_from_json, record_to_json
from pe_dense.results.store import (
    find_problems,
    load_records,
    measured_path,
    record_path,
    save_record,
)

SHA = "abcdef0123456789" * 4


def test_the_path_is_made_of_encoder_weights_protocol_and_seed(make_record, make_reported):
    trained = {"encoder.weights": "w.pt", "encoder.weights_sha256": SHA}
    timm = {"encoder.name": "timm:hf-hub:org/vit_b.x", "seed": None}
    name = "bccd-detection-scratch"
    assert str(record_path(make_record())) == f"pe_spatial_t16_512/random/{name}-v1.seed0.json"
    path = record_path(make_record({**trained, "protocol.version": 12, "seed": None}))
    assert str(path) == f"pe_spatial_t16_512/abcdef01/{name}-v12.json"
    assert str(record_path(make_record(timm))) == f"timm+hf-hub+org=vit_b.x/random/{name}-v1.json"
    assert measured_path("pe_spatial_t16_512", SHA, name, 12, None) == path
    one = record_path(make_reported())
    other = record_path(make_reported({"source.table": "Table 1"}))
    assert one.parts[1].startswith("reported-") and one != other


def test_save_and_load(make_record, make_reported, tmp_path):
    records = [make_record({"seed": seed}) for seed in (10, 2, None)] + [make_reported()]
    for record in records:
        path = save_record(record, tmp_path / "root")
        assert path == tmp_path / "root" / record_path(record)
    loaded = load_records(tmp_path / "root")
    assert sorted(map(record_to_json, loaded)) == sorted(map(record_to_json, records))
    assert loaded == sorted(loaded, key=lambda record: str(record_path(record)))
    assert not list(tmp_path.rglob("*.tmp"))


def test_a_new_file_follows_the_umask(make_record, tmp_path):
    umask = os.umask(0o022)
    try:
        path = save_record(make_record(), tmp_path)
    finally:
        os.umask(umask)
    assert path.stat().st_mode & 0o777 == 0o644 and path.stat().st_nlink == 1


def test_empty_or_missing_root(tmp_path):
    assert load_records(tmp_path) == []
    assert load_records(tmp_path / "none") == []


def test_a_root_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "f").write_text("x")
    with pytest.raises(ValueError, match="name the folder"):
        load_records(tmp_path / "f")


def test_a_duplicate_is_refused_unless_superseded(make_record, tmp_path):
    path = save_record(make_record(), tmp_path)
    better = make_record({"scores.AP": 0.5})
    with pytest.raises(ValueError, match=r"bccd.*seed0\.json.*--supersede"):
        save_record(better, tmp_path)
    assert load_records(tmp_path) == [make_record()]
    assert save_record(better, tmp_path, supersede=True) == path
    assert load_records(tmp_path) == [better]


def test_supersede_works_for_a_first_record(make_record, tmp_path):
    save_record(make_record(), tmp_path, supersede=True)
    assert load_records(tmp_path) == [make_record()]


def test_without_hard_links_the_name_is_claimed(make_record, tmp_path, monkeypatch):
    def no_links(*_):
        raise PermissionError("no hard links here")

    monkeypatch.setattr(os, "link", no_links)
    save_record(make_record(), tmp_path)
    assert load_records(tmp_path) == [make_record()]
    monkeypatch.setattr(store.Path, "exists", lambda self: False)  # lose the race
    with pytest.raises(ValueError, match="--supersede"):
        save_record(make_record({"scores.AP": 0.1}), tmp_path)
    monkeypatch.undo()
    assert load_records(tmp_path) == [make_record()]
    assert not list(tmp_path.rglob("*.tmp"))


def test_a_failing_write_leaves_nothing(make_record, tmp_path, monkeypatch):
    def disk_full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", disk_full)
    with pytest.raises(OSError, match="No space left"):
        save_record(make_record(), tmp_path)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == [store.LOCK]


def test_a_file_in_the_wrong_place_is_refused(make_record, tmp_path):
    path = save_record(make_record(), tmp_path)
    moved = path.with_name("bccd-detection-scratch-v1.seed1.json")
    path.rename(moved)
    with pytest.raises(ValueError, match=r"seed1\.json: its content belongs at .*seed0\.json"):
        load_records(tmp_path)


@pytest.mark.parametrize(
    ("content", "words"), [(b"", "not valid JSON"), (b"\xff\xfe", "not UTF-8"), (b"{}", "missing")]
)
def test_every_bad_file_is_found_and_named(make_record, tmp_path, content, words):
    save_record(make_record(), tmp_path)
    for name in ("a.json", "sub/b.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    (tmp_path / "README.md").write_text("not a record")
    (tmp_path / "._a.json").write_text("not a record")
    problems = find_problems(tmp_path)
    assert len(problems) == 2
    for name, problem in zip(("a.json", "sub/b.json"), problems, strict=True):
        assert problem.startswith(f"{tmp_path / name}: ") and words in problem
    with pytest.raises(ValueError, match=r"a\.json"):
        load_records(tmp_path)


WRITER = """
import dataclasses, pathlib, sys, time
from pe_dense.results.record import record_from_json
from pe_dense.results.store import save_record
root, index = pathlib.Path(sys.argv[1]), int(sys.argv[2])
template = record_from_json((root.parent / "template.json").read_text())
own = dataclasses.replace(template, notes=f"writer {index} " + "x" * 100_000)
(root.parent / f"ready{index}").touch()
while not (root.parent / "go").exists():
    time.sleep(0.001)
wins = 0
for seed in range(5):  # the same five keys in every writer
    try:
        save_record(dataclasses.replace(own, seed=seed), root)
        wins += 1
    except ValueError as error:
        assert "--supersede" in str(error)
    save_record(dataclasses.replace(own, seed=100 * index + 100 + seed), root)
print(wins)
"""

KILLED_WRITER = """
import dataclasses, itertools, pathlib, sys
from pe_dense.results.record import record_from_json
from pe_dense.results.store import save_record
root, start = pathlib.Path(sys.argv[1]), int(sys.argv[2])
template = record_from_json((root.parent / "template.json").read_text())
print("ready", flush=True)
for step in itertools.count():
    own = dataclasses.replace(template, notes=str(step) + "x" * 1_000_000)
    save_record(dataclasses.replace(own, seed=start + step), root)
    save_record(dataclasses.replace(own, seed=0), root, supersede=True)
"""


def start(script, *args):
    command = [sys.executable, "-c", script, *map(str, args)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_of_eight_writers_exactly_one_wins_each_key(make_record, tmp_path):
    root = tmp_path / "root"
    (tmp_path / "template.json").write_text(record_to_json(make_record()))
    writers = [start(WRITER, root, index) for index in range(8)]
    deadline = time.monotonic() + 30
    while len(list(tmp_path.glob("ready*"))) < 8 and time.monotonic() < deadline:
        time.sleep(0.01)
    (tmp_path / "go").touch()
    wins = [int(writer.communicate(timeout=30)[0]) for writer in writers]
    assert [writer.returncode for writer in writers] == [0] * 8
    assert sum(wins) == 5
    records = load_records(root)
    assert len(records) == 5 + 8 * 5
    assert all(len(record.notes) == len("writer 0 ") + 100_000 for record in records)
    assert not list(root.rglob("*.tmp"))


def test_a_killed_writer_leaves_only_whole_files(make_record, tmp_path):
    root = tmp_path / "root"
    (tmp_path / "template.json").write_text(record_to_json(make_record()))
    moments = random.Random(0)
    for attempt in range(12):
        writer = start(KILLED_WRITER, root, 10_000 * (attempt + 1))
        assert writer.stdout.readline() == "ready\n"
        time.sleep(moments.uniform(0.0, 0.02 * attempt))
        writer.kill()
        writer.communicate()
    paths = [path for path in root.rglob("*") if path.name.endswith(".json")]
    assert paths, "no writer lived long enough to save anything"
    for path in paths:
        record = record_from_json(path.read_text())
        assert len(record.notes) > 1_000_000
    assert len(load_records(root)) == len(paths)


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/dev/zero")])
def test_what_has_no_end_is_not_read(tmp_path, make):
    make(tmp_path / "endless.json")
    with pytest.raises(ValueError, match=r"endless.json: is no plain file; remove it"):
        store.load_record(tmp_path / "endless.json", tmp_path)
    (problem,) = find_problems(tmp_path)
    assert "endless.json: is no plain file" in problem


def test_records_are_written_without_locks(make_record, tmp_path, monkeypatch):
    """As on Windows, where the module of locks is missing."""
    monkeypatch.setattr(files, "fcntl", None)
    save_record(make_record(), tmp_path)
    assert load_records(tmp_path) == [make_record()]
