"""Label propagation through tools/test.py: no checkpoint, a record, a journal to go on from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pe_dense.evaluation import evaluate
from pe_dense.results.comparison import evidence_of
from pe_dense.results.store import load_records
from pe_dense.training import train

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
    # The journal has every video: changing it changes the score, so it is what is read.
    for entry in (work_dir / "journal").glob("*.json"):
        content = entry.read_text()
        assert json.loads(content)
    again = evaluate(CONFIG, None, **arguments, supersede=True)
    assert again == scores


def test_journal_of_other_weights_is_refused(options, tmp_path):
    arguments = dict(options=options, work_dir=tmp_path / "run")
    evaluate(CONFIG, None, **arguments, seed=0)
    with pytest.raises(ValueError, match="journal"):
        evaluate(CONFIG, None, **arguments, seed=1)


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
