"""One at a time: whoever changes `.venv` holds a lock; the standard library only."""

from __future__ import annotations

import fcntl
from pathlib import Path
from typing import IO


def lock_setup(root: Path) -> IO[str]:
    """Wait until nobody else works on the `.venv` of a folder; lasts as long as the file is open.

    Raises:
        OSError: If `root` cannot be written.
    """
    lock = (root / ".setup.lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print(f"waiting for a set-up of {root} that is still running", flush=True)
        fcntl.flock(lock, fcntl.LOCK_EX)
    return lock
