"""Predictions on videos: an MP4 that shows them and the files of each frame, in constant memory.

A `VideoPredictor` takes the frames of one video and gives each back with a picture of what it
found; what it writes besides is its own affair. Three are here and beside this file:

* `ImagePredictor`: any model of pictures, frame by frame (detector, segmentation, depth).
* `video_tracks.TrackPredictor`: boxes with identities.
* `video_masks.MaskPredictor`: masks of the first frame, passed on.

Ctrl-C ends a video after the frame that is being worked on; what was written stays whole.
"""

from __future__ import annotations

import contextlib
import json
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

import numpy as np

from pe_dense.data.video_file import VideoFrame
from pe_dense.files import temporary_beside
from pe_dense.predict.video_mp4 import Mp4File
from pe_dense.predict.video_source import DEFAULT_FPS, VideoSource, open_source

REPORT_SECONDS = 5.0  # between lines of progress


class VideoPredictor(Protocol):
    """What is done with a video.

    Attributes:
        as_stored: Whether frames of a folder are wanted as they are stored; see `open_source`.
        bits: Of 16-bit frames in a folder.
    """

    as_stored: bool
    bits: int | None

    def predict(
        self, source: VideoSource, frames: Iterator[VideoFrame], folder: Path
    ) -> Iterator[tuple[VideoFrame, np.ndarray]]:
        """Each frame with its picture, RGB uint8 (H, W, 3), in order.

        Args:
            source: Where the frames are from.
            frames: Taken one by one; they end when the video does, or when somebody ends it.
            folder: For the files of this video; made by whoever writes there.
        """
        ...


class ImageModel(Protocol):
    """A model of pictures, such as `pe_dense.predict.predictor.Predictor`."""

    def predict_batch(self, images_HW3: Sequence[np.ndarray]) -> Sequence[Any]:
        """Pictures, RGB uint8 (H, W, 3) -> one result each, which draws and saves itself."""
        ...


