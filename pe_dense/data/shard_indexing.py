"""The index of a folder of tar shards: built once, completed when shards are added.

It lies in the folder's '.pe_dense', or in the user's cache folder where that cannot be written
($XDG_CACHE_HOME or ~/.cache), under a hash of place, pattern, suffixes and this code. One process
builds and the others wait. It scans shards in all cores and adds each to a journal when it is done,
so that after a kill only what was in work is done again.

The index is also what a set of shards is held to: one that is missing, or whose images are others
than when it was indexed, is refused by name. New ones are added, and a shard with another time and
the same images is taken. Deleting '.pe_dense' accepts a folder as it is.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from dataclasses import asdict
from pathlib import Path
from stat import S_ISREG

import numpy as np

from pe_dense.data import shard_index, shard_journal, tar_members
from pe_dense.data.checks.progress import late_progress
from pe_dense.data.forked_workers import max_workers
from pe_dense.data.one_at_a_time import one_at_a_time
from pe_dense.data.shard_index import ShardFacts, ShardIndex, Stamp, checksum, named, total_sizes
from pe_dense.data.shard_journal import ShardJournals, scan_shard
from pe_dense.files import atomic_file, atomic_write_text, file_sha256, why_not_writable

FOLDER = ".pe_dense"
ALONE_S = 1.0  # so long shards are scanned in this process; starting others takes time


def open_shard_index(
    root: Path, pattern: str, suffixes: Sequence[str], log: Callable[[str], None]
) -> ShardIndex:
    """The index of a folder of shards; built, or completed, where that is needed.

    Args:
        root: Folder of the shards.
        pattern: Their names.
        suffixes: Ends of the names of images, in lower case. Hidden members are none.
        log: Called with lines that say what is going on.

    Raises:
        ValueError: If there is no shard, one is missing, changed, damaged, cut off or there under
            two names, or the index cannot be written.
    """
    stamps = _stamps(root, pattern)
    place = os.path.abspath(root)  # noqa: PTH100 (no symlinks)
    parts = json.dumps([_code_sha256(), place, pattern, list(suffixes)])
    name = f"shards-{hashlib.sha256(parts.encode()).hexdigest()[:16]}"
    for folder in _folders(root):  # perhaps somebody else's, which can be read alone
        known = _known(folder / f"{name}.json")
        if known is not None and _stamps_of(known) == stamps:
            return known
    folder = _writable_folder(root)
    manifest = folder / f"{name}.json"
    waits = functools.partial(log, f"another process indexes the shards of {root}; waiting for it")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with one_at_a_time(folder / f"{name}.lock", waits):
            known = _known(manifest)
            if known is None or _stamps_of(known) != stamps:
                _Builder(root, tuple(suffixes), manifest, stamps, known, log).build()
                known = ShardIndex.read(manifest)
    except OSError as error:
        raise ValueError(
            f"the index of the shards of {root} cannot be written to {folder} ({error}); make "
            "room, or set XDG_CACHE_HOME to a folder that can be written"
        ) from error
    return known


Images = tuple[np.ndarray, np.ndarray]  # of a shard, as `ShardIndex.images_of`


class _Builder:
    """Builds an index, from an older one and journals where they hold."""

    def __init__(
        self,
        root: Path,
        suffixes: tuple[str, ...],
        manifest: Path,
        stamps: dict[str, Stamp],
        known: ShardIndex | None,
        log: Callable[[str], None],
    ) -> None:
        self.root, self.suffixes, self.manifest = root, suffixes, manifest
        self.stamps, self.log = stamps, log
        self.known = known
        self.known_at = {} if known is None else {s.name: i for i, s in enumerate(known.shards)}

    def build(self) -> None:
        """Scan what is needed and write the files."""
        self._require_all_known()
        with contextlib.ExitStack() as stack:
            journals = ShardJournals(self.manifest, stack)
            known = [] if self.known is None else self.known.shards
            kept = {
                shard.name
                for place, shard in enumerate(known)
                if self.stamps[shard.name] == shard.stamp and self.known.is_whole(place)
            }
            missing = [
                name
                for name, stamp in self.stamps.items()
                if name not in kept and not journals.has(name, stamp)
            ]
            self._scan(missing, journals)
            self._require_unchanged(journals, kept)
            self._write(journals, kept)
            journals.delete()

    def _require_all_known(self) -> None:
        gone = sorted(self.known_at.keys() - self.stamps.keys())
        if gone:
            raise ValueError(
                f"missing in {self.root} since it was indexed: {named(gone)}; restore what is "
                f"missing, or delete {self.manifest} to take the folder as it is"
            )

    def _scan(self, names: list[str], journals: ShardJournals) -> None:
        bad: list[str] = []
        tick = late_progress(f"index of the shards of {self.root}")
        for done, (name, record, problem) in enumerate(self._scanned(names), start=1):
            if record is None:
                bad.append(problem)
            else:
                journals.add(record)
                now = _stat(self.root / name)
                if (now.st_size, now.st_mtime_ns) != self.stamps[name][:2]:
                    bad.append(f"shard {self.root / name} is being written; wait until it is whole")
            tick(done, len(names))
        if bad:
            more = f" (and {len(bad) - 1:,} more shards: {'; '.join(bad[1:3])})"
            raise ValueError(bad[0] + (more if len(bad) > 1 else ""))

    def _scanned(self, names: list[str]) -> Iterator[tuple[str, bytes | None, str]]:
        """Name, record, problem of each shard, in any order; others than the first in processes."""
        work = functools.partial(scan_shard, self.root, self.suffixes)
        tasks = [(name, self.stamps[name]) for name in names]
        start, done = time.perf_counter(), 0
        while done < len(tasks) and time.perf_counter() - start < ALONE_S:
            yield work(tasks[done])
            done += 1
        rest = tasks[done:]
        cores = min(max_workers(), len(rest))
        if cores < 2:
            yield from map(work, rest)
            return
        context = multiprocessing.get_context("fork")
        pool = ProcessPoolExecutor(cores, context, _end_with, (os.getpid(),))
        try:
            for future in as_completed([pool.submit(work, task) for task in rest]):
                yield future.result()
        finally:
            pool.shutdown(cancel_futures=True)

    def _require_unchanged(self, journals: ShardJournals, kept: set[str]) -> None:
        """Other times with the same images are a copy or a touch; other images are refused."""
        if self.known is None:
            return
        changed = [
            shard
            for shard in self.known.shards
            if shard.name not in kept and journals.facts(shard.name).sha256 != shard.sha256
        ]
        if changed:
            names, first = [shard.name for shard in changed], changed[0]
            now = journals.facts(first.name)
            raise ValueError(
                f"changed in {self.root} since it was indexed: {named(names)} (the first had "
                f"{first.num_images:,} images in {first.stamp.size:,} bytes, now it has "
                f"{now.num_images:,} in {now.stamp.size:,}); restore what changed, or delete "
                f"{self.manifest} to take the folder as it is"
            )
        added = sorted(self.stamps.keys() - self.known_at.keys())
        if added:
            self.log(f"new in the index of {self.root}: {named(added)}")

    def _write(self, journals: ShardJournals, kept: set[str]) -> None:
        facts = [
            self.known.shards[self.known_at[name]] if name in kept else journals.facts(name)
            for name in self.stamps
        ]
        num, name_bytes = total_sizes(facts)
        if num == 0:
            raise ValueError(
                f"the {len(facts)} shards of {self.root} hold no image "
                f"({', '.join(self.suffixes)}); check data_root"
            )
        lines = "".join(f"{shard.name}\n{shard.sha256}\n" for shard in facts)
        content = hashlib.sha256(lines.encode("utf-8", "surrogateescape")).hexdigest()
        data = self.manifest.with_name(f"{self.manifest.stem}-{content[:16]}.idx")
        images = (self._images_of(shard, journals, kept) for shard in facts)
        if _holds(data, facts):
            sha256 = image_set_sha256(images)  # the file stays: others may be reading it
        else:
            with atomic_file(data) as temporary:
                sha256 = _write_data(temporary, num, name_bytes, images)
        text = {
            "folder": str(self.root),
            "data": data.name,
            "sha256": sha256,
            "shards": [asdict(shard) for shard in facts],
        }
        # As it will be read: tuples are lists there.
        text = json.loads(json.dumps(text))
        atomic_write_text(self.manifest, json.dumps({**text, "checksum": checksum(text)}))

    def _images_of(self, shard: ShardFacts, journals: ShardJournals, kept: set[str]) -> Images:
        if self.known is not None and shard.name in kept:
            return self.known.images_of(self.known_at[shard.name])
        return journals.images(shard.name)


def _holds(data: Path, shards: list[ShardFacts]) -> bool:
    """Whether a file that is there already has what was found in these shards."""
    try:
        index = ShardIndex(data, shards, "")
    except (OSError, ValueError):
        return False
    return all(index.is_whole(place) for place in range(len(shards)))


def _write_data(path: Path, num: int, name_bytes: int, images: Iterable[Images]) -> str:
    """Fill the file of offsets, lengths, ends of names and names; their `image_set_sha256`."""
    mapped = np.memmap(path, np.uint8, "w+", shape=24 * num + name_bytes)
    columns, names = mapped[: 24 * num].view(np.int64).reshape(3, num), mapped[24 * num :]

    def copied() -> Iterator[Images]:
        at = name_at = 0
        for numbers, text in images:
            end, name_end = at + numbers.shape[1], name_at + len(text)
            columns[:, at:end] = numbers
            columns[2, at:end] += name_at
            names[name_at:name_end] = text
            at, name_at = end, name_end
            yield numbers, text

    sha256 = image_set_sha256(copied())
    mapped.flush()
    return sha256


def image_set_sha256(images: Iterable[Images]) -> str:
    """As `UnlabelledImages.image_set_sha256`: of names and lengths of all images."""
    digest = hashlib.sha256()
    for (_, lengths, ends), text in images:
        content, start = text.tobytes(), 0
        lines = []
        for length, end in zip(lengths.tolist(), ends.tolist(), strict=True):
            lines.append(b"%s\t%d\n" % (content[start:end], length))
            start = end
        digest.update(b"".join(lines))
    return digest.hexdigest()


def _end_with(parent: int) -> None:
    """End this process when its parent has: a killed one cannot tell."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _stamps(root: Path, pattern: str) -> dict[str, Stamp]:
    """Stamps of all shards in the order of their names."""
    paths = sorted(root.glob(pattern)) if root.is_dir() else []
    if not paths:
        raise ValueError(f"folder {root} holds no shard {pattern}; check data_root")
    with ThreadPoolExecutor(16 if len(paths) > 256 else 1) as pool:  # a server may take its time
        found = list(pool.map(_stat, paths))
    names: dict[tuple[int, int], Path] = {}
    for path, stat in zip(paths, found, strict=True):
        if not S_ISREG(stat.st_mode):
            raise ValueError(f"shard {path} is no file; take it out of the folder")
        other = names.setdefault((stat.st_dev, stat.st_ino), path)
        if other is not path and stat.st_ino:
            raise ValueError(
                f"shards {other} and {path} are one file under two names; remove one, or its "
                "images count twice"
            )
    return {
        path.relative_to(root).as_posix(): Stamp(s.st_size, s.st_mtime_ns, s.st_ctime_ns, s.st_ino)
        for path, s in zip(paths, found, strict=True)
    }


