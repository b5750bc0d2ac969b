"""What is gathered of a run, and that a page that fails costs nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("mmseg")

from runs import train

from pe_dense.report import run_report
from pe_dense.report.run_report import (
    curves_of,
    last_scores,
    report_training,
    scalars_of,
    scores_in_words,
    write_report,
)

REPO = Path(__file__).resolve().parents[2]


def write_lines(work_dir: Path, start: str, lines: list[dict | str]) -> None:
    folder = work_dir / start / "vis_data"
    folder.mkdir(parents=True)
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    (folder / "scalars.json").write_text("\n".join(texts) + "\n")


def loss(step: int, value: float) -> dict:
    return {"lr": 1e-3, "loss": value, "time": 0.1, "iter": step, "step": step}


def test_a_run_that_went_on_has_one_curve(tmp_path: Path) -> None:
    score = {"seg/mIoU": 0.1, "seg/IoU/sky": 0.5, "step": 1}
    first = [loss(10, 3.0), loss(20, 2.0), score, loss(30, 9.0), '{"lr": 0.001, "lo']
    write_lines(tmp_path, "20260101_000000", first)
    write_lines(tmp_path, "20260102_000000", [loss(30, 1.5), loss(40, 1.0), {**score, "step": 2}])
    lines = scalars_of(tmp_path)
    curves = {curve.name: curve for curve in curves_of(lines, "mIoU", "epoch")}
    assert list(curves["loss"].points) == [(10, 3.0), (20, 2.0), (30, 1.5), (40, 1.0)]
    assert curves["mIoU (validation)"].points == [(1, 0.1), (2, 0.1)]
    assert curves["mIoU (validation)"].unit == "epoch" and curves["loss"].unit == "step"
    assert list(curves)[:3] == ["loss", "lr", "mIoU (validation)"] and "time" not in curves
    assert last_scores(lines) == {"mIoU": 0.1, "IoU/sky": 0.5}
    assert scalars_of(tmp_path / "nowhere") == []


def test_scores_are_spelled_as_in_the_leaderboard() -> None:
    protocol = {"metric": "mIoU"}
    words = scores_in_words({"aAcc": 0.5, "mIoU": 0.12345, "IoU/sky": 0.2, "own": 3.0}, protocol)
    assert words == [("mIoU", "12.3 %"), ("aAcc", "50.0 %"), ("own", "3")]


def test_a_page_that_fails_is_a_warning_with_its_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails() -> None:
        raise AttributeError("no such thing")

    assert write_report(tmp_path, fails) is None
    told = capsys.readouterr()
    assert f"{tmp_path / 'report.html'} could not be written (AttributeError" in told.out + told.err
    assert not list(tmp_path.iterdir())


def test_the_page_of_a_training_and_its_evaluation(
    mini_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pe_dense.report.run_report import report_evaluation

    config = REPO / "configs/segmentation/linear_pe_t16_mini.py"
    options = {"data_root": str(mini_root / "ade"), "max_epochs": 1, "val_interval": 1}
    runner = train(config, options=options, work_dir=tmp_path / "w")
    monkeypatch.setattr(run_report, "SEEN", 4)
    file = report_training(runner, "python tools/train.py c.py")
    text = file.read_text(encoding="utf-8")
    assert file == tmp_path / "w/report.html" and "python tools/train.py c.py" in text
    for heading in ("Scores", "Curves", "Worst items", "Best items", "Confusion", "Data"):
        assert f"<h2>{heading}</h2>" in text
    assert text.count("data:image/jpeg") == 4 and "12 training items" in text
    assert 'class="loud">random' in text and "label maps" in text

    def page(done):
        return report_evaluation(done, "python tools/test.py w")

    monkeypatch.chdir(tmp_path)
    from pe_dense.run import evaluation
    from pe_dense.run.request import RunRequest

    evaluation.evaluate(
        RunRequest("", options={}, argv=["tools/test.py"]), tmp_path / "w", afterwards=page
    )
    text = file.read_text(encoding="utf-8")
    assert "python tools/test.py w" in text and "epoch_1.pth" in text
    assert "without the picture" in text and "<h2>Curves</h2>" in text
