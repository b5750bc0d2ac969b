"""What a folder of predictions has so far, line by line, so that a killed run goes on.

The first line says which model and settings; each other line is one picture or video, written
after its files. A kill can only cut the last line off, and what it said is done again. Of several
lines on one the last counts.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

NAME = ".predicted.jsonl"
Stamp = tuple[int, ...]  # of a file, see `folder_prediction.stamp_of`


@dataclass(frozen=True)
class Done:
    """A picture that was predicted.

    Attributes:
        file: Its path.
        stamp: Of the file when it was read, by which a changed one is known.
        size: Width and height in pixels.
        outputs: What was written, by kind, below the folder.
        facts: Counts that the index tells.
        offset: Of its line in the journal.
    """

    file: str
    stamp: Stamp
    size: tuple[int, int]
    outputs: dict[str, str]
    facts: dict[str, int]
    offset: int


class Journal:
    """The journal of a folder.

    Args:
        out: The folder; new or empty, unless `resume`.
        header: Model and settings; those of an earlier part must be the same.
        resume: Go on with what is there.

    Attributes:
        done: By name of the picture.
        videos: Stamps of videos that were predicted to their end, by name of their MP4.

    Raises:
        ValueError: If the folder holds other files, an earlier run's without `resume`, or those of
            another model or other settings.
    """

    def __init__(self, out: Path, header: Mapping[str, Any], resume: bool) -> None:
        self.path, self.header = out / NAME, dict(header)
        self.done: dict[str, Done] = {}
        self.videos: dict[str, Stamp] = {}
        _require_usable(out, self.path.is_file(), resume)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self.path.is_file():
            self._read()
        self._file = self.path.open("ab")
        if not self._file.tell():
            self._append(self.header)

    def add(self, name: str, entry: Mapping[str, Any]) -> None:
        """Note a picture whose files are written; keys as of `Done`, and `found`."""
        line = {"name": name, **entry}
        self.done[name] = _done(line, self._append(line))

    def add_video(self, name: str, stamp: Stamp) -> None:
        """Note a video that was predicted to its end."""
        self._append(dict(video=name, stamp=stamp))
        self.videos[name] = stamp

    def found(self, name: str) -> list[dict[str, Any]]:
        """The detections of a picture, as `Detections.coco` gives them."""
        with self.path.open("rb") as file:
            file.seek(self.done[name].offset)
            return list(json.loads(file.readline())["found"])

    def close(self) -> None:
        """Flush to the disk."""
        os.fsync(self._file.fileno())
        self._file.close()

    def _append(self, line: Mapping[str, Any]) -> int:
        offset = self._file.tell()
        self._file.write(json.dumps(line, separators=(",", ":")).encode() + b"\n")
        self._file.flush()
        return offset

    def _read(self) -> None:
        for left in self.path.parent.rglob(".*.tmp"):  # half a file of a killed run
            left.unlink()
        whole = 0
        with self.path.open("rb") as file:
            for number, text in enumerate(file):
                if not text.endswith(b"\n"):
                    break
                try:
                    line = json.loads(text)
                except ValueError as error:
                    raise ValueError(
                        f"line {number + 1} of {self.path} is damaged; name a new folder (--out)"
                    ) from error
                if number == 0:
                    self._require_same(line)
                elif "video" in line:
                    self.videos[line["video"]] = tuple(map(int, line["stamp"]))
                else:
                    self.done[line["name"]] = _done(line, whole)
                whole += len(text)
        os.truncate(self.path, whole)

    def _require_same(self, before: Mapping[str, Any]) -> None:
        now = json.loads(json.dumps(self.header))
        for name in sorted({*before, *now}):
            if before.get(name) != now.get(name):
                raise ValueError(
                    f"{self.path.parent} was begun with {name} {_short(before.get(name))}, and "
                    f"this is {_short(now.get(name))}; give the same, or name a new folder (--out)"
                )


def _done(line: Mapping[str, Any], offset: int) -> Done:
    width, height = line["size"]
    stamp, side = tuple(map(int, line["stamp"])), (int(width), int(height))
    return Done(line["file"], stamp, side, dict(line["outputs"]), dict(line["facts"]), offset)


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _require_usable(out: Path, has_journal: bool, resume: bool) -> None:
    if not os.path.lexists(out):
        return
    if not out.is_dir():
        raise ValueError(f"--out {out} is no folder; name another")
    if has_journal and not resume:
        raise ValueError(
            f"--out {out} holds predictions of an earlier run; go on with --resume, or name a new "
            "folder"
        )
    if not has_journal and any(out.iterdir()):
        raise ValueError(f"--out {out} holds other files; name a new or empty folder")
