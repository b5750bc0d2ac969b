"""Where the members of an uncompressed tar file lie, without reading what they hold.

`tar_members` reads the headers itself, several times as fast as the standard library's tarfile,
and gives files of rare kinds to `tar_members_slowly`, the reference beside it, which is tarfile.
They differ in two places: tarfile looks at owner, mode and time as well, of which broken ones do
not matter here, and it takes for a part of the name what GNU tar's own layout has there (times).

Both refuse a file that does not end as a tar file does, with a block of zeros: a writer that was
killed, and a copy that was cut off, may end between two members, where nothing else shows it.

Source: POSIX.1-2001 (ustar, pax), GNU tar manual, 'Basic Tar Format'; written from these.
"""

from __future__ import annotations

import os
import tarfile
from pathlib import Path
from typing import NamedTuple

BLOCK = 512
END = bytes(BLOCK)
SHORTEST, LONGEST = 2 * BLOCK, 1 << 16  # of what is read at once
REGULAR = {b"0", b"\0", b"7"}
WITHOUT_CONTENT = {b"1", b"2", b"3", b"4", b"5", b"6"}  # links, devices, folders, pipes


class Member(NamedTuple):
    """A regular file in a tar file.

    Attributes:
        name: Undecodable bytes are surrogates, as tarfile has them.
        offset: Of its first byte from the start of the tar file.
        num_bytes: Its length.
    """

    name: str
    offset: int
    num_bytes: int


class _RareError(Exception):
    """A header that tarfile shall read."""


def tar_members(shard: Path) -> list[Member]:
    """Every regular file of an uncompressed tar file in order; a name may occur twice.

    Args:
        shard: The tar file: old, ustar, GNU or pax, of any length.

    Raises:
        ValueError: If the file is compressed, damaged or no tar file, or ends too early.
        OSError: If it cannot be read.
    """
    with shard.open("rb", buffering=0) as file:
        try:
            return _read_headers(_Windows(file.fileno()), shard)
        except _RareError:
            return tar_members_slowly(shard)


def tar_members_slowly(shard: Path) -> list[Member]:
    """The same by the standard library's tarfile."""
    try:
        with tarfile.open(shard, "r:", encoding="utf-8") as tar:
            infos = list(tar)
            end = tar.offset  # where reading stopped: damaged headers stop it without a word
    except (tarfile.TarError, EOFError, ValueError, OverflowError) as error:  # far places, too
        raise ValueError(_no_tar(shard, str(error))) from error
    found = [Member(m.name, m.offset_data, m.size) for m in infos if m.isreg() and not m.issparse()]
    with shard.open("rb", buffering=0) as file:
        windows = _Windows(file.fileno())
        for member in found:
            _require_whole(member, windows.size, shard)
        _require_end(windows.at(end, BLOCK), end, shard)
    return found


