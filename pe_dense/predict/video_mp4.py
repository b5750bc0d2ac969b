"""Writing an MP4 frame by frame: whole or not at all, with the times of its frames.

H.264 where FFmpeg has an encoder for it, else MPEG-4. Both want even sides: a picture of an odd
side gets its last row or column twice, so that no pixel is lost. Memory does not grow with the
length of a video.

Shape legend: H W pixels.
"""

from __future__ import annotations

import contextlib
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from pe_dense.data.video_file import rate_of, require_pyav
from pe_dense.files import temporary_beside

CODECS = ("libx264", "libopenh264", "mpeg4")
MOST_TICKS = 60000  # a second; MPEG-4 takes no more than 65535
_BITS_PER_PIXEL = 0.3  # of a frame, for encoders that want a bit rate


class Mp4File:
    """An MP4 under its hidden name until it is closed without an error; a context.

    Args:
        path: Of the file.
        fps: Frames a second; used where frames come without times.

    Raises:
        ValueError: If `fps` is not positive, or PyAV is not installed.
    """

    def __init__(self, path: Path, fps: float) -> None:
        if not 0 < fps < 1000:
            raise ValueError(f"{fps} frames a second are no rate of a video; give 1 to 1000")
        self.path, self.fps, self.rate = Path(path), fps, rate_of(fps)
        # Ticks of the clock: whole ones for a frame, and as many as may be for times between.
        self.ticks = self.rate.numerator * (MOST_TICKS // self.rate.numerator) or MOST_TICKS
        self.codec: str | None = None
        self.num_frames = 0
        self.padded = (0, 0)  # rows and columns that even sides need
        self._av = require_pyav()
        self._stack = contextlib.ExitStack()
        self._container: Any = None
        self._last_tick = -1
        self._start_s: float | None = None

    def __enter__(self) -> Mp4File:
        self._temporary = self._stack.enter_context(temporary_beside(self.path, ".mp4.tmp"))
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if self._container is not None:
                self._close(keeps=kind is None)
        finally:
            self._stack.close()

    def add(self, image_HW3: np.ndarray, time_s: float | None = None) -> None:
        """Append a frame.

        Args:
            image_HW3: RGB uint8; all of one size.
            time_s: When it is shown; the first one begins the video. None: one frame later.

        Raises:
            ValueError: If the size differs from that of the first frame.
        """
        if self._container is None:
            self._open(image_HW3.shape)
            self._start_s = time_s
        if image_HW3.shape != self._shape:
            raise ValueError(
                f"a frame of {image_HW3.shape[0]} x {image_HW3.shape[1]} px does not go into "
                f"{self.path} of {self._shape[0]} x {self._shape[1]}; split the video where the "
                "size changes"
            )
        if any(self.padded):
            rows, columns = self.padded
            image_HW3 = np.pad(image_HW3, ((0, rows), (0, columns), (0, 0)), mode="edge")
        frame = self._av.VideoFrame.from_ndarray(np.ascontiguousarray(image_HW3), format="rgb24")
        frame.pts, frame.time_base = self._tick(time_s), Fraction(1, self.ticks)
        self._container.mux(self._stream.encode(frame))
        self.num_frames += 1

    def _tick(self, time_s: float | None) -> int:
        step = self.ticks / self.rate
        if time_s is None or self._start_s is None:
            tick = round(self.num_frames * step)
        else:
            tick = round((time_s - self._start_s) * self.ticks)
        self._last_tick = max(tick, self._last_tick + 1)  # clocks that jump back
        return self._last_tick

    def _open(self, shape: tuple[int, ...]) -> None:
        self._shape = shape
        self.padded = shape[0] % 2, shape[1] % 2
        height, width = shape[0] + self.padded[0], shape[1] + self.padded[1]
        self._container = self._av.open(
            str(self._temporary), "w", format="mp4", options={"movflags": "faststart"}
        )
        self.codec = codec_here()
        self._stream = self._container.add_stream(self.codec, rate=self.rate)
        self._stream.width, self._stream.height, self._stream.pix_fmt = width, height, "yuv420p"
        self._stream.time_base = self._stream.codec_context.time_base = Fraction(1, self.ticks)
        if self.codec != "libx264":
            self._stream.bit_rate = int(_BITS_PER_PIXEL * width * height * self.fps) + 1
        else:
            self._stream.options = {"preset": "veryfast", "crf": "20"}

    def _close(self, keeps: bool) -> None:
        with contextlib.closing(self._container):
            self._container.mux(self._stream.encode())
        if keeps:
            self._temporary.replace(self.path)


def codec_here() -> str:
    """The first of `CODECS` that this FFmpeg can write.

    Raises:
        ValueError: If it has none.
    """
    av = require_pyav()
    for name in CODECS:
        try:
            av.codec.Codec(name, "w")
        except av.codec.codec.UnknownCodecError:
            continue
        return name
    raise ValueError(
        "this FFmpeg has no encoder for MP4 (H.264 or MPEG-4); install another PyAV: pip install av"
    )
