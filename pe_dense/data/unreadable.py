"""A list of image files that could not be read, shared by all processes that load data."""

from __future__ import annotations

import os
from pathlib import Path

from mmengine.logging import print_log


class UnreadableImages:
    """Lists each unreadable image once, and stops when there are too many.

    Every process adds lines to the same file, so that loading workers and ranks count together and
    a resumed run goes on counting. A line is one write; file systems that do not append in one
    piece (some network ones) may mix up lines, which makes the count too small, never too large.

    Args:
        path: The list, one 'name<TAB>reason' per line; None keeps it in this process and its log.
        max_share: Share of the images that may be unreadable.
        min_allowed: So many are always allowed, for small sets.

    Raises:
        ValueError: If the share is not in 0..1.
    """

    def __init__(
        self, path: str | Path | None, max_share: float = 0.01, min_allowed: int = 10
    ) -> None:
        if not 0 <= max_share <= 1:
            raise ValueError(f"max_unreadable_share={max_share} is not a share in 0..1")
        self.path = None if path is None else Path(path)
        self.max_share, self.min_allowed = max_share, min_allowed
        self._names: set[str] = set()

    def add(self, name: str, reason: str, num_images: int) -> None:
        """Note an image; later calls with the same name do nothing.

        Raises:
            ValueError: If more of `num_images` are unreadable than allowed, or all of them.
        """
        if name in self._names:
            return
        self._names.add(name)
        line = f"{_one_line(name)}\t{_one_line(reason)}\n"
        if self.path is not None and _one_line(name) not in self._listed():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
            try:
                os.write(file, line.encode())
            finally:
                os.close(file)
        count = self.count
        where = "the log" if self.path is None else str(self.path)
        print_log(f"unreadable image {count} is skipped: {line.strip()}", logger="current")
        if count >= num_images or count > max(self.min_allowed, self.max_share * num_images):
            raise ValueError(
                f"{count:,} of {num_images:,} images cannot be read, listed in {where}; repair or "
                "remove them, or raise max_unreadable_share"
            )

    @property
    def count(self) -> int:
        """Different images so far, over all processes that share the list."""
        return len(self._listed() | {_one_line(name) for name in self._names})

    def _listed(self) -> set[str]:
        if self.path is None or not self.path.is_file():
            return set()
        lines = self.path.read_text(encoding="utf-8", errors="replace").splitlines()
        return {line.partition("\t")[0] for line in lines if line}


def _one_line(text: str) -> str:
    """Without tabs and breaks, short enough for one write."""
    return " ".join(text.split())[:1000]
