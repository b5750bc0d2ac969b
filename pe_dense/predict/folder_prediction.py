"""Predicts many pictures into a folder: reads ahead, runs batches, writes behind, and goes on.

Pictures are decoded by threads while the model runs, and files are written by others. A picture
that cannot be read, or that the model cannot take, is listed and stops nothing else.
"""

from __future__ import annotations

import collections
import errno
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from pe_dense.predict.inputs import Source, output_stems
from pe_dense.predict.journal import Done, Journal, Stamp
from pe_dense.predict.predictor import Predictor, Prepared
from pe_dense.predict.progress import Progress
from pe_dense.predict.results import Result
from pe_dense.predict.writing import Writer

READERS = min(4, os.cpu_count() or 1)
WRITERS = min(4, os.cpu_count() or 1)
# What a picture can raise; anything else is a bug of this program and stops it.
PICTURE_ERRORS = (ValueError, OSError, RuntimeError, MemoryError)


@dataclass
class Outcome:
    """What became of the pictures.

    Attributes:
        predicted: Predicted now.
        earlier: Predicted by the part of the run that was there before.
        failed: Why not, by path.
        clipped_pixels: Of depth, all pictures together.
        videos: That were predicted, now or before.
    """

    predicted: int = 0
    earlier: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    clipped_pixels: int = 0
    videos: int = 0


def predict_pictures(
    predictor: Predictor,
    sources: Sequence[Source],
    journal: Journal,
    writer: Writer,
    batch_size: int,
) -> Outcome:
    """Predict all pictures that the journal does not have.

    Args:
        predictor: The model.
        sources: The pictures.
        journal: Of the folder; one line is added a picture.
        writer: Of the files.
        batch_size: Pictures that run together, if they are of one size for the model.

    Raises:
        ValueError: If two pictures would have the same files.
        OSError: If the folder cannot be written.
    """
    stems = output_stems([source.name for source in sources])
    outcome = Outcome()
    todo = []
    for source in sources:
        if _is_done(journal.done.get(source.name), source, stems[source.name], writer.out):
            outcome.earlier += 1
        else:
            todo.append(source)
    progress = Progress(len(todo))
    stamps: dict[str, Stamp] = {}
    with _Behind(WRITERS, limit=4 * batch_size) as behind:
        for read in _batches(_read_ahead(predictor, todo, batch_size, stamps), batch_size):
            for source, result in _predict(predictor, read):
                if isinstance(result, str):
                    outcome.failed[str(source.file)] = result
                    progress.add()
                else:
                    stamp = stamps.pop(source.name)
                    behind.submit(source, _write, writer, result, stems[source.name], stamp)
            _note(behind.finished(), journal, outcome, progress)
        _note(behind.all(), journal, outcome, progress)
    names = {source.name for source in sources}
    outcome.clipped_pixels = sum(
        done.facts.get("clipped_pixels", 0) for name, done in journal.done.items() if name in names
    )
    return outcome


def stamp_of(file: Path) -> Stamp:
    """Bytes, times of change and place on the disk, by which a changed or other file is known.

    The time that tools can set is not enough: archives give all their files the same one.
    """
    facts = file.stat()
    return facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns, facts.st_ino


def _is_done(done: Done | None, source: Source, stem: str, out: Path) -> bool:
    """Whether a picture was predicted as it is now, and its files are there."""
    if done is None or not source.file.is_file() or done.stamp != stamp_of(source.file):
        return False
    names = done.outputs.values()
    return all(n.partition("/")[2].rpartition(".")[0] == stem for n in names) and all(
        (out / name).is_file() for name in names
    )


