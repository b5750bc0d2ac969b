"""Any detector's checkpoint as a tracker: predict writes the rows that the test scores."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

pytest.importorskip("mmdet")
pytest.importorskip("av")
pytest.importorskip("trackeval")
pytest.importorskip("lap")

from runs import evaluate, train

from pe_dense.data.video_file import read_video
from pe_dense.predict.video_command import VideoRequest, follow, is_of_tracking
from pe_dense.results.store import load_records

ROOT = Path(__file__).resolve().parents[2]
CONFIG = str(ROOT / "configs/tracking/mot_custom.py")
LOW = dict(start=0.0, sure=0.0, keep=-0.1, tracked=["disc", "box", "star"])


@pytest.fixture(scope="module")
def detector(mini_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A detector that has seen a few pictures; its checkpoint alone says what it is."""
    folder = tmp_path_factory.mktemp("detector")
    options = {
        "data_root": str(mini_root / "coco"), "max_epochs": 1, "val_interval": 2,
        "train_scales": [(128, 128)], "image_scale": (128, 128),
        "train_dataloader.num_workers": 0, "val_dataloader.num_workers": 0,
    }  # fmt: skip
    train(str(ROOT / "configs/detection/atss_pe_t16_mini.py"), options=options, work_dir=folder)
    return folder


@pytest.fixture
def clips(mini_root: Path, tmp_path: Path) -> Path:
    """One clip with boxes and one without."""
    root = tmp_path / "clips"
    source = sorted((mini_root / "mot/test").glob("[!.]*"))[0]  # what is remembered is hidden
    shutil.copytree(source / "img1", root / "one/img1")
    shutil.copytree(source / "gt", root / "one/gt")
    shutil.copytree(source / "img1", root / "two/img1")
    return root


def test_predict_writes_the_tracks_that_the_test_scores(
    detector: Path, clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    options = dict(LOW, data_root=str(clips), out_dir=str(tmp_path / "out"))
    options["tracked"] = "[disc,box,star]"  # as the command line gives it
    options["test_dataloader.num_workers"] = 0

    scores = evaluate(CONFIG, detector, options=options, records=tmp_path / "records")

    [record] = load_records(tmp_path / "records")
    assert record.scores == scores and scores["HOTA"] >= 0
    assert record.protocol.id.startswith("custom-mot.mod-")
    [tested] = (tmp_path / "out").glob("mot-*/tracks/data")
    assert "two " in capsys.readouterr().out  # the table of clips
    words = [str(detector), str(clips / "one/img1")]
    [found] = follow(VideoRequest(CONFIG, words, tmp_path / "predicted", options=LOW))
    own = (tmp_path / "predicted/img1/tracks.txt").read_text().splitlines()
    assert own == (tested / "one.txt").read_text().splitlines()
    assert own == (tested / "two.txt").read_text().splitlines()
    assert len(own) > 0
    assert found.num_frames == len(list(read_video(tmp_path / "predicted/img1.mp4"))) == 4


def test_without_boxes_tracks_are_written_alone(
    detector: Path, clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    shutil.rmtree(clips / "one")
    options = dict(data_root=str(clips), out_dir=str(tmp_path / "out"), start=0.02)
    options["test_dataloader.num_workers"] = 0
    assert evaluate(CONFIG, detector, options=options, records=tmp_path / "records") == {}
    assert "there is nothing to score" in capsys.readouterr().out
    assert not list((tmp_path / "records").rglob("*.json"))
    assert len(list((tmp_path / "out").glob("mot-*/tracks/data/two.txt"))) == 1


def test_what_does_not_fit_is_refused(detector: Path, clips: Path, tmp_path: Path) -> None:
    assert is_of_tracking(CONFIG)
    video = str(clips / "one/img1")
    for words, extra, message in (
        ([str(detector), video], dict(options=dict(tracked=["zebra"])), "tracked names 'zebra'"),
        ([str(detector), video], dict(mask=Path("m.png")), "leave --mask"),
        ([str(detector)], {}, "and then videos"),
        ([str(detector), video], dict(encoder="pe_spatial_b16_512"), "leave --encoder out"),
    ):
        with pytest.raises(ValueError, match=message):
            follow(VideoRequest(CONFIG, words, tmp_path / "x", **extra))
    scored = str(ROOT / "configs/tracking/bytetrack_pe_t16_mini.py")
    with pytest.raises(ValueError, match=r"mot_custom\.py, which takes any detector"):
        follow(VideoRequest(scored, [str(detector), video], tmp_path / "x"))
