"""Images that are scored although they are trained on: the same file, or a copy of it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from pe_dense.data.checks.rules import Finding, FindingCollector, Rule
from pe_dense.files import file_sha256

TRAINED_ON = Rule(
    "val-is-train", "scored images that are trained on", "take them out of one split",
    "scored all the same",
)  # fmt: skip


def repeated_images(trained: Iterable[Path], scored: Sequence[Path]) -> list[Finding]:
    """Scored files that are trained on under the same or another name.

    Only files of equal size are read. What is not there is passed over.
    """
    by_size: dict[int, list[Path]] = {}
    for file in dict.fromkeys(trained):
        if (size := _size(file)) is not None:
            by_size.setdefault(size, []).append(file)
    found = FindingCollector()
    hashes: dict[int, dict[str, Path]] = {}
    for file in dict.fromkeys(scored):
        size = _size(file)
        if size not in by_size:
            continue
        if size not in hashes:
            hashes[size] = {file_sha256(other): other for other in by_size[size]}
        twin = hashes[size].get(file_sha256(file))
        if twin is not None:
            is_same = os.path.realpath(twin) == os.path.realpath(file)
            tail = "" if is_same else f" as {twin}"
            found.add(TRAINED_ON, "", f"is trained on{tail}", file)
    return found.findings()


def _size(file: Path) -> int | None:
    try:
        return os.stat(file).st_size  # noqa: PTH116 (a tenth of the time)
    except OSError:
        return None
