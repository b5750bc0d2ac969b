"""Where frames come from: a video file, a folder of frames, or a camera.

All three give `VideoFrame`s one after the other, and hold no more than the one that is asked for.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from pe_dense.data.image_files import PICTURE_SUFFIXES
from pe_dense.data.picture import read_picture
from pe_dense.data.video_file import VideoFrame, is_video_file, read_video, video_facts
from pe_dense.tracking.frame_files import frame_files

DEFAULT_FPS = 25.0  # where nothing says it: folders of frames, some cameras


@dataclass(frozen=True)
class VideoSource:
    """A video to predict on.

    Attributes:
        name: What its results are called: the stem of its file, the name of its folder, 'camera0'.
        where: What messages call it.
        fps: Frames a second; None where nobody says.
        num_frames: None where it is not known before the end.
        frames: Opens the source and gives its frames; once for a camera.
        is_live: Whether it ends only when somebody ends it.
    """

    name: str
    where: str
    fps: float | None
    num_frames: int | None
    frames: Callable[[], Iterator[VideoFrame]]
    is_live: bool = False


def is_video_input(text: str) -> bool:
    """Whether an input is a camera's number or the name of a video file; folders are not looked at.

    Example:
        >>> is_video_input("0"), is_video_input("street.MP4"), is_video_input("street.jpg")
        (True, True, False)
    """
    return is_camera(text) or is_video_file(Path(text))


def is_camera(text: str) -> bool:
    """Whether an input is the number of a camera rather than a file of that name."""
    return text.isascii() and text.isdigit() and not Path(text).exists()


def open_source(
    text: str,
    as_stored: bool = False,
    bits: int | None = None,
    open_camera: Callable[[int], Any] | None = None,
) -> VideoSource:
    """The source that an input names.

    Args:
        text: A video file, a folder of numbered frames, or the number of a camera.
        as_stored: Frames of a folder as they are stored, which is right with masks; otherwise
            turned as Exif says.
        bits: Of 16-bit frames in a folder; see `decode_picture`.
        open_camera: Gives something with `isOpened`, `read`, `get` and `release`; by default
            OpenCV's camera.

    Raises:
        ValueError: If there is nothing of that name, it cannot be opened, or has no frame.
    """
    path = Path(text)
    if is_camera(text):
        return _camera(int(text), open_camera or cv2.VideoCapture)
    if path.is_dir():
        return _folder(path, as_stored, bits)
    if not path.exists():
        raise ValueError(
            f"{text} does not exist; give a video, a folder of frames or the number of a camera"
        )
    facts = video_facts(path)
    return VideoSource(
        path.stem, f"video {path}", facts.fps, facts.stated_frames, lambda: read_video(path)
    )


def _folder(path: Path, as_stored: bool, bits: int | None) -> VideoSource:
    files = list(frame_files(path).values())
    if not files:
        kinds = ", ".join(suffix.lstrip(".") for suffix in PICTURE_SUFFIXES[:4])
        raise ValueError(f"folder {path} holds no frame ({kinds} ...); name the folder that does")

    def frames() -> Iterator[VideoFrame]:
        size: tuple[int, ...] | None = None
        for number, file in enumerate(files):
            image_HW3 = read_picture(
                file, as_stored=as_stored, backend="pillow", bits=bits, noun="frame"
            )
            size = size or image_HW3.shape
            if image_HW3.shape != size:
                raise ValueError(
                    f"frame {file} has {image_HW3.shape[0]} x {image_HW3.shape[1]} px, the first "
                    f"frame of the video {size[0]} x {size[1]}; all frames of a video need one size"
                )
            yield VideoFrame(number, None, image_HW3, file.name)

    return VideoSource(path.resolve().name, f"folder {path}", None, len(files), frames)


def _camera(number: int, open_camera: Callable[[int], Any]) -> VideoSource:
    camera = open_camera(number)
    if not camera.isOpened():
        camera.release()
        raise ValueError(
            f"camera {number} cannot be opened; see which there are (ls /dev/video*), and whether "
            "another program has it"
        )
    stated = float(camera.get(cv2.CAP_PROP_FPS) or 0)

    def frames() -> Iterator[VideoFrame]:
        try:
            count, start = 0, time.monotonic()
            while True:
                is_read, image_HW3 = camera.read()
                if not is_read:
                    return  # it was unplugged
                time_s = time.monotonic() - start
                yield VideoFrame(count, time_s, np.ascontiguousarray(image_HW3[..., ::-1]))
                count += 1
        finally:
            camera.release()

    fps = stated if 1 <= stated <= 240 else None
    return VideoSource(f"camera{number}", f"camera {number}", fps, None, frames, is_live=True)
