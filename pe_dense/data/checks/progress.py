"""One line on stderr that says how far a piece of work is, and how long it will take."""

from __future__ import annotations

import sys
import time

from pe_dense.data.checks.many_files import Tick


def late_progress(title: str) -> Tick:
    """As `progress_line`, but silent for work of less than two seconds."""
    start, show = time.perf_counter(), progress_line(title)

    def show_late(done: int, total: int) -> None:
        if time.perf_counter() - start > 2.0:
            show(done, total)

    return show_late


def progress_line(title: str) -> Tick:
    """A callback (done, total) that keeps one line with the time left on stderr."""
    start = shown = time.perf_counter()

    def show(done: int, total: int) -> None:
        nonlocal shown
        now = time.perf_counter()
        interval = 0.2 if sys.stderr.isatty() else 10.0
        if now - shown < interval and done < total:
            return
        shown = now
        left_s = (now - start) / done * (total - done)
        text = f"{title}: {done}/{total}, {left_s:.0f} s left"
        if sys.stderr.isatty():
            print(f"\r{text:<60}", end="\n" if done == total else "", file=sys.stderr, flush=True)
        else:
            print(text, file=sys.stderr, flush=True)

    return show
