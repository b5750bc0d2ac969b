"""What a person names to be predicted: files, folders, lists and globs become named pictures.

A folder is searched with its subfolders. A name is the path below what was named, so that the same
subfolders stand in the folder of predictions: below the folder, below the fixed part of a glob,
below the folder that all files of a list share, or the file's own name. Of several folders each
has its own name in front.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pe_dense.data.image_files import PICTURE_SUFFIXES, require_no_loop
from pe_dense.data.video_file import VIDEO_SUFFIXES, is_video_file
from pe_dense.predict.video_source import is_camera

MADE_SUFFIXES = (".png", ".npy", ".jpg")  # of what is made of a picture


@dataclass(frozen=True)
class Source:
    """A picture to predict.

    Attributes:
        file: Where it lies.
        name: What it is called below the folder of predictions, with '/' and its suffix.
    """

    file: Path
    name: str


@dataclass(frozen=True)
class Found:
    """What the words of a command line mean.

    Attributes:
        pictures: In the order of the words, those of a folder by name.
        videos: Video files, and numbers of cameras as text.
        passed_over: How many files of folders are neither.
    """

    pictures: tuple[Source, ...]
    videos: tuple[str, ...]
    passed_over: int


@dataclass(frozen=True)
class _Group:
    """Files that are named together, below one folder; it has a name if it was named itself.

    Without a folder each file has its own name.
    """

    root: Path | None
    files: tuple[Path, ...]
    name: str = ""


def find_inputs(words: Sequence[str], leave_out: Path | None = None) -> Found:
    """The pictures and videos that words name.

    Args:
        words: Files, folders, lists (`.txt`, a path a line, below the list's folder unless
            absolute), globs, numbers of cameras.
        leave_out: A folder that is not searched: that of the predictions.

    Raises:
        ValueError: If a word names nothing, or two pictures would have the same name.
    """
    groups: list[_Group] = []
    alone: list[Path] = []
    videos: list[str] = []
    passed_over = 0
    for word in words:
        path = Path(word)
        if is_camera(word):
            videos.append(word)
        elif path.is_dir():
            files, others = _files_below(path, leave_out)
            if not files:
                raise ValueError(
                    f"folder {word} holds no picture and no video ({others} other files); name "
                    f"another, or files by themselves (known endings: {', '.join(known())})"
                )
            groups.append(_Group(path, tuple(files), path.resolve().name))
            passed_over += others
        elif path.is_file() and path.suffix.lower() == ".txt":
            groups.append(_listed(path))
        elif path.is_file():
            alone.append(path)
        elif glob.has_magic(word):
            groups.append(_matched(word))
        else:
            raise ValueError(
                f"{word} does not exist; name a picture, a folder, a list (.txt) or a glob"
            )
    if alone:
        groups.append(_Group(_shared_folder(alone), tuple(alone)))
    pictures: dict[str, Source] = {}
    seen: set[str] = set()
    for group in groups:
        for file in group.files:
            absolute = str(_absolute(file))
            if absolute in seen:
                continue
            seen.add(absolute)
            if is_video_file(file):
                videos.append(str(file))
                continue
            name = _name(file, group, len(groups) > 1)
            if name in pictures:
                raise ValueError(
                    f"{pictures[name].file} and {file} would both be written as {name}; predict "
                    "them in two commands with a folder (--out) each"
                )
            pictures[name] = Source(file, name)
    return Found(tuple(pictures.values()), tuple(videos), passed_over)


def known() -> tuple[str, ...]:
    """Endings of files that are looked for in folders."""
    return PICTURE_SUFFIXES + VIDEO_SUFFIXES


def _files_below(folder: Path, leave_out: Path | None) -> tuple[list[Path], int]:
    """Pictures and videos by name, and how many other files there are; hidden ones do not count."""
    found, others = [], 0
    out = None if leave_out is None else leave_out.resolve()
    for parent, folders, files in os.walk(folder, followlinks=True, onerror=_refuse):
        here = Path(parent)
        for name in folders:
            require_no_loop(here / name)
        folders[:] = sorted(
            name
            for name in folders
            if not _is_hidden(name) and (out is None or (here / name).resolve() != out)
        )
        for name in sorted(files):
            if _is_hidden(name):
                continue
            if Path(name).suffix.lower() in known():
                found.append(here / name)
            else:
                others += 1
    return found, others


def _refuse(error: OSError) -> None:
    raise error


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


def _listed(path: Path) -> _Group:
    """The files of a list; those that are missing are told of when their turn comes."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(
            f"list {path} is no text in UTF-8; write a path of a picture a line"
        ) from error
    files = [path.parent / line.strip() for line in lines if line.strip()]
    if not files:
        raise ValueError(f"list {path} is empty; write a path of a picture a line")
    return _Group(_common_folder(files), tuple(files))


