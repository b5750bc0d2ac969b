"""What was scored, byte by byte: a hash for every item of a split, and one over all of them.

Names and counts of items do not tell a corrected label map, or pictures that were compressed anew,
from the original. The hashes lie in the evidence beside a score, the one number over them in its
record, so that scores on other files are never compared.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from pe_dense.results.typed_json import parse

ITEM_DIGITS = 32  # of a hash: 128 bits tell files apart, and a COCO record stays small
OTHER_DATA = "the scored files are not those of"  # so begins a record's note on unpublished data
_ITEM = re.compile(rf"[0-9a-f]{{{ITEM_DIGITS}}}")
_LABELS = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class ScoredContent:
    """The files of a scored split.

    Attributes:
        labels: sha256 of the file that holds the labels of all items, as COCO's does; None where
            each item has files of its own.
        items: Name of an image, video or sequence -> 32 hex digits over its files.

    Raises:
        ValueError: If a hash is malformed, or there is no item.
    """

    labels: str | None
    items: Mapping[str, str]

    def __post_init__(self) -> None:
        """Checks and freezes the fields."""
        items = parse(dict[str, str], dict(self.items), "content.items")
        if not items:
            raise ValueError("field 'content.items' is empty; name what was scored")
        if self.labels is not None and not _LABELS.fullmatch(str(self.labels)):
            raise ValueError("field 'content.labels' must be 64 hex digits or null; correct it")
        for name, digits in items.items():
            if not _ITEM.fullmatch(digits):
                raise ValueError(
                    f"field 'content.items.{name}' must be {ITEM_DIGITS} hex digits; correct it"
                )
        object.__setattr__(self, "items", MappingProxyType(dict(sorted(items.items()))))

    @property
    def sha256(self) -> str:
        """One number over labels and pictures, whatever the order of the items.

        Example:
            >>> ScoredContent(None, {"a.jpg": "0" * 32, "b.jpg": "1" * 32}).sha256[:16]
            '7a654be07265104f'
        """
        text = json.dumps([self.labels, sorted(self.items.items())], separators=(",", ":"))
        return hashlib.sha256(text.encode("ascii")).hexdigest()

    def difference(self, other: ScoredContent) -> str | None:
        """What sets the other content apart, in words; None if nothing does."""
        if len(self.items) != len(other.items):
            return f"it has {len(other.items)} items, not {len(self.items)}"
        absent = [name for name in self.items if name not in other.items]
        if absent:
            return f"it has no {absent[0]}"
        if self.labels != other.labels:
            return "its annotation file is another"
        changed = [name for name, digits in self.items.items() if other.items[name] != digits]
        if changed:
            more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
            return f"picture or label of {changed[0]}{more} is another"
        return None

    def to_json(self) -> dict[str, Any]:
        """Plain values, which a file may hold; `ScoredContent(**values)` is the inverse."""
        return {"labels": self.labels, "items": dict(self.items)}


def item_digits(file_hashes: list[str]) -> str:
    """The hash of an item from those of its files, in a fixed order.

    Args:
        file_hashes: sha256 of its picture, then of its label; of a video all pictures first.

    Example:
        >>> item_digits(["0" * 64, "1" * 64])
        '6d9a88eb7907e66d60425f0c13d60eea'
    """
    return hashlib.sha256("\n".join(file_hashes).encode("ascii")).hexdigest()[:ITEM_DIGITS]
