"""What a killed evaluation has already found, video by video, and the folder of its results.

Both belong to one run, known by a key: a hash of everything that the results depend on, the code
included. A folder of another run is refused, so that nothing is scored or continued by mistake.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pe_dense.files import atomic_write_text, file_sha256
from pe_dense.tracking.frames import write_label_map

RUN_FILE = ".run.json"


def run_key(facts: Mapping[str, Any]) -> str:
    """sha256 of facts that JSON can hold, whatever their order."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def video_key(video: Mapping[str, Any]) -> str:
    """sha256 of the names and bytes of the files of a video, and of how it is scored."""
    files = [Path(path) for path in (*video["frame_paths"], *video["mask_paths"]) if path]
    content = [(file.name, file_sha256(file)) for file in files]
    names = ("video", "style", "purpose", "scored", "bits")
    return run_key({name: video[name] for name in names} | {"files": content})


class VideoJournal:
    """One file for each finished video, written whole.

    Args:
        folder: Made if it does not exist.
        key: Of the run, see `run_key`.

    Raises:
        ValueError: If the folder is that of another run.
    """

    def __init__(self, folder: Path, key: str) -> None:
        self.folder, self.key = Path(folder), key
        _claim(self.folder, key, "journal of finished videos")

    def read(self, video: str, key: str) -> dict[str, Any] | None:
        """What was written of a video, None if nothing was.

        Raises:
            ValueError: If the files of the video have changed since, or the file is broken.
        """
        path = self._path(video)
        if not path.is_file():
            return None
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"journal file {path} is broken; delete it") from error
        if content.get("key") != key:
            raise ValueError(
                f"journal file {path} was written for other frames or masks of {video!r}; "
                "delete it, and the results of that video"
            )
        return content["found"]

    def write(self, video: str, key: str, found: Mapping[str, Any]) -> None:
        """Keep what was found of a video; JSON values."""
        text = json.dumps({"key": key, "video": video, "found": found})
        atomic_write_text(self._path(video), text)

    def _path(self, video: str) -> Path:
        return self.folder / f"{video}.json"


class ResultsFolder:
    """Indexed PNGs `<folder>/<video>/<frame>.png`, as davis2017-evaluation reads them.

    Args:
        folder: A new or empty one, or that of the same run if `go_on`.
        key: Of the run.
        go_on: Whether the run has a journal and may continue.

    Raises:
        ValueError: If the folder holds results of another run, or of one that cannot go on.
    """

    def __init__(self, folder: Path, key: str, go_on: bool) -> None:
        self.folder = Path(folder)
        marker = self.folder / RUN_FILE
        if not go_on and self.folder.is_dir() and any(self.folder.iterdir()):
            raise ValueError(
                f"results folder {folder} is not empty; name a new one, or give the journal of "
                "the run that is to go on"
            )
        if self.folder.is_dir() and any(self.folder.iterdir()) and not marker.is_file():
            raise ValueError(f"results folder {folder} holds files of something else; name another")
        _claim(self.folder, key, "results folder")

    def write(self, video: str, frame: str, labels_HW: Any) -> None:
        """One label map, at its native size."""
        write_label_map(self.folder / video / f"{Path(frame).stem}.png", labels_HW)

    def has_all(self, video: Mapping[str, Any]) -> bool:
        """Whether there is a label map of every frame."""
        folder = self.folder / video["video"]
        return all((folder / f"{Path(p).stem}.png").is_file() for p in video["frame_paths"])


def free_folder(folder: Path, key: str | None) -> Path:
    """The folder, or with a number behind it, that is empty, or the last one of a run that goes on.

    Args:
        folder: As a person named it.
        key: Of a run that may go on; None begins a new one.
    """
    number, place, own = 1, folder, None
    while place.is_dir() and any(place.iterdir()):
        marker = place / RUN_FILE
        if key is not None and marker.is_file() and _key_in(marker) == key:
            own = place
        number += 1
        place = folder.with_name(f"{folder.name}-{number}")
    return own or place


def _key_in(marker: Path) -> str | None:
    return json.loads(marker.read_text(encoding="utf-8")).get("key")


def _claim(folder: Path, key: str, what: str) -> None:
    """Mark a folder as that of a run, or refuse that of another."""
    marker = folder / RUN_FILE
    if not marker.is_file():
        atomic_write_text(marker, json.dumps({"key": key}))
        return
    if _key_in(marker) != key:
        raise ValueError(
            f"{what} {folder} belongs to a run with another encoder, protocol, setting or code; "
            "name another folder, or delete it"
        )
