"""The image files of a data set: which are there, which to look at, and how large they are."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

# Images that Objects365 v2 lists but does not ship. Source: mmdet 3.5.1, Objects365V2Dataset,
# which leaves them out.
OBJECTS365_ABSENT = frozenset(
    {
        "patch16/objects365_v2_00908726.jpg",
        "patch6/objects365_v1_00320532.jpg",
        "patch6/objects365_v1_00320534.jpg",
    }
)

# Endings, in small letters, of files that are taken for pictures where somebody names a folder. The
# common ones come first, as errors list them.
PICTURE_SUFFIXES = (
    ".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".jpe", ".jfif", ".dib",
    ".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".avif",
)  # fmt: skip


def known_to_be_absent(name: str, naming: str) -> bool:
    """Whether no copy of the data set has this image, and loaders leave it out."""
    return naming == "objects365" and name in OBJECTS365_ABSENT


def require_no_loop(link: str | Path) -> None:
    """Refuse a link to a folder that it is in, whose files would be found again and again.

    Raises:
        ValueError: If it is one.
    """
    path = Path(link)
    if path.is_symlink() and path.parent.resolve().is_relative_to(path.resolve()):
        raise ValueError(f"folder {path} is a link to a folder that it is in; remove the link")


def existing_files(folder: Path, names: Sequence[str]) -> list[bool]:
    """Whether each name is a file below the folder; every folder is listed once, not every file."""
    listed: dict[str, set[str]] = {}
    found = []
    for name in names:
        parent, _, base = str(folder / name).rpartition("/")
        if parent not in listed:
            try:
                with os.scandir(parent or "/") as entries:
                    listed[parent] = {entry.name for entry in entries if entry.is_file()}
            except OSError:
                listed[parent] = set()
        found.append(base in listed[parent])
    return found


def spread(total: int, count: int) -> list[int]:
    """`count` of 0..total-1, evenly spread from the first to the last.

    Example:
        >>> spread(10, 4)
        [0, 3, 6, 9]
    """
    return np.linspace(0, total - 1, min(count, total)).round().astype(int).tolist()


def stamp_of(path: str) -> list[int]:
    """Size and time of change of a file; nothing where it is missing."""
    try:
        entry = Path(path).stat()
    except OSError:
        return []
    return [entry.st_size, entry.st_mtime_ns, entry.st_ctime_ns]