class _Windows:
    """Parts of a file; longer ones while they follow each other, as headers of small files do."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.size = os.fstat(descriptor).st_size
        self._start, self._content, self._length = 0, b"", SHORTEST

    def at(self, start: int, length: int) -> bytes:
        """Bytes from a place on; fewer where the file ends."""
        inside = start - self._start
        if not 0 <= inside <= len(self._content) - length:
            follows = 0 <= inside <= len(self._content) + SHORTEST
            self._length = min(2 * self._length, LONGEST) if follows else SHORTEST
            content = os.pread(self._descriptor, max(length, self._length), start)
            self._start, self._content, inside = start, content, 0
        return self._content[inside : inside + length]


def _read_headers(windows: _Windows, shard: Path) -> list[Member]:
    found: list[Member] = []
    position, long_name, records = 0, None, {}  # what special headers say of the next one
    while (header := windows.at(position, BLOCK)) != END:
        _require_header(header, position, shard)
        kind = header[156:157]
        content = position + BLOCK
        size = records.get("size", _number(header[124:136]))
        if size < 0:
            raise ValueError(_damaged(shard, position))
        if kind in (b"L", b"K", b"x") and (records or (long_name is not None and kind != b"K")):
            raise _RareError  # which of two names holds is for tarfile to say
        if kind in (b"L", b"x"):
            if size > LONGEST:
                raise _RareError
            body = windows.at(content, size)
            if len(body) < size:
                _require_end(b"", content, shard)
            if kind == b"L":
                long_name = body.split(b"\0", 1)[0].decode("utf-8", "surrogateescape")
            else:
                records = _pax_records(body)
        elif kind in REGULAR:
            name = _name(header) if long_name is None else long_name
            name = records.get("path", name)
            is_folder = kind == b"\0" and name.endswith("/")  # before there were kinds
            if is_folder:
                size = 0
            else:
                found.append(Member(name, content, size))
                _require_whole(found[-1], windows.size, shard)
            long_name, records = None, {}
        elif kind in WITHOUT_CONTENT:
            size, long_name, records = 0, None, {}
        elif kind != b"K":  # the long name that a link points to, which no image has
            raise _RareError
        position = content + -(-size // BLOCK) * BLOCK
    if long_name is not None or records:  # of a member that does not come
        raise ValueError(_damaged(shard, position))
    return found


def _name(header: bytes) -> str:
    name = header[:100].split(b"\0", 1)[0]
    prefix = header[345:500].split(b"\0", 1)[0]
    if prefix and header[257:263] == b"ustar\0":  # GNU tar keeps other things there
        name = prefix + b"/" + name
    return name.decode("utf-8", "surrogateescape")


def _number(field: bytes) -> int:
    """Octal text, or where that is too short the bytes of a number with its first bit set.

    Raises:
        _RareError: If it is neither.
    """
    if field[0] & 0x80:
        number = int.from_bytes(field, "big")
        bits = 8 * len(field)
        return number - (1 << bits) if field[0] & 0x40 else number - (1 << (bits - 1))
    try:
        return int(field.split(b"\0", 1)[0].strip() or b"0", 8)
    except ValueError:
        raise _RareError from None


def _pax_records(body: bytes) -> dict[str, object]:
    """'path' and 'size' of a pax header.

    Raises:
        _RareError: If it holds what changes how others are read.
    """
    found: dict[str, object] = {}
    place = 0
    while place < len(body) and body[place] != 0:
        digits, _, _ = body[place : place + 20].partition(b" ")
        if not digits.isdigit() or int(digits) == 0:
            raise _RareError
        record = body[place + len(digits) + 1 : place + int(digits)]
        place += int(digits)
        key, equals, value = record[:-1].partition(b"=")
        if not equals or record[-1:] != b"\n":
            raise _RareError
        if key == b"path":
            found["path"] = value.decode("utf-8", "surrogateescape").rstrip("/")
        elif key == b"size":
            if not value.isdigit():
                raise _RareError
            found["size"] = int(value)
        elif key == b"hdrcharset" or key.startswith(b"GNU.sparse"):
            raise _RareError
    return found


def _require_header(header: bytes, position: int, shard: Path) -> None:
    if len(header) < BLOCK:
        if position == 0:
            raise ValueError(_no_tar(shard, f"it has {len(header)} bytes"))
        _require_end(header, position, shard)
    stored = header[148:156]
    try:
        found = int(stored.split(b"\0", 1)[0].strip(), 8)
    except ValueError:
        found = -1
    spaces = 8 * ord(" ")
    if found == sum(header) - sum(stored) + spaces:
        return
    signed = header[:148] + header[156:]  # as some old writers add up
    if found != sum(signed) - 256 * sum(byte > 127 for byte in signed) + spaces:
        raise ValueError(
            _no_tar(shard, "its first block is no header")
            if position == 0
            else _damaged(shard, position)
        )


def _require_whole(member: Member, size: int, shard: Path) -> None:
    if member.offset + member.num_bytes > size:
        raise ValueError(
            f"shard {shard} ends in the middle of {member.name} ({size:,} bytes, of which "
            f"{member.offset + member.num_bytes:,} are needed); copy or write it again, or take it "
            "out of the folder"
        )


def _require_end(block: bytes, position: int, shard: Path) -> None:
    """Refuse a file that has other than zeros where its members end."""
    if block == END:
        return
    if len(block) == BLOCK:
        raise ValueError(_damaged(shard, position))
    raise ValueError(
        f"shard {shard} has no end: {position:,} bytes of members and no block of zeros after "
        "them, as if writing or copying had stopped; write it again, or if nothing is missing "
        "append the end with truncate -s +1024"
    )


def _no_tar(shard: Path, why: str) -> str:
    return (
        f"shard {shard} is no readable, uncompressed tar file ({why}); unpack or repair it, or "
        "take it out of the folder"
    )


def _damaged(shard: Path, position: int) -> str:
    return (
        f"shard {shard} is damaged: there is no header of a tar file at byte {position:,}, where "
        "one should be; copy or write it again, or take it out of the folder"
    )
