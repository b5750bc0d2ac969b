"""Masks of a first frame followed through a video: predict gives what the test writes."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("mmengine")
pytest.importorskip("av")

from runs import evaluate

from pe_dense.data.video_file import read_video
from pe_dense.predict.video_command import VideoRequest, follow, is_of_tracking
from pe_dense.predict.video_masks import open_mask_predictor
from pe_dense.predict.video_mp4 import Mp4File

ROOT = Path(__file__).resolve().parents[2]
CONFIG = str(ROOT / "configs/tracking/vos_custom.py")
TINY = dict(encoder="pe_spatial_t16_512", weights="random")


def scene(t: int, width: int = 80) -> tuple[np.ndarray, np.ndarray]:
    """A frame with a bright square that moves, and its mask."""
    mask_HW = np.zeros((48, width), np.uint8)
    mask_HW[10:30, 10 + 3 * t : 30 + 3 * t] = 1
    rng = np.random.default_rng(0)
    image_HW3 = rng.integers(40, 80, (48, width, 3), np.uint8)
    image_HW3[mask_HW == 1] = 220
    return image_HW3, mask_HW


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """'d/clip.mp4' of 6 frames with the mask of its first one beside it."""
    path = tmp_path / "d/clip.mp4"
    with Mp4File(path, 12) as file:
        for t in range(6):
            file.add(scene(t)[0])
    Image.fromarray(255 * scene(0)[1]).save(path.with_suffix(".png"))
    return path


def test_predict_writes_the_masks_of_the_test(video: Path, tmp_path: Path) -> None:
    options = dict(short_side=64, results_dir=str(tmp_path / "test"), data_root=str(video.parent))
    evaluate(CONFIG, None, **TINY, options=options, work_dir=tmp_path / "run")

    [found] = follow(
        VideoRequest(
            CONFIG,
            [str(video)],
            tmp_path / "out",
            video.with_suffix(".png"),
            **TINY,
            options=dict(short_side=64),
        )
    )

    own = sorted((tmp_path / "out/clip").glob("*.png"))
    tested = sorted((tmp_path / "test/clip").glob("*.png"))
    assert len(own) == len(tested) == found.num_frames == 6
    masks = [np.asarray(Image.open(path)) for path in own]
    for mask_HW, path in zip(masks, tested, strict=True):
        np.testing.assert_array_equal(mask_HW, np.asarray(Image.open(path)))
    np.testing.assert_array_equal(masks[0], scene(0)[1])
    assert masks[5].any() and (masks[5] != masks[0]).any()
    drawn = list(read_video(tmp_path / "out/clip.mp4"))
    assert len(drawn) == 6
    plain = [frame.image_HW3 for frame in read_video(video)]
    changed = np.abs(drawn[5].image_HW3.astype(int) - plain[5]).mean(axis=2) > 40
    assert changed[masks[5] == 1].mean() > 0.5 > changed[masks[5] == 0].mean()


def test_the_tool_follows_a_mask(video: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    sys.path.insert(0, str(ROOT / "tools"))
    try:
        import predict as tool
    finally:
        sys.path.pop(0)
    mask = str(video.with_suffix(".png"))
    words = ["predict.py", CONFIG, str(video), "--out", str(tmp_path / "out")]
    tiny = ["--encoder", TINY["encoder"], "--weights", "random", "--cfg-options", "short_side=64"]

    monkeypatch.setattr(sys, "argv", [*words, "--mask", mask, *tiny])
    assert tool.main() == 0
    assert "clip: 6 frames" in capsys.readouterr().out
    assert len(list((tmp_path / "out/clip").iterdir())) == 6
    monkeypatch.setattr(sys, "argv", [*words, *tiny])
    with pytest.raises(ValueError, match="name it with --mask"):
        tool.main()
    for more in (["--resume"], ["--device", "cpu"], ["--amp"], ["--batch-size", "2"]):
        monkeypatch.setattr(sys, "argv", [*words, "--mask", mask, *more, *tiny])
        with pytest.raises(ValueError, match=f"{more[0]} is of models of pictures, .*leave it out"):
            tool.main()
    monkeypatch.setattr(sys, "argv", ["predict.py", "run.pth", str(video), "--out", "x", *tiny[:4]])
    with pytest.raises(ValueError, match="name the config first"):
        tool.main()


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        (np.ones((10, 12), np.uint8), r"first\.png has 10 x 12 px, the frames of video .*clip"),
        (np.zeros((48, 80), np.uint8), r"first\.png has no object"),
        (np.uint8([[0, 90, 200]]), "grey with 2 values"),
    ],
    ids=["size", "empty", "greys"],
)
def test_masks_that_cannot_be_followed(video: Path, tmp_path: Path, mask, words: str) -> None:
    Image.fromarray(mask).save(tmp_path / "first.png")
    request = VideoRequest(
        CONFIG, [str(video)], tmp_path / "out", tmp_path / "first.png", **TINY,
        options=dict(short_side=32),
    )  # fmt: skip
    with pytest.raises(ValueError, match=words) as caught:
        follow(request)
    assert "\n" not in str(caught.value)


def test_a_video_that_is_cut_off_is_followed_as_far_as_it_goes(
    tmp_path: Path, monkeypatch, capsys
) -> None:
    with Mp4File(tmp_path / "whole.mp4", 12) as file:
        for t in range(30):
            file.add(scene(t % 6)[0])
    content = (tmp_path / "whole.mp4").read_bytes()
    (tmp_path / "clip.mp4").write_bytes(content[: len(content) * 4 // 5])
    Image.fromarray(255 * scene(0)[1]).save(tmp_path / "first.png")
    request = dict(config=CONFIG, out=tmp_path / "out", mask=tmp_path / "first.png", **TINY)

    [found] = follow(
        VideoRequest(words=[str(tmp_path / "clip.mp4")], options=dict(short_side=64), **request)
    )

    assert (
        "clip.mp4 cannot be decoded" in found.error and "frames before were written" in found.error
    )
    written = len(list((tmp_path / "out/clip").glob("*.png")))
    assert 0 < written == found.num_frames == len(list(read_video(tmp_path / "out/clip.mp4"))) < 30
    assert "error" not in capsys.readouterr().out


def test_other_configs_are_refused(video: Path) -> None:
    mask = video.with_suffix(".png")
    with pytest.raises(ValueError, match=r"12 layers x 6 settings"):
        open_mask_predictor(str(ROOT / "configs/tracking/mini_v1.py"), mask, **TINY)
    detector = str(ROOT / "configs/detection/atss_pe_t16_mini.py")
    with pytest.raises(ValueError, match="does not pass on masks"):
        open_mask_predictor(detector, mask)
    assert is_of_tracking(CONFIG) and not is_of_tracking(detector)
    request = VideoRequest(CONFIG, ["a.mp4", "b.mp4"], Path("x"), mask)
    with pytest.raises(ValueError, match="one video, and 2 are named"):
        follow(request)
