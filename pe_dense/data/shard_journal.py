"""What was found in tar shards, one record after the other, so that a kill costs one shard.

A record is complete or, at the end of the file of a writer that was killed, left out: each has its
length and a checksum before it. Every writer has a file of its own.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import secrets
import socket
import struct
import zlib
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import BinaryIO

import numpy as np

from pe_dense.data.shard_index import ShardFacts, Stamp, is_of_shard
from pe_dense.data.tar_members import tar_members

RECORD = struct.Struct("<4sIQ")  # 'PEsh', CRC-32 of what follows, its length


def scan_shard(
    root: Path, suffixes: tuple[str, ...], task: tuple[str, Stamp]
) -> tuple[str, bytes | None, str]:
    """A shard's record for the journal: its facts as JSON, the columns, and the names.

    Returns:
        The shard's name, the record or None, and what is wrong with the shard.
    """
    name, stamp = task
    try:
        members = tar_members(root / name)
    except ValueError as error:
        return name, None, str(error)
    except OSError as error:
        return name, None, f"shard {root / name} cannot be read ({error}); restore it"
    others: Counter[str] = Counter()
    images = []
    for member in members:
        base = member.name.rpartition("/")[2]
        if not base.lower().endswith(suffixes) or base.startswith("."):
            others[_kind(base)] += 1
        else:
            images.append(member)
    encoded = [member.name.encode("utf-8", "surrogateescape") for member in images]
    columns = np.array(
        [
            [member.offset for member in images],
            [member.num_bytes for member in images],
            list(itertools.accumulate(map(len, encoded))),
        ],
        np.int64,
    )
    content = columns.tobytes() + b"".join(encoded)
    facts = ShardFacts(
        name, stamp, len(images), len(content) - 24 * len(images), dict(others),
        len(encoded) - len(set(encoded)), hashlib.sha256(content).hexdigest(),
    )  # fmt: skip
    head = json.dumps(asdict(facts)).encode()
    return name, len(head).to_bytes(4, "little") + head + content, ""


def _facts_in(record: bytes) -> tuple[ShardFacts, int]:
    """Facts of a record, and where its columns begin."""
    place = 4 + int.from_bytes(record[:4], "little")
    return ShardFacts.from_json(json.loads(record[4:place])), place


def _kind(base: str) -> str:
    if base.startswith("."):
        return "hidden"
    _, dot, end = base.rpartition(".")
    return f".{end.lower()[:16]}" if dot else "without an ending"


class ShardJournals:
    """Scanned shards in files beside the index: those of builders that were killed, and our own."""

    def __init__(self, manifest: Path, stack: contextlib.ExitStack) -> None:
        self._found: dict[str, tuple[ShardFacts, BinaryIO, int]] = {}
        self._old = sorted(manifest.parent.glob(f"{manifest.stem}.*.journal"))
        for path in self._old:
            with contextlib.suppress(FileNotFoundError):
                self._read(stack.enter_context(path.open("rb")))
        name = (
            f"{manifest.stem}.{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}.journal"
        )
        self._own_path = manifest.with_name(name)
        self._own = stack.enter_context(self._own_path.open("xb+"))
        stack.callback(self._delete_if_empty)

    def _read(self, file: BinaryIO) -> None:
        size = os.fstat(file.fileno()).st_size
        while len(head := file.read(RECORD.size)) == RECORD.size:
            magic, crc, length = RECORD.unpack(head)
            at = file.tell()
            if (
                magic != b"PEsh"
                or at + length > size
                or zlib.crc32(body := file.read(length)) != crc
            ):
                return  # cut off where its writer was killed
            try:
                shard, place = _facts_in(body)
                num, held = shard.num_images, np.frombuffer(body[place:], np.uint8)
                numbers = held[: 24 * num].view(np.int64).reshape(3, num)
                is_whole = is_of_shard(shard, numbers, held[24 * num :])
            except (ValueError, KeyError, TypeError, RecursionError):
                is_whole = False
            if not is_whole:
                return  # not of `scan_shard`
            self._found[shard.name] = shard, file, at + place

    def _note(self, body: bytes, file: BinaryIO, at: int) -> ShardFacts:
        shard, place = _facts_in(body)
        self._found[shard.name] = shard, file, at + place
        return shard

    def add(self, body: bytes) -> ShardFacts:
        """Note a scanned shard on disk."""
        self._own.seek(0, os.SEEK_END)
        at = self._own.tell() + RECORD.size
        self._own.write(RECORD.pack(b"PEsh", zlib.crc32(body), len(body)) + body)
        self._own.flush()
        return self._note(body, self._own, at)

    def has(self, name: str, stamp: Stamp) -> bool:
        """Whether a shard was scanned as it is."""
        return name in self._found and self._found[name][0].stamp == stamp

    def facts(self, name: str) -> ShardFacts:
        """Of a scanned shard."""
        return self._found[name][0]

    def images(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """As `ShardIndex.images_of`."""
        facts, file, at = self._found[name]
        num, size = facts.num_images, 24 * facts.num_images + facts.name_bytes
        file.seek(at)
        content = np.frombuffer(file.read(size), np.uint8)
        return content[: 24 * num].view(np.int64).reshape(3, num), content[24 * num :]

    def delete(self) -> None:
        """Remove what is in the index by now."""
        for path in [*self._old, self._own_path]:
            path.unlink(missing_ok=True)

    def _delete_if_empty(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            if self._own_path.stat().st_size == 0:
                self._own_path.unlink()
