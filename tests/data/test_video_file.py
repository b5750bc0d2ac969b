"""Frames of video files: order, count, times, upright; and files that are broken or cut off."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("av")

import av

from pe_dense.data.video_file import is_video_file, rate_of, read_video, video_facts

CONTAINERS = {
    ".mp4": ("mp4", "libx264"),
    ".mkv": ("matroska", "libx264"),
    ".avi": ("avi", "mpeg4"),
    ".webm": ("webm", "libvpx"),
}


def pattern(number: int, height: int = 48, width: int = 64) -> np.ndarray:
    """A frame whose number can be read from it: so many columns of four pixels are white."""
    image_HW3 = np.zeros((height, width, 3), np.uint8)
    image_HW3[:, : 4 * number] = 255
    return image_HW3


def number_of(image_HW3: np.ndarray) -> int:
    return round(float((image_HW3[..., 0] > 127).sum(axis=1).mean()) / 4)


def write(path: Path, frames: list[np.ndarray], times=None, turn=0) -> Path:
    """By PyAV alone, with B-frames where the codec has them: coded order is not shown order."""
    kind, codec = CONTAINERS[path.suffix]
    with av.open(str(path), "w", format=kind) as container:
        stream = container.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt = *frames[0].shape[1::-1], "yuv420p"
        if turn:
            stream.set_display_rotation(turn)
        for t, image in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            if times is not None:
                frame.pts, frame.time_base = round(times[t] * 1000), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize("suffix", CONTAINERS)
def test_every_frame_comes_once_in_the_order_in_which_it_is_shown(
    tmp_path: Path, suffix: str
) -> None:
    path = write(tmp_path / f"clip{suffix}", [pattern(n) for n in range(16)])

    frames = list(read_video(path))

    assert [frame.number for frame in frames] == list(range(16))
    assert [number_of(frame.image_HW3) for frame in frames] == list(range(16))
    assert [frame.time_s for frame in frames] == pytest.approx([n / 10 for n in range(16)])
    facts = video_facts(path)
    assert (facts.height, facts.width, facts.fps) == (48, 64, 10)


@pytest.mark.parametrize(("degrees", "quarters"), [(90, 1), (180, 2), (-90, 3)])
def test_frames_are_upright_as_the_file_says(tmp_path: Path, degrees: int, quarters: int) -> None:
    image = np.zeros((48, 64, 3), np.uint8)
    image[:16, :24] = 255  # one corner
    stored = next(read_video(write(tmp_path / "stored.mp4", [image] * 3))).image_HW3

    path = write(tmp_path / "turned.mp4", [image] * 3, turn=degrees)

    shown = next(read_video(path)).image_HW3
    np.testing.assert_array_equal(shown, np.rot90(stored, quarters))  # counterclockwise
    facts = video_facts(path)
    assert (facts.height, facts.width) == shown.shape[:2]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".webm", ".avi"])
@pytest.mark.parametrize("share", [0.3, 0.7, 0.97])
def test_what_is_cut_off_is_refused_after_its_whole_frames(
    tmp_path: Path, suffix: str, share: float
) -> None:
    rng = np.random.default_rng(0)
    noisy = [rng.integers(0, 255, (48, 64, 3), np.uint8) for _ in range(20)]
    content = write(tmp_path / f"whole{suffix}", noisy).read_bytes()
    path = tmp_path / f"cut{suffix}"
    path.write_bytes(content[: int(share * len(content))])
    seen = []

    with pytest.raises(ValueError, match=f"cut{suffix} cannot be decoded") as caught:
        seen.extend(read_video(path))

    assert len(seen) < 20
    assert "\n" not in str(caught.value)


def test_pictures_that_no_decoder_knows_are_refused(tmp_path: Path) -> None:
    content = write(tmp_path / "whole.mp4", [pattern(0)]).read_bytes()
    (tmp_path / "odd.mp4").write_bytes(content.replace(b"avc1", b"zzzz").replace(b"mp4v", b"zzzz"))
    for read in (video_facts, lambda path: list(read_video(path))):
        with pytest.raises(ValueError, match=r"odd.mp4 cannot be decoded \(its pictures are of"):
            read(tmp_path / "odd.mp4")


def test_the_clock_of_a_browser_is_no_rate(tmp_path: Path) -> None:
    """Its recordings name milliseconds; the times of their frames hold all the same."""
    path = tmp_path / "clip.avi"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=1000)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for t in range(4):
            frame = av.VideoFrame.from_ndarray(pattern(t), format="rgb24")
            frame.pts, frame.time_base = 40 * t, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    assert video_facts(path).fps is None
    assert len(list(read_video(path))) == 4


def test_what_is_no_video_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("no video")
    (tmp_path / "empty.mp4").touch()
    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        silence = av.AudioFrame.from_ndarray(
            np.zeros((1, 1024), np.float32), format="fltp", layout="mono"
        )
        silence.rate = 8000
        container.mux(stream.encode(silence))
        container.mux(stream.encode())

    for name in ("text.mp4", "empty.mp4", "sound.mp4", "absent.mp4"):
        with pytest.raises(ValueError, match=name) as caught:
            list(read_video(tmp_path / name))
        assert "\n" not in str(caught.value)


def test_rates_of_television_are_exact() -> None:
    assert [rate_of(v) for v in (25, 30000 / 1001, 24000 / 1001, 60)] == [
        25,
        rate_of(30000 / 1001),
        rate_of(24000 / 1001),
        60,
    ]
    assert str(rate_of(30000 / 1001)) == "30000/1001"
    assert str(rate_of(24000 / 1001)) == "24000/1001"


def test_video_files_are_told_by_their_ending() -> None:
    assert is_video_file(Path("a/b.MP4"))
    assert not is_video_file(Path("a/b.jpg"))
