"""Label propagation through tools/test.py: no checkpoint, a record, a journal to go on from."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from runs import evaluate, train

from pe_dense.results.comparison import evidence_of
from pe_dense.results.store import load_records

CONFIG = "configs/tracking/mini_v1.py"
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def in_the_repository(monkeypatch):
    monkeypatch.chdir(ROOT)


@pytest.fixture
def options(mini_root: Path) -> dict:
    return {
        "data_root": str(mini_root / "davis"),
        "layers": [0, -1],
        "settings": [{"last_frames": 1, "topk": 3}, {"last_frames": 2, "radius": 4}],
    }


def test_an_encoder_is_scored_without_training(options, tmp_path):
    records, work_dir = tmp_path / "records", tmp_path / "run"
    arguments = dict(options=options, work_dir=work_dir, records=records, seed=3)
    scores = evaluate(CONFIG, None, **arguments)
    (record,) = load_records(records)
    assert record.scores == scores and record.task == "tracking" and record.seed == 3
    assert record.encoder.weights == "random" and record.checkpoint_sha256 is None
    assert record.cost.train_s is None and record.command.startswith("python tools/test.py")
    assert record.selection.on == "select" and record.selection.candidates == 4
    assert record.selection.chosen["layer"] in ("0", "11")
    assert "last_frames" in record.selection.chosen
    assert evidence_of(record, records).metrics()["J&F"] == pytest.approx(scores["J&F"])
    with pytest.raises(ValueError, match="already holds this result"):
        evaluate(CONFIG, None, **arguments)
    again = evaluate(CONFIG, None, **arguments, supersede=True)
    assert again == scores


@pytest.fixture
def journal_is_kept(monkeypatch):
    """As if the run had been killed at its very end."""
    monkeypatch.setattr("pe_dense.run.evaluation.shutil.rmtree", lambda *args, **named: None)


def test_a_killed_evaluation_goes_on_at_the_next_video(options, tmp_path, journal_is_kept):
    """SIGKILL between two videos, not waited for: the second run reads what the first one left."""
    journal, results = tmp_path / "run" / "journal", tmp_path / "png"
    options = {**options, "results_dir": str(results)}
    words = [f"{key}={value}" for key, value in options.items()]
    tool = ["nice", sys.executable, "tools/test.py"]  # the killer goes first
    command = [*tool, CONFIG, "--no-record", "--work-dir", journal.parent]
    process = subprocess.Popen(
        [*command, "--cfg-options", *words], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    deadline = time.monotonic() + 300
    while not list(journal.glob("*.json")):
        assert process.poll() is None, process.stderr.read().decode()
        assert time.monotonic() < deadline
        time.sleep(0.002)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    left = {entry.name: entry.stat().st_mtime_ns for entry in journal.glob("*.json")}
    scores = evaluate(CONFIG, None, options=options, work_dir=journal.parent)
    now = {entry.name: entry.stat().st_mtime_ns for entry in journal.glob("*.json")}
    assert len(now) > len(left) >= 1 and {name: now[name] for name in left} == left
    options["results_dir"] = str(tmp_path / "other")
    assert evaluate(CONFIG, None, options=options, work_dir=tmp_path / "whole") == scores
    written = [
        {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*.png")}
        for folder in (results, tmp_path / "other")
    ]
    assert written[0] and written[0] == written[1]


def test_journal_of_other_weights_or_other_code_is_refused(
    options, tmp_path, journal_is_kept, monkeypatch
):
    arguments = dict(options=options, work_dir=tmp_path / "run")
    evaluate(CONFIG, None, **arguments, seed=0)
    with pytest.raises(ValueError, match="journal"):
        evaluate(CONFIG, None, **arguments, seed=1)
    monkeypatch.setattr("pe_dense.tracking.video_propagator.code_sha256", lambda folder: "other")
    with pytest.raises(ValueError, match="journal .* setting or code"):
        evaluate(CONFIG, None, **arguments, seed=0)


def test_a_finished_evaluation_leaves_no_journal(options, tmp_path):
    """A second one, after whatever has changed, finds out everything anew."""
    evaluate(CONFIG, None, options=options, work_dir=tmp_path / "run", seed=0)
    assert not (tmp_path / "run" / "journal").exists()
    evaluate(CONFIG, None, options=options, work_dir=tmp_path / "run", seed=1)


def test_what_trains_nothing_takes_no_checkpoint_and_is_not_trained(tmp_path):
    checkpoint = tmp_path / "epoch_1.pth"
    with pytest.raises(ValueError, match="does not exist"):
        evaluate(CONFIG, checkpoint)
    with pytest.raises(ValueError, match="trains nothing"):
        train(CONFIG)
    with pytest.raises(ValueError, match="name its checkpoint"):
        evaluate("configs/segmentation/linear_pe_t16_mini.py", None)
    with pytest.raises(ValueError, match="for configs that train nothing"):
        evaluate("configs/segmentation/linear_pe_t16_mini.py", checkpoint, weights="random")