class ImagePredictor:
    """A model of pictures on every frame of a video.

    Detections go into one 'detections.json' in the form of COCO's results, whose image_id is the
    number of the frame from 0; other results into a file of their own for each frame.

    Args:
        model: Finds something in pictures.
        suffixes: Of the files of each frame, as the results take them: '.png' for label maps and
            depth of 16 bits, '.npy' for depth in metres. Not used for detections.
        batch_size: Frames that the model sees at once, and that stay in memory.
        bits: Of 16-bit frames in a folder.

    Raises:
        ValueError: If `batch_size` is less than 1.
    """

    as_stored = False

    def __init__(
        self,
        model: ImageModel,
        suffixes: Sequence[str] = (".png",),
        batch_size: int = 1,
        bits: int | None = None,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size={batch_size} must be at least 1")
        self.model, self.suffixes, self.batch_size = model, tuple(suffixes), batch_size
        self.bits = bits

    def predict(
        self, source: VideoSource, frames: Iterator[VideoFrame], folder: Path
    ) -> Iterator[tuple[VideoFrame, np.ndarray]]:
        """See `VideoPredictor`."""
        with contextlib.ExitStack() as stack:
            rows: CocoRows | None = None
            for batch in batches(frames, 1 if source.is_live else self.batch_size):
                found = self.model.predict_batch([frame.image_HW3 for frame in batch])
                for frame, result in zip(batch, found, strict=True):
                    if hasattr(result, "coco"):
                        if rows is None:
                            rows = stack.enter_context(CocoRows(folder / "detections.json"))
                        rows.add(frame.number, result.coco())
                    else:
                        for suffix in self.suffixes:
                            result.save(folder / f"{frame_name(frame)}{suffix}")
                    yield frame, result.draw()


class CocoRows:
    """A JSON list of COCO's results that is written as it comes; a context.

    The file is whole when the context ends, also by an error: what was found before counts.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> CocoRows:
        self._stack = contextlib.ExitStack()
        self._temporary = self._stack.enter_context(temporary_beside(self.path))
        self._file = self._stack.enter_context(self._temporary.open("w", encoding="utf-8"))
        self._file.write("[")
        self._is_first = True
        return self

    def __exit__(self, *_: object) -> None:
        with self._stack:
            self._file.write("\n]\n")
            self._file.close()
            self._temporary.replace(self.path)

    def add(self, image_id: int, rows: Sequence[Mapping[str, Any]]) -> None:
        """Append the detections of a frame."""
        for row in rows:
            self._file.write("\n" if self._is_first else ",\n")
            self._file.write(json.dumps({"image_id": image_id, **row}))
            self._is_first = False


def batches(frames: Iterator[VideoFrame], size: int) -> Iterator[list[VideoFrame]]:
    """So many frames at a time; the last time perhaps fewer.

    An error of the frames comes after those before it.
    """
    batch: list[VideoFrame] = []
    try:
        for frame in frames:
            batch.append(frame)
            if len(batch) == size:
                yield batch
                batch = []
    except ValueError:
        if batch:
            yield batch
        raise
    if batch:
        yield batch


@dataclass
class VideoOutcome:
    """What became of one video.

    Attributes:
        name: Of the video.
        video: The MP4, None where no frame was predicted.
        num_frames: Predicted.
        seconds: That it took.
        error: Why it ended before its time, in one sentence; '' where it did not.
        notes: What a person should know besides.
    """

    name: str
    video: Path | None = None
    num_frames: int = 0
    seconds: float = 0.0
    error: str = ""
    notes: list[str] = field(default_factory=list)

    def line(self) -> str:
        """One line for a person."""
        rate = self.num_frames / self.seconds if self.seconds else 0.0
        words = [f"{self.name}: {self.num_frames} frames, {rate:.1f} a second"]
        words += [f"-> {self.video}"] if self.video else []
        words += [f"({note})" for note in self.notes]
        return " ".join(words)


def predict_videos(
    inputs: Sequence[str],
    out: Path,
    predictor: VideoPredictor,
    fps: float | None = None,
    tell: Callable[[str], None] = print,
    open_camera: Callable[[int], Any] | None = None,
    note: Callable[[str, VideoOutcome], None] | None = None,
) -> list[VideoOutcome]:
    """Predict on videos: 'OUT/<name>.mp4' and whatever the predictor writes into 'OUT/<name>/'.

    A video that cannot be read to its end stops nothing else: what was predicted of it stays, and
    its outcome says why.

    Args:
        inputs: Video files, folders of frames, numbers of cameras.
        out: Folder; files of an earlier run in it are refused.
        predictor: What is done.
        fps: Of the MP4 where a source has no rate of its own; None: 25.
        tell: Gets lines of progress.
        open_camera: See `open_source`.
        note: Gets each input and its outcome as soon as it is there.

    Returns:
        One outcome for each input, in order; `error` is not empty where one failed, and where
        Ctrl-C came before its end or its beginning (a camera has no other end).

    Raises:
        ValueError: If two videos would have one name, or results of an earlier run are there.
    """
    names = [_name(text) for text in inputs]
    for name, text in zip(names, inputs, strict=True):
        if names.count(name) > 1:
            raise ValueError(
                f"two videos are called {name!r}, {text} among them, so their results would be "
                "written over one another; rename one, or give them to runs of their own"
            )
        for there in (out / f"{name}.mp4", out / name):
            if there.exists():
                raise ValueError(f"{there} is there from an earlier run; name another --out")
    outcomes = []
    with _stops_on_ctrl_c(tell) as stop:
        for text, name in zip(inputs, names, strict=True):
            outcome = VideoOutcome(name)
            started = time.monotonic()
            try:
                if stop.is_set():
                    raise ValueError(f"{text} was not begun: Ctrl-C ended the one before it")
                source = open_source(text, predictor.as_stored, predictor.bits, open_camera)
                _predict_one(source, out, predictor, fps, stop, outcome, tell)
            except ValueError as error:
                outcome.error = str(error)
            outcome.seconds = time.monotonic() - started
            tell(f"error: {outcome.error}" if outcome.error else outcome.line())
            if note is not None:
                note(text, outcome)
            outcomes.append(outcome)
    return outcomes


def frame_name(frame: VideoFrame) -> str:
    """What files of a frame are called: as its own file, else its number from 0.

    Example:
        >>> frame_name(VideoFrame(7, 0.28, np.zeros((1, 1, 3), np.uint8)))
        '000007'
    """
    return f"{frame.number:06d}" if frame.name is None else Path(frame.name).stem


def video_of(out: Path, text: str) -> Path:
    """The MP4 that an input becomes; it is there whole or not at all."""
    return out / f"{_name(text)}.mp4"


def _name(text: str) -> str:
    path = Path(text)
    if text.isascii() and text.isdigit() and not path.exists():
        return f"camera{int(text)}"
    return path.resolve().name if path.is_dir() else path.stem


def _predict_one(
    source: VideoSource,
    out: Path,
    predictor: VideoPredictor,
    fps: float | None,
    stop: threading.Event,
    outcome: VideoOutcome,
    tell: Callable[[str], None],
) -> None:
    """Run one video; `outcome` knows at every time how far it is."""
    target = out / f"{source.name}.mp4"
    error: ValueError | None = None
    with Mp4File(target, source.fps or fps or DEFAULT_FPS) as video:
        shown = time.monotonic()
        pictures = predictor.predict(source, _until(source.frames(), stop), out / source.name)
        try:
            for frame, picture_HW3 in pictures:
                video.add(picture_HW3, frame.time_s)
                outcome.num_frames += 1
                if time.monotonic() - shown > REPORT_SECONDS:
                    shown = time.monotonic()
                    total = f" of {source.num_frames}" if source.num_frames else ""
                    tell(f"{source.name}: frame {outcome.num_frames}{total}")
        except ValueError as found:  # the frames before it stay
            error = found
    if outcome.num_frames:
        outcome.video = target
        if any(video.padded):
            outcome.notes.append(
                "the MP4 repeats the last row or column, since its sides must be even"
            )
    if stop.is_set() and source.is_live:
        outcome.notes.append("ended by Ctrl-C")
    elif stop.is_set() and error is None and outcome.num_frames != source.num_frames:
        error = ValueError(f"{source.where} was ended by Ctrl-C before its end")
    if error is not None:
        done = f"; the {outcome.num_frames} frames before were written" * bool(outcome.num_frames)
        raise ValueError(f"{error}{done}") from error


def _until(frames: Iterator[VideoFrame], stop: threading.Event) -> Iterator[VideoFrame]:
    """The frames until somebody ends them."""
    for frame in frames:
        if stop.is_set():
            break
        yield frame


@contextlib.contextmanager
def _stops_on_ctrl_c(tell: Callable[[str], None]) -> Iterator[threading.Event]:
    """An event that the first Ctrl-C sets; the second one interrupts as ever."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def ask(number: int, frame: FrameType | None) -> None:
        stop.set()
        signal.signal(signal.SIGINT, before)
        tell("ending after this frame; Ctrl-C again ends at once")

    before = signal.signal(signal.SIGINT, ask)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)