def _matched(pattern: str) -> _Group:
    """The files that a glob matches ('**' also matches subfolders)."""
    fixed = []
    for part in Path(pattern).parts:
        if glob.has_magic(part):
            break
        fixed.append(part)
    matched = sorted(Path(word) for word in glob.glob(pattern, recursive=True))  # noqa: PTH207  absolute ones, too
    files = [path for path in matched if path.is_file() and path.suffix.lower() in known()]
    if not files:
        raise ValueError(
            f"{pattern} matches no picture and no video ({len(matched)} other paths); correct it"
        )
    return _Group(Path(*fixed), tuple(files))


def _shared_folder(files: Sequence[Path]) -> Path | None:
    """What files that were named by themselves are called from; None if their own names do."""
    if len({file.name for file in files}) == len(files):
        return None
    return _common_folder(files)


def _common_folder(files: Iterable[Path]) -> Path:
    return Path(os.path.commonpath([_absolute(file.parent) for file in files]))


def _absolute(path: Path) -> Path:
    """Without following links: a link is a picture of its own."""
    return Path(os.path.normpath(path.absolute()))


def _name(file: Path, group: _Group, has_several: bool) -> str:
    if group.root is None:
        return file.name
    below = os.path.relpath(_absolute(file), _absolute(group.root))
    name = PurePosixPath(Path(below).as_posix())
    assert ".." not in name.parts, (file, group.root)
    return str(PurePosixPath(group.name) / name if has_several and group.name else name)


def output_stems(names: Sequence[str]) -> dict[str, str]:
    """What the files made of each picture are called before their ending.

    The name without its suffix; with it where two pictures of a folder would share that, also on
    disks that take capitals for small letters.

    Raises:
        ValueError: If two would share it even so, or what is made of one would be called as the
            folder of others.

    Example:
        >>> output_stems(["a.jpg", "a.png", "b/a.jpg"])
        {'a.jpg': 'a.jpg', 'a.png': 'a.png', 'b/a.jpg': 'b/a'}
    """
    count: dict[str, int] = {}
    short = {name: str(PurePosixPath(name).with_suffix("")) for name in names}
    for stem in short.values():
        count[stem.casefold()] = count.get(stem.casefold(), 0) + 1
    stems = {name: stem if count[stem.casefold()] == 1 else name for name, stem in short.items()}
    taken: dict[str, str] = {}
    for name, stem in stems.items():
        other = taken.setdefault(stem.casefold(), name)
        if other != name:
            raise ValueError(
                f"what is made of {other} and {name} would have the same name, {stem}; rename one "
                "of the pictures"
            )
    folders = {str(parent) for stem in stems.values() for parent in PurePosixPath(stem).parents}
    for name, stem in stems.items():
        if taken_folder := next((f for s in MADE_SUFFIXES if (f := stem + s) in folders), None):
            raise ValueError(
                f"what is made of {name} would be called as the folder {taken_folder} of other "
                "pictures; rename one of them"
            )
    return stems
