"""How many processes may be forked for work on many files."""

from __future__ import annotations

import multiprocessing
import os


def max_workers() -> int:
    """Cores that this process may use; 1 where processes cannot be forked, as on Windows.

    Elsewhere than on Linux a process is not told which cores it may use: all count.
    """
    if "fork" not in multiprocessing.get_all_start_methods():
        return 1
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