def _read_ahead(
    predictor: Predictor, sources: Sequence[Source], batch_size: int, stamps: dict[str, Stamp]
) -> Iterator[tuple[Source, Prepared | str]]:
    """Each picture prepared, or why not, in order; some more are read while one is used.

    `stamps` gets that of each picture by name, from before it is read: what is changed later is
    another picture.
    """

    def read(source: Source) -> Prepared | str:
        try:
            if source.file.is_file():  # `Predictor.read` says it of others
                stamps[source.name] = stamp_of(source.file)
            return predictor.prepare(predictor.read(source.file), source.file)
        except PICTURE_ERRORS as error:
            return reason(error)

    waiting: collections.deque[tuple[Source, Future[Prepared | str]]] = collections.deque()
    pool = ThreadPoolExecutor(READERS, "read")
    try:
        for source in sources:
            waiting.append((source, pool.submit(read, source)))
            if len(waiting) > READERS + 2 * batch_size:
                first, future = waiting.popleft()
                yield first, future.result()
        while waiting:
            first, future = waiting.popleft()
            yield first, future.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _batches(
    items: Iterator[tuple[Source, Prepared | str]], size: int
) -> Iterator[list[tuple[Source, Prepared | str]]]:
    batch = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def _predict(
    predictor: Predictor, read: Sequence[tuple[Source, Prepared | str]]
) -> list[tuple[Source, Result | str]]:
    """Results of a batch, or why there is none; what fails together is tried one by one."""
    found: list[tuple[Source, Result | str]] = [(s, p) for s, p in read if isinstance(p, str)]
    good = [(s, p) for s, p in read if not isinstance(p, str)]
    try:
        results = predictor.predict([prepared for _, prepared in good])
        return found + list(zip([source for source, _ in good], results, strict=True))
    except PICTURE_ERRORS as error:
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        if len(good) == 1:
            return [*found, (good[0][0], reason(error))]
    return found + [pair for one in good for pair in _predict(predictor, [one])]


def reason(error: BaseException) -> str:
    """Why a picture failed, on one line.

    Example:
        >>> reason(ValueError("image a.jpg is  broken")), reason(RuntimeError())
        ('image a.jpg is broken', 'RuntimeError')
    """
    text = " ".join(str(error).split())
    if isinstance(error, ValueError) and text:
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _write(writer: Writer, result: Result, stem: str, stamp: Stamp) -> dict[str, Any] | str:
    """The line of the journal on a picture whose files are now there, or why they are not."""
    assert result.file is not None
    height, width = result.size
    try:
        written = writer.write(result, stem)
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        return f"what is made of it would have too long a name ({error.strerror}); shorten its name"
    return dict(
        file=str(result.file), stamp=stamp, size=(width, height), outputs=written.outputs,
        facts=written.facts, found=written.found,
    )  # fmt: skip


def _note(
    written: Sequence[tuple[Source, Mapping[str, Any] | str]],
    journal: Journal,
    outcome: Outcome,
    progress: Progress,
) -> None:
    for source, entry in written:
        if isinstance(entry, str):
            outcome.failed[str(source.file)] = entry
        else:
            journal.add(source.name, entry)
            outcome.predicted += 1
        progress.add()


class _Behind:
    """Work that threads do behind, in order of being finished with, and not too much at once."""

    def __init__(self, threads: int, limit: int) -> None:
        self._pool = ThreadPoolExecutor(threads, "write")
        self._limit = limit
        self._waiting: collections.deque[tuple[Source, Future[Any]]] = collections.deque()
        self._ready: list[tuple[Source, Any]] = []

    def __enter__(self) -> _Behind:
        return self

    def __exit__(self, *error: object) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def submit(self, source: Source, work: Any, *arguments: Any) -> None:
        """Do it soon; waits while too much is to be done."""
        self._waiting.append((source, self._pool.submit(work, *arguments)))
        while len(self._waiting) > self._limit:
            self._take()

    def finished(self) -> list[tuple[Source, Any]]:
        """What is done by now, in the order of `submit`."""
        while self._waiting and self._waiting[0][1].done():
            self._take()
        return self._handed()

    def all(self) -> list[tuple[Source, Any]]:
        """The rest, waited for."""
        while self._waiting:
            self._take()
        return self._handed()

    def _take(self) -> None:
        source, future = self._waiting.popleft()
        self._ready.append((source, future.result()))

    def _handed(self) -> list[tuple[Source, Any]]:
        ready, self._ready = self._ready, []
        return ready
