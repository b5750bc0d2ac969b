"""Reading one big JSON object entry by entry, in memory that does not grow with its lists.

`json.load` needs several times the size of a file, and Objects365 has gigabytes. Here only the
entry that is being read is in memory.
"""

from __future__ import annotations

import codecs
import hashlib
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

CHUNK_BYTES = 4 << 20
# An entry is one image or one annotation; more than this is a file of another kind, or broken.
MAX_ENTRY_CHARACTERS = 256 << 20
_BLANK = re.compile(r"[ \t\n\r]*")
_DECODE = json.JSONDecoder().raw_decode
# Words that the decoder may find cut in two at the end of what was read, '-Infinity' the longest.
_LONGEST_WORD = 16
_KINDS = {"[": "list", '"': "str", "t": "bool", "f": "bool", "n": "NoneType"}


class Event(NamedTuple):
    """A piece of the object, in the order of the file.

    Attributes:
        kind: 'list' opens the list `key`, 'entry' is one of its entries, 'end' closes it; 'value'
            is a key whose value is no list.
        key: Key in the object.
        value: Decoded entry or value, else None.
        text: The same as it stands in the file.
    """

    kind: str
    key: str
    value: Any = None
    text: str = ""


class NotJsonError(ValueError):
    """The file is no JSON, or not the whole of one."""


class ObjectReader:
    """Iterates over the `Event`s of the JSON object in a file.

    Args:
        path: The file, UTF-8.
        on_progress: Called with (bytes read, bytes in all) while reading.

    Attributes:
        sha256: Hash of the file in hex, once everything is read.

    Raises:
        NotJsonError: While iterating, if the file is not JSON from beginning to end.
        TypeError: If it is JSON but no object; the message is the name of what it is.
        OSError: If it cannot be read.
    """

    def __init__(self, path: Path, on_progress: Callable[[int, int], None] | None = None) -> None:
        self.path, self.on_progress, self.sha256 = path, on_progress, ""

    def __iter__(self) -> Iterator[Event]:
        with self.path.open("rb") as file:
            source = _Source(file, self.path.stat().st_size, self.on_progress)
            yield from _events(source)
            if source.peek():
                raise NotJsonError("something follows its last bracket")
            self.sha256 = source.digest.hexdigest()


def _events(source: _Source) -> Iterator[Event]:
    first = source.peek()
    if first == "\ufeff":
        raise NotJsonError("it begins with a byte-order mark, save it as UTF-8 without one")
    if first != "{":
        source.value()
        raise TypeError(_KINDS.get(first, "number"))
    source.skip("{")
    if source.peek() == "}":
        source.skip("}")
        return
    while True:
        if source.peek() != '"':
            raise NotJsonError("a key is missing" if source.peek() else "it ends in the middle")
        key, _ = source.value()
        source.skip(":")
        if source.peek() == "[":
            yield Event("list", key)
            yield from _entries(source, key)
            yield Event("end", key)
        else:
            yield Event("value", key, *source.value())
        if source.peek() == "}":
            source.skip("}")
            return
        source.skip(",")


def _entries(source: _Source, key: str) -> Iterator[Event]:
    source.skip("[")
    if source.peek() == "]":
        source.skip("]")
        return
    while True:
        yield Event("entry", key, *source.value())
        if source.peek() == "]":
            source.skip("]")
            return
        source.skip(",")


class _Source:
    """A window on the text of a file that moves forward."""

    def __init__(
        self, file: BinaryIO, size: int, on_progress: Callable[[int, int], None] | None
    ) -> None:
        self.file, self.size, self.on_progress = file, size, on_progress
        self.decoder = codecs.getincrementaldecoder("utf-8")()
        self.digest = hashlib.sha256()
        self.text, self.at, self.done, self.ended = "", 0, 0, False

    def more(self) -> bool:
        """Drop what was passed and read on; False at the end of the file."""
        if self.ended:
            return False
        # An entry longer than a chunk is decoded anew each time, so chunks grow with it.
        data = self.file.read(max(CHUNK_BYTES, len(self.text) - self.at))
        self.ended = not data
        self.digest.update(data)
        try:
            text = self.decoder.decode(data, final=self.ended)
        except UnicodeDecodeError as error:
            raise NotJsonError("it is not UTF-8 text") from error
        if self.ended:
            return False
        self.text, self.at = self.text[self.at :] + text, 0
        self.done += len(data)
        if self.on_progress is not None:
            self.on_progress(self.done, self.size)
        return True

    def peek(self) -> str:
        """The next character that is not blank, '' at the end."""
        while True:
            self.at = _BLANK.match(self.text, self.at).end()  # type: ignore[union-attr]
            if self.at < len(self.text):
                return self.text[self.at]
            if not self.more():
                return ""

    def skip(self, character: str) -> None:
        """Pass one character that must come next."""
        found = self.peek()
        if found != character:
            raise NotJsonError(
                f"{found!r} stands where {character!r} is needed"
                if found
                else "it ends in the middle"
            )
        self.at += 1

    def value(self) -> tuple[Any, str]:
        """Decode the next value; also returns its text."""
        self.peek()
        while True:
            try:
                value, end = _DECODE(self.text, self.at)
            except json.JSONDecodeError as error:
                cut = error.msg.startswith("Unterminated") or (
                    error.pos >= len(self.text) - _LONGEST_WORD
                )
                if cut and len(self.text) - self.at < MAX_ENTRY_CHARACTERS and self.more():
                    continue
                is_end = error.msg.startswith("Unterminated") or error.pos >= len(
                    self.text.rstrip()
                )
                reason = "it ends in the middle" if self.ended and is_end else error.msg
                raise NotJsonError(reason) from error
            except (ValueError, RecursionError) as error:  # a number, or a nesting, without end
                raise NotJsonError(str(error)) from error
            if end + _LONGEST_WORD > len(self.text) and self.more():
                continue  # a number may go on in the next chunk
            text, self.at = self.text[self.at : end], end
            return value, text
