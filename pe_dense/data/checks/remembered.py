"""What was found out about files is found out once: kept beside them while they do not change.

An answer is kept with size, times and inode of everything that was read for it, and with the hash
of the code that found it, so that it is asked again after any of these changed. Among the times is
that of the last change of the entry (ctime), which copying with an old time (cp -p, rsync -t) sets
as well. An answer belongs to one place: a copy of the folder asks anew. Of several processes, also
of other runs on the same machine, one finds out and the others wait and read.

Answers are JSON in the folder '.pe_dense' of the data, or in the user's cache folder where that
cannot be written ($XDG_CACHE_HOME or ~/.cache). Deleting them is always safe.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import inspect
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pe_dense.files import atomic_write_text, wait_for_lock

FOLDER = ".pe_dense"
# Files younger than this may still change without a new time, on file systems with coarse clocks.
SETTLED_S = 2.0


@dataclass(frozen=True)
class Answer:
    """What was found out.

    Attributes:
        value: Anything that JSON can hold.
        read: Files, and folders whose entries, it depends on; one that does not exist counts, too.
    """

    value: Any
    read: Iterable[Path]


def remembered(root: Path, question: Mapping[str, Any], find_out: Callable[[], Answer]) -> Any:
    """The value of `find_out()`, as it was found out before if nothing has changed since.

    Args:
        root: Folder of the data.
        question: All that the answer depends on besides files; JSON can hold it.
        find_out: Does the work; a function of a module, whose code counts as well.

    Returns:
        The value as JSON gives it back: lists for tuples.
    """
    places = [os.path.abspath(root), os.path.abspath(".")]  # noqa: PTH100 (no symlinks)
    text = json.dumps([_code_sha256(_source_of(find_out)), places, question], sort_keys=True)
    name = f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.json"
    folder = folder_for(root)
    if folder is None:
        return _plain(find_out().value)
    known = _recall(folder / name)
    if known is None:
        with _locked(folder):
            known = _recall(folder / name)
            if known is None:
                known = [_find_out(find_out, folder / name)]
    return known[0]


def _find_out(find_out: Callable[[], Answer], file: Path) -> Any:
    started_ns = time.time_ns()
    answer = find_out()
    paths = sorted({os.path.abspath(path) for path in answer.read})  # noqa: PTH100 (no symlinks)
    stamps = {path: stamp(path) for path in paths}
    newest_ns = max((newest for _, newest in stamps.values()), default=0)
    if newest_ns < started_ns - SETTLED_S * 1e9:
        content = {"value": answer.value, "read": {p: key for p, (key, _) in stamps.items()}}
        with contextlib.suppress(OSError):  # a full disk costs time, not the answer
            atomic_write_text(file, json.dumps(content))
    return _plain(answer.value)


def _recall(file: Path) -> list[Any] | None:
    """[value], or None where there is none that still holds."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        value, read = content["value"], content["read"].items()
        return [value] if all(stamp(path)[0] == key for path, key in read) else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None  # absent, or not what is written here


def stamp(path: str) -> tuple[str, int]:
    """What changes with a file or with the entries of a folder, and the newest time in it.

    Returns:
        A text of sizes and times, and the newest time of change in ns (0 where nothing is).
    """
    try:
        if not Path(path).is_dir():
            return _of_entry(Path(path).stat())
        lines, newest = [], 0
        with os.scandir(path) as entries:
            for entry in entries:
                if entry.name == FOLDER or (entry.name[:1] == "." and entry.name[-4:] == ".tmp"):
                    continue  # answers, and files that are being written
                if entry.is_dir():
                    lines.append(f"{entry.name}/")
                    continue
                text, time_ns = _of_entry(entry.stat())
                lines.append(f"{entry.name} {text}")
                newest = max(newest, time_ns)
    except OSError:
        return "absent", 0
    digest = hashlib.sha256("\n".join(sorted(lines)).encode("utf-8", "surrogateescape"))
    return digest.hexdigest(), newest


def _of_entry(found: os.stat_result) -> tuple[str, int]:
    times = found.st_mtime_ns, found.st_ctime_ns
    return f"{found.st_size} {times[0]} {times[1]} {found.st_ino}", max(times)


def folder_for(root: Path) -> Path | None:
    """Where what was made of the data of a folder is kept; None where nothing can be written."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    away = hashlib.sha256(os.fsencode(root.resolve())).hexdigest()[:16]
    for folder in (root / FOLDER, cache / "pe_dense" / away):
        try:
            if folder.parent == root and not root.is_dir():
                continue
            folder.mkdir(parents=True, exist_ok=True)
        except OSError:
            continue
        if os.access(folder, os.W_OK):
            return folder
    return None


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    with (folder / "lock").open("w") as file:
        with contextlib.suppress(OSError):  # file systems without locks: each finds out itself
            wait_for_lock(file)
        yield


def _plain(value: Any) -> Any:
    return json.loads(json.dumps(value))


def _source_of(function: Callable[..., Any]) -> str:
    while isinstance(function, functools.partial):
        function = function.func
    return str(inspect.getsourcefile(function))


@functools.lru_cache
def _code_sha256(source: str) -> str:
    """Hash of the code beside a file, and of all code of this folder and the one above it."""
    digest = hashlib.sha256()
    beside = sorted(Path(source).parent.glob("*.py"))
    for file in [*beside, *sorted(Path(__file__).parents[1].rglob("*.py"))]:
        digest.update(file.read_bytes())
    return digest.hexdigest()