def _stat(path: Path) -> os.stat_result:
    try:
        return path.stat()
    except OSError as error:
        raise ValueError(
            f"shard {path} cannot be read ({error.strerror}); restore it, or take it out of the "
            "folder"
        ) from error


def _folders(root: Path) -> list[Path]:
    """Where an index can be: beside the shards, and in the cache of a user who has a home."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache"))
    with contextlib.suppress(RuntimeError):  # a container's user without an entry
        away = hashlib.sha256(os.fsencode(root.resolve())).hexdigest()[:16]
        return [root / FOLDER, cache.expanduser() / "pe_dense" / away]
    return [root / FOLDER]


def _writable_folder(root: Path) -> Path:
    problems = []
    for folder in _folders(root):
        problem = why_not_writable(folder / "index")
        if problem is None:
            return folder
        problems.append(problem)
    raise ValueError(
        f"the index of the shards of {root} has no place ({'; '.join(problems)}); set "
        "XDG_CACHE_HOME to a folder that can be written"
    )


def _known(manifest: Path) -> ShardIndex | None:
    if not manifest.is_file():
        return None
    try:
        return ShardIndex.read(manifest)
    except ValueError:
        return None  # built anew


def _stamps_of(index: ShardIndex) -> dict[str, Stamp]:
    return {shard.name: shard.stamp for shard in index.shards}


@functools.lru_cache
def _code_sha256() -> str:
    return "".join(file_sha256(part.__file__) for part in (shard_index, shard_journal, tar_members))
