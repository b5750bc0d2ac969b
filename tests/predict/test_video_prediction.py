"""Videos, folders of frames and cameras through a model: files, MP4s, ends of all kinds."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("av")
pytest.importorskip("cv2")

from pe_dense.data.video_file import read_video, video_facts
from pe_dense.predict.video_mp4 import Mp4File
from pe_dense.predict.video_prediction import ImagePredictor, predict_videos
from pe_dense.predict.video_source import open_source


@dataclass
class Found:
    """A result that is its picture."""

    image_HW3: np.ndarray

    def draw(self) -> np.ndarray:
        return 255 - self.image_HW3

    def save(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(self.image_HW3).save(path)


class Boxed(Found):
    def coco(self) -> list[dict]:
        return [dict(category_id=1, bbox=[0, 0, 2.5, 3], score=float(self.image_HW3.mean()))]


class Model:
    """Gives a result for each picture and remembers how many came together."""

    def __init__(self, kind: type = Found) -> None:
        self.kind, self.together = kind, []

    def predict_batch(self, images_HW3):
        self.together.append(len(images_HW3))
        return [self.kind(image) for image in images_HW3]


def frame(number: int, height: int = 32, width: int = 48) -> np.ndarray:
    return np.full((height, width, 3), 10 * number % 256, np.uint8)


def save_frames(folder: Path, numbers, size=(32, 48)) -> Path:
    folder.mkdir(parents=True)
    for number in numbers:
        Image.fromarray(frame(number, *size)).save(folder / f"f{number}.png")
    return folder


def save_mp4(path: Path, count: int, size=(32, 48), fps: float = 10) -> Path:
    with Mp4File(path, fps) as video:
        for number in range(count):
            video.add(frame(number, *size))
    return path


class FakeCamera:
    """As OpenCV's; somebody presses Ctrl-C while frame `until` is read."""

    def __init__(self, until: int | None, frames: int = 10**6) -> None:
        self.until, self.frames, self.read_count, self.is_released = until, frames, 0, False

    def isOpened(self) -> bool:  # noqa: N802 (OpenCV's name)
        return True

    def get(self, _: int) -> float:
        return 30.0

    def read(self):
        if self.read_count == self.until:
            os.kill(os.getpid(), signal.SIGINT)
        if self.read_count >= self.frames:
            return False, None
        self.read_count += 1
        blue_HW3 = np.zeros((32, 48, 3), np.uint8)
        blue_HW3[..., 0] = 200  # BGR
        return True, blue_HW3

    def release(self) -> None:
        self.is_released = True


def greys(path: Path) -> list[float]:
    return [float(seen.image_HW3.mean()) for seen in read_video(path)]


def test_a_file_and_a_folder_give_an_mp4_and_a_file_of_each_frame(tmp_path: Path) -> None:
    clip = save_mp4(tmp_path / "clip.mp4", 7, fps=24000 / 1001)
    folder = save_frames(tmp_path / "shots", [9, 10, 2])  # in the order of numbers, not of text
    model, out = Model(), tmp_path / "out"

    found = predict_videos([str(clip), str(folder)], out, ImagePredictor(model, batch_size=4))

    assert [(o.name, o.num_frames, o.error) for o in found] == [("clip", 7, ""), ("shots", 3, "")]
    assert model.together == [4, 3, 3]
    assert sorted(p.name for p in (out / "shots").iterdir()) == ["f10.png", "f2.png", "f9.png"]
    assert len(list((out / "clip").glob("00000[0-6].png"))) == 7
    assert greys(out / "clip.mp4") == pytest.approx([255 - 10 * n for n in range(7)], abs=3)
    assert greys(out / "shots.mp4") == pytest.approx([235, 165, 155], abs=3)
    assert video_facts(out / "clip.mp4").fps == pytest.approx(24000 / 1001)
    assert video_facts(out / "shots.mp4").fps == 25
    assert not list(out.rglob("*.tmp"))


def test_detections_of_all_frames_are_one_coco_file(tmp_path: Path) -> None:
    clip = save_mp4(tmp_path / "clip.mp4", 3)

    predict_videos([str(clip)], tmp_path / "out", ImagePredictor(Model(Boxed)))

    rows = json.loads((tmp_path / "out/clip/detections.json").read_text())
    assert [row["image_id"] for row in rows] == [0, 1, 2]
    assert [row["score"] for row in rows] == pytest.approx([0, 10, 20], abs=2)


def test_odd_sides_lose_no_pixel(tmp_path: Path) -> None:
    folder = save_frames(tmp_path / "odd", [1, 2], size=(31, 47))

    [found] = predict_videos([str(folder)], tmp_path / "out", ImagePredictor(Model()))

    facts = video_facts(tmp_path / "out/odd.mp4")
    assert (facts.height, facts.width) == (32, 48)
    assert "even" in found.line()


