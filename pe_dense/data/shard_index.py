"""Where the images of a folder of tar shards lie, in memory that all processes of a machine share.

An index is two files, which `pe_dense.data.shard_indexing` writes: 'shards-KEY.json' with what is
known of every shard, and 'shards-KEY-HASH.idx' with what is known of every image: offsets (N)
int64, lengths (N) int64, the end of each name (N) int64, and all names, one after the other. The
second is mapped into memory: only what is read is loaded, and once for all processes. It never
changes; other content has another name, because another machine may be reading it.

A wrong number in an index would train on wrong bytes without a word. So the first file has a hash
of itself and one of every shard's part of the second, to which a process holds that part when it
first reads an image of the shard; what a disk or a person changed is refused.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pe_dense.data.tar_members import Member

NAMED = 3  # shards in a message


class Stamp(NamedTuple):
    """What changes with a file: its bytes, times of change in ns, inode."""

    size: int
    modified_ns: int
    changed_ns: int
    inode: int


@dataclass(frozen=True)
class ShardFacts:
    """What the index knows of a shard.

    Attributes:
        name: Path below the folder.
        stamp: Of the file when it was scanned.
        num_images: Members that are images.
        name_bytes: Length of their names, one after the other.
        others: Number of members that are no images, by the end of their names.
        num_repeated: Images whose name came before in the same shard.
        sha256: Of names, offsets and lengths of the images, 64 hex digits.
    """

    name: str
    stamp: Stamp
    num_images: int
    name_bytes: int
    others: dict[str, int]
    num_repeated: int
    sha256: str

    @classmethod
    def from_json(cls, facts: dict[str, Any]) -> ShardFacts:
        """Of `dataclasses.asdict`.

        Raises:
            ValueError, TypeError, KeyError: If it is none.
        """
        shard = cls(**{**facts, "stamp": Stamp(*facts["stamp"])})
        if not isinstance(shard.others, dict):
            raise ValueError("its counts of other members are none")
        counts = [shard.num_images, shard.name_bytes, shard.num_repeated, *shard.others.values()]
        if any(type(number) is not int for number in [*shard.stamp, *counts]) or min(counts) < 0:
            raise ValueError("it has other than numbers")
        if type(shard.name) is not str or type(shard.sha256) is not str:
            raise ValueError("it has names that are no text")
        return shard


class DamagedIndexError(ValueError):
    """An index has other numbers than when it was written; no image can be trusted."""


class ShardIndex:
    """The images of all shards, numbered in the order of shards and members.

    Args:
        data: File of offsets, lengths and names.
        shards: What is known of every shard, in order.
        image_set_sha256: Of names and lengths of all images, 64 hex digits.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If it has another size than the shards need.
    """

    def __init__(self, data: Path, shards: list[ShardFacts], image_set_sha256: str) -> None:
        self.data, self.shards, self.image_set_sha256 = data, shards, image_set_sha256
        num, name_bytes = total_sizes(shards)
        size = data.stat().st_size
        if size != 24 * num + name_bytes:
            raise ValueError(f"index {data} has {size:,} bytes and needs {24 * num + name_bytes:,}")
        content = np.asarray(np.memmap(data, np.uint8, "r"))
        self._columns = content[: 24 * num].view(np.int64).reshape(3, num)
        self._offsets, self._lengths, self._name_ends = self._columns
        self._names = content[24 * num :]
        counts = [shard.num_images for shard in shards]
        self.starts = np.concatenate([[0], np.cumsum(counts)])  # (shards + 1,)
        self._name_starts = np.cumsum([0, *(shard.name_bytes for shard in shards)])
        self._is_held = bytearray(len(shards))  # which were held to their hashes

    @classmethod
    def read(cls, manifest: Path) -> ShardIndex:
        """From the JSON file.

        Raises:
            ValueError: If that or the other file is missing or not whole.
        """
        try:
            content = json.loads(manifest.read_text(encoding="utf-8"))
            if content.pop("checksum") != checksum(content):
                raise ValueError("its checksum is another")
            shards = [ShardFacts.from_json(facts) for facts in content["shards"]]
            return cls(manifest.with_name(content["data"]), shards, str(content["sha256"]))
        except (
            OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError
        ) as error:  # fmt: skip
            raise ValueError(
                f"index {manifest} of image shards is not whole ({error}); delete it"
            ) from error

    def __reduce__(self) -> Any:
        # A spawned worker maps the same file instead of getting a copy.
        return ShardIndex, (self.data, self.shards, self.image_set_sha256)

    def __len__(self) -> int:
        return len(self._offsets)

    def entry(self, index: int) -> tuple[ShardFacts, Member]:
        """Shard and place of an image, counted from 0.

        Raises:
            DamagedIndexError: If what is known of that shard is not what was found.
        """
        shard = int(np.searchsorted(self.starts, index, side="right")) - 1
        if not self._is_held[shard]:
            self.images_of(shard)
        place = int(self._offsets[index]), int(self._lengths[index])
        is_first = index == self.starts[shard]
        start = int(self._name_starts[shard] if is_first else self._name_ends[index - 1])
        name = self._names[start : int(self._name_ends[index])].tobytes()
        return self.shards[shard], Member(name.decode("utf-8", "surrogateescape"), *place)

    def images_of(self, shard: int) -> tuple[np.ndarray, np.ndarray]:
        """Offsets, lengths, ends of names from 0 on (3, n) int64, and all names (bytes) uint8.

        Raises:
            DamagedIndexError: If they are not what was found in that shard.
        """
        columns = slice(int(self.starts[shard]), int(self.starts[shard + 1]))
        names = slice(int(self._name_starts[shard]), int(self._name_starts[shard + 1]))
        numbers = np.stack([column[columns] for column in self._columns])
        numbers[2] -= names.start
        if not is_of_shard(self.shards[shard], numbers, self._names[names]):
            raise DamagedIndexError(
                f"index {self.data} is damaged: it has other images of shard "
                f"{self.shards[shard].name} than were found there; delete it and start again"
            )
        self._is_held[shard] = True
        return numbers, self._names[names]

    def is_whole(self, shard: int) -> bool:
        """Whether the file has of a shard what was found there."""
        try:
            self.images_of(shard)
        except DamagedIndexError:
            return False
        return True

    def summary(self) -> str:
        """How much there is, and what is no image or strange."""
        num = len(self)
        parts = [f"{num:,} images in {len(self.shards):,} shards"]
        others: Counter[str] = Counter()
        for shard in self.shards:
            others.update(shard.others)
        if others:
            kinds = ", ".join(f"{kind} {count:,}" for kind, count in others.most_common(5))
            more = "" if len(others) <= 5 else f" and {len(others) - 5} other endings"
            parts.append(f"{others.total():,} members are no images ({kinds}{more})")
        empty = [shard.name for shard in self.shards if not shard.num_images]
        if empty:
            parts.append(f"no image in {named(empty)}")
        repeated = [shard for shard in self.shards if shard.num_repeated]
        if repeated:
            count = sum(shard.num_repeated for shard in repeated)
            names = named([shard.name for shard in repeated])
            parts.append(
                f"names that come again in one shard, and are read again: {count:,} ({names})"
            )
        copies = _copies(self.shards)
        if copies:
            parts.append(f"copies of each other: {named(copies[0])}")
        return "; ".join(parts)


def checksum(content: Any) -> str:
    """Of what a JSON file holds, 64 hex digits."""
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def is_of_shard(shard: ShardFacts, numbers: np.ndarray, names: np.ndarray) -> bool:
    """Whether numbers and names, as `ShardIndex.images_of`, are those of a shard, and lie in it."""
    if hashlib.sha256(numbers.tobytes() + names.tobytes()).hexdigest() != shard.sha256:
        return False
    offsets, lengths, ends = numbers
    return bool(
        (numbers >= 0).all()
        and (lengths <= shard.stamp.size - offsets).all()
        and (np.diff(ends, prepend=0, append=shard.name_bytes) >= 0).all()
    )


def total_sizes(shards: Iterable[ShardFacts]) -> tuple[int, int]:
    """Number of images and bytes of names of all shards."""
    counts = [(shard.num_images, shard.name_bytes) for shard in shards]
    return sum(num for num, _ in counts), sum(length for _, length in counts)


def _copies(shards: Sequence[ShardFacts]) -> list[list[str]]:
    by_content: dict[str, list[str]] = {}
    for shard in shards:
        if shard.num_images:
            by_content.setdefault(shard.sha256, []).append(shard.name)
    return [names for names in by_content.values() if len(names) > 1]


def named(names: Sequence[str]) -> str:
    """Shards in a message, the first few by name."""
    word = "shard" if len(names) == 1 else f"{len(names):,} shards"
    return f"{word} {', '.join(names[:NAMED])}{', ...' if len(names) > NAMED else ''}"
