"""How far a long prediction is: a line that a person watches, or one a while in a log."""

from __future__ import annotations

import sys
import time

LOGGED_EVERY_S = 30.0
SHOWN_EVERY_S = 0.2


class Progress:
    """Counts pictures (or frames) and tells of them on stderr.

    Args:
        total: How many there will be; None where that is not known.
        noun: What they are called.
    """

    def __init__(self, total: int | None, noun: str = "pictures") -> None:
        self.total, self.noun, self.done = total, noun, 0
        self._started = self._told = time.monotonic()
        self._is_watched = sys.stderr.isatty()

    def add(self, count: int = 1) -> None:
        """So many more are done."""
        self.done += count
        now, is_last = time.monotonic(), self.done == self.total
        every = SHOWN_EVERY_S if self._is_watched else LOGGED_EVERY_S
        if now - self._told < every and not (is_last and self._is_watched):
            return
        self._told = now
        line = progress_line(self.done, self.total, now - self._started, self.noun)
        ends = ("\r\x1b[K", "\n" if is_last else "") if self._is_watched else ("", "\n")
        sys.stderr.write(f"{ends[0]}{line}{ends[1]}")
        sys.stderr.flush()


def progress_line(done: int, total: int | None, seconds: float, noun: str) -> str:
    """What is told.

    Example:
        >>> progress_line(120, 500, 60.0, "pictures")
        '120/500 pictures, 2.0 a second, 0:03:10 left'
        >>> progress_line(120, None, 60.0, "frames")
        '120 frames, 2.0 a second'
    """
    rate = done / max(seconds, 1e-9)
    if total is None:
        return f"{done} {noun}, {rate:.1f} a second"
    left = round((total - done) / rate) if done else 0
    clock = f"{left // 3600}:{left // 60 % 60:02d}:{left % 60:02d}"
    return f"{done}/{total} {noun}, {rate:.1f} a second, {clock} left"
