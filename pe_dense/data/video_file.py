"""Frames of a video file, one after the other: exact order and count, upright, with their times.

Decoding is FFmpeg's, through PyAV. Frames come in the order in which they are shown, whatever the
order in the file. Pixels are turned as the display matrix of the file says (phones write one);
colours are those that FFmpeg's scaler makes of the file's colour space, as RGB of 8 bits.

A file that is broken, cut off, or changes its size is refused, in one sentence that names it; the
frames before that point have been given by then. Nothing stands in for a frame that is missing.
Memory does not grow with the length of a video.

Shape legend: H W pixels.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

VIDEO_SUFFIXES = (
    ".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv", ".ts", ".ogv",
)  # fmt: skip
MOST_FPS = 1000  # below it
MISSING_PYAV = (
    "reading and writing videos needs the package 'av' (PyAV), which is not installed; run: "
    "pip install 'pe_dense[video]'"
)


class VideoFrame(NamedTuple):
    """A frame of a video.

    Attributes:
        number: Counted from 0.
        time_s: When it is shown, in seconds of the file's clock; None where the file does not say.
        image_HW3: RGB uint8, upright.
        name: Of its file, where frames are files; else None.
    """

    number: int
    time_s: float | None
    image_HW3: np.ndarray
    name: str | None = None


@dataclass(frozen=True)
class VideoFacts:
    """What the head of a video file says.

    Attributes:
        height, width: Of its frames as they are shown, upright.
        fps: Frames a second on average; None where the file does not say, or names its clock
            instead (recordings of browsers: 1000).
        stated_frames: Frames by the head of the file; None where it does not say.
        codec: Name of the decoder.
    """

    height: int
    width: int
    fps: float | None
    stated_frames: int | None
    codec: str


def require_pyav() -> Any:
    """The module `av`.

    Raises:
        ValueError: If PyAV is not installed.
    """
    try:
        import av
    except ImportError as error:
        raise ValueError(MISSING_PYAV) from error
    return av


def is_video_file(path: Path) -> bool:
    """Whether a path ends as video files do; nothing is opened."""
    return path.suffix.lower() in VIDEO_SUFFIXES


def video_facts(path: Path) -> VideoFacts:
    """What a video file says of itself, its first frame decoded.

    Raises:
        ValueError: If it is missing, no video, or its first frame cannot be decoded.
    """
    with _Opened(path) as video:
        frame = next(video.frames(), None)
        if frame is None:
            raise _undecodable(path, "it has no frame")
        rate = video.stream.average_rate or video.stream.guessed_rate
        return VideoFacts(
            height=frame.image_HW3.shape[0],
            width=frame.image_HW3.shape[1],
            fps=float(rate) if rate and rate < MOST_FPS else None,
            stated_frames=video.stream.frames or None,
            codec=video.stream.codec_context.name,
        )


def read_video(path: Path) -> Iterator[VideoFrame]:
    """All frames of a video file, in the order in which they are shown.

    Raises:
        ValueError: If the file is missing, no video or has none; at the frame that cannot be
            decoded or is of another size; at the end if the file is cut off.
    """
    with _Opened(path) as video:
        count = 0
        for frame in video.frames():
            count += 1
            yield frame
        if not count:
            raise _undecodable(path, "it has no frame")


class _Opened:
    """A video file that is open for decoding, as a context."""

    def __init__(self, path: Path) -> None:
        self.path, self.av = Path(path), require_pyav()
        if not self.path.is_file():
            raise ValueError(f"video {path} does not exist; correct its name")
        try:
            self.container = self.av.open(str(self.path))
        except (self.av.FFmpegError, OSError, ValueError, IndexError) as error:
            raise _undecodable(path, _words(error)) from error
        if not self.container.streams.video:
            self.container.close()
            raise _undecodable(path, "it holds no pictures")
        self.stream = self.container.streams.video[0]
        if self.stream.codec_context is None:
            self.container.close()
            raise _undecodable(path, "its pictures are of a kind that FFmpeg does not know")
        self.stream.thread_type = "AUTO"
        # Damage is an error, not a guess: a decoder may otherwise fill what is lost from elsewhere.
        self.stream.codec_context.options = {"err_detect": "explode"}

    def __enter__(self) -> _Opened:
        return self

    def __exit__(self, *_: object) -> None:
        self.container.close()

    def frames(self) -> Iterator[VideoFrame]:
        """Frames from the first; only once."""
        number, packets, size = 0, 0, None
        try:
            for packet in self.container.demux(self.stream):
                if packet.is_corrupt:
                    raise _undecodable(self.path, f"it is damaged after frame {number}")
                packets += packet.size > 0
                for frame in packet.decode():
                    if frame.is_corrupt:
                        raise _undecodable(self.path, f"frame {number} is damaged")
                    image_HW3 = _upright(frame, self.path)
                    size = size or image_HW3.shape
                    if image_HW3.shape != size:
                        raise ValueError(
                            f"video {self.path} has frames of {size[0]} x {size[1]} px and, from "
                            f"frame {number}, of {image_HW3.shape[0]} x {image_HW3.shape[1]}; "
                            "split it where the size changes"
                        )
                    yield VideoFrame(number, frame.time, image_HW3)
                    number += 1
        except self.av.FFmpegError as error:
            raise _undecodable(self.path, f"after frame {number}: {_words(error)}") from error
        expected = self._indexed_packets()
        if packets < expected:
            raise _undecodable(
                self.path, f"it is cut off: {packets} of {expected} coded frames are there"
            )
        size_of = {"matroska,webm": matroska_size, "avi": riff_size}.get(self.container.format.name)
        stated, there = size_of and size_of(self.path), self.path.stat().st_size
        if stated is not None and there < stated:
            raise _undecodable(self.path, f"it is cut off: {there} of {stated} bytes are there")

    def _indexed_packets(self) -> int:
        """How many coded frames the index of an MP4 or MOV lists; 0 for files without one."""
        if "mov" not in self.container.format.name:
            return 0
        return len(self.stream.index_entries)


def _upright(frame: Any, path: Path) -> np.ndarray:
    """(H, W, 3) RGB uint8 as the display matrix wants it shown."""
    image_HW3 = frame.to_ndarray(format="rgb24")
    matrix = next(
        (bytes(data) for data in frame.side_data if data.type.name == "DISPLAYMATRIX"), None
    )
    if matrix is None:
        return image_HW3
    # Two rows of (a, b, u), 16.16 fixed point: a stored pixel (x, y) is shown at
    # (a x + c y, b x + d y) and a shift.
    a, b, _, c, d = (value / 65536 for value in struct.unpack("=9i", matrix)[:5])
    axes = (round(a), round(b), round(c), round(d))
    is_right_angle = all(
        abs(value - rounded) < 0.01 for value, rounded in zip((a, b, c, d), axes, strict=True)
    )
    if not is_right_angle or axes not in _TURNS:
        raise _undecodable(path, "it is to be shown turned by no multiple of 90 degrees")
    swaps, flips_rows, flips_columns = _TURNS[axes]
    if swaps:
        image_HW3 = image_HW3.swapaxes(0, 1)
    if flips_rows:
        image_HW3 = image_HW3[::-1]
    if flips_columns:
        image_HW3 = image_HW3[:, ::-1]
    return np.ascontiguousarray(image_HW3)


# (a, b, c, d) of a display matrix -> axes swapped, then rows and columns reversed.
_TURNS = {
    (1, 0, 0, 1): (False, False, False),
    (-1, 0, 0, 1): (False, False, True),
    (1, 0, 0, -1): (False, True, False),
    (-1, 0, 0, -1): (False, True, True),
    (0, 1, 1, 0): (True, False, False),
    (0, 1, -1, 0): (True, False, True),
    (0, -1, 1, 0): (True, True, False),
    (0, -1, -1, 0): (True, True, True),
}


def matroska_size(path: Path) -> int | None:
    """Bytes that an MKV or WebM should have by its head; None where it does not say.

    A demuxer takes the end of such a file for the end of the video, wherever it is.

    Source: RFC 8794 (EBML), sections 4 and 5: an element is an id, a size and content, and ones in
    all bits of a size mean that it is not known.
    """
    with path.open("rb") as file:
        head = file.read(4096)
    place = 0
    for identity in (b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"):  # EBML header, Segment
        if head[place : place + 4] != identity or len(head) < place + 12:
            return None
        place += 4
        length = 9 - head[place].bit_length()  # bytes of the size
        bits = 7 * length
        size = int.from_bytes(head[place : place + length], "big") & ((1 << bits) - 1)
        place += length
        is_known = size != (1 << bits) - 1
        if identity[0] == 0x18:
            return place + size if is_known else None
        place += size
    return None


def riff_size(path: Path) -> int | None:
    """Bytes that an AVI should have at least by its head; None where it does not say.

    Of an AVI above 1 GB this is the first of its parts. Source: Multimedia Programming Interface
    and Data Specifications 1.0 (IBM, Microsoft): a chunk is a name, a size of 4 bytes and content.
    """
    with path.open("rb") as file:
        head = file.read(8)
    if len(head) < 8 or head[:4] != b"RIFF":
        return None
    size = int.from_bytes(head[4:], "little")
    return 8 + size if size else None


def rate_of(fps: float) -> Fraction:
    """A frame rate as a fraction, exact for those of television (30000 / 1001).

    Example:
        >>> rate_of(25.0), rate_of(29.97002997)
        (Fraction(25, 1), Fraction(30000, 1001))
    """
    for base in (1, 1001):
        whole = round(fps * base / (1 if base == 1 else 1000))
        rate = Fraction(whole * (1 if base == 1 else 1000), base)
        if abs(float(rate) - fps) < 1e-4 * fps and whole:
            return rate
    return Fraction(fps).limit_denominator(1001)


def _words(error: Exception) -> str:
    text = getattr(error, "strerror", None) or str(error)
    return " ".join(text.split()) or type(error).__name__


def _undecodable(path: Path, reason: str) -> ValueError:
    return ValueError(f"video {path} cannot be decoded ({reason}); replace the file")