def test_times_of_frames_are_kept(tmp_path: Path) -> None:
    times = [2.0, 2.04, 2.12, 2.5]
    with Mp4File(tmp_path / "clip.mp4", 25) as video:
        for number, time_s in enumerate(times):
            video.add(frame(number), time_s)

    predict_videos([str(tmp_path / "clip.mp4")], tmp_path / "out", ImagePredictor(Model()))

    seen = [f.time_s for f in read_video(tmp_path / "out/clip.mp4")]
    assert seen == pytest.approx([t - 2 for t in times], abs=1e-4)


def test_a_camera_ends_by_ctrl_c_with_whole_files(tmp_path: Path) -> None:
    camera = FakeCamera(until=5)
    before = signal.getsignal(signal.SIGINT)

    [found] = predict_videos(
        ["0"], tmp_path, ImagePredictor(Model(Boxed), batch_size=4), open_camera=lambda n: camera
    )

    assert not found.error
    assert "Ctrl-C" in found.line()
    frames = list(read_video(tmp_path / "camera0.mp4"))
    assert len(frames) == found.num_frames == 5
    assert frames[0].image_HW3.mean(axis=(0, 1)) == pytest.approx([255, 255, 55], abs=6)
    assert len(json.loads((tmp_path / "camera0/detections.json").read_text())) == 5
    assert camera.is_released
    assert signal.getsignal(signal.SIGINT) is before
    assert not list(tmp_path.rglob("*.tmp"))


def test_ctrl_c_before_the_end_of_a_file_names_what_was_not_done(tmp_path: Path) -> None:
    class Stopped(Model):
        def predict_batch(self, images_HW3):
            if len(self.together) == 2:
                os.kill(os.getpid(), signal.SIGINT)
            return super().predict_batch(images_HW3)

    clips = [save_mp4(tmp_path / f"{name}.mp4", 9) for name in "ab"]
    noted: list[str] = []

    first, second = predict_videos(
        [str(clip) for clip in clips], tmp_path / "out", ImagePredictor(Stopped()),
        note=lambda text, outcome: noted.append(text),
    )  # fmt: skip

    assert "a.mp4 was ended by Ctrl-C before its end; the 3 frames before" in first.error
    assert len(list(read_video(tmp_path / "out/a.mp4"))) == first.num_frames == 3
    assert "b.mp4 was not begun" in second.error
    assert second.video is None
    assert noted == [str(clip) for clip in clips]


def test_a_camera_that_is_unplugged_ends_the_video(tmp_path: Path) -> None:
    camera = FakeCamera(until=None, frames=4)
    [found] = predict_videos(["1"], tmp_path, ImagePredictor(Model()), open_camera=lambda n: camera)
    assert (found.name, found.num_frames, found.error) == ("camera1", 4, "")


def test_a_broken_video_keeps_what_was_done_and_stops_nothing_else(tmp_path: Path) -> None:
    whole = save_mp4(tmp_path / "whole.mp4", 30)
    content = whole.read_bytes()
    (tmp_path / "cut.mp4").write_bytes(content[: len(content) * 9 // 10])
    (tmp_path / "text.avi").write_text("no video")
    shots = save_frames(tmp_path / "shots", [1, 2])
    Image.fromarray(frame(3, 20, 20)).save(shots / "f3.png")
    inputs = [str(tmp_path / name) for name in ("cut.mp4", "text.avi", "shots", "whole.mp4")]
    said: list[str] = []

    found = predict_videos(inputs, tmp_path / "out", ImagePredictor(Model()), tell=said.append)

    cut, text, small, last = found
    assert "cut.mp4 cannot be decoded" in cut.error
    assert 0 < cut.num_frames == len(list(read_video(cut.video))) < 30
    assert "text.avi cannot be decoded" in text.error
    assert text.video is None
    assert "f3.png has 20 x 20 px" in small.error
    assert small.num_frames == 2
    assert (last.error, last.num_frames) == ("", 30)
    assert sum(line.startswith("error: ") for line in said) == 3


def test_what_would_be_overwritten_is_refused(tmp_path: Path) -> None:
    first = save_mp4(tmp_path / "a/clip.mp4", 2)
    second = save_mp4(tmp_path / "b/clip.mp4", 2)

    with pytest.raises(ValueError, match="two videos are called 'clip'"):
        predict_videos([str(first), str(second)], tmp_path / "out", ImagePredictor(Model()))
    predict_videos([str(first)], tmp_path / "out", ImagePredictor(Model()))
    with pytest.raises(ValueError, match="from an earlier run"):
        predict_videos([str(second)], tmp_path / "out", ImagePredictor(Model()))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda at: at / "absent.mp4", "does not exist"),
        (lambda at: at.joinpath("empty").mkdir() or at / "empty", "holds no frame"),
        (lambda at: save_frames(at / "s", [1]).joinpath("x9.png"), "does not exist"),
    ],
)
def test_inputs_that_are_no_video(tmp_path: Path, make, words: str) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        open_source(str(make(tmp_path)))
    assert "\n" not in str(caught.value)


def test_a_camera_that_is_not_there_is_one_sentence() -> None:
    class Absent(FakeCamera):
        def isOpened(self) -> bool:  # noqa: N802
            return False

    with pytest.raises(ValueError, match="camera 7 cannot be opened"):
        open_source("7", open_camera=lambda n: Absent(None))
