"""A piece of work that one process does while others, also of other machines, wait for it.

The lock is one of the operating system (fcntl), which ends with its process, however that ends.
Where there is none, as on Windows and some network file systems, a file takes its place: whoever
can create it works and touches it every few seconds, and who waits takes over when that stops. Two
processes may then work at once in rare cases; what they write must be whole and the same.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from pe_dense.files import atomic_create_bytes, fcntl

TOUCHED_EVERY_S = 5.0
GIVEN_UP_AFTER_S = 60.0  # without a touch, by the clock of who waits
LOOKED_AT_EVERY_S = 0.5


@contextlib.contextmanager
def one_at_a_time(path: Path, waits: Callable[[], None]) -> Iterator[None]:
    """Wait until no other process is in a block with the same file.

    Threads of one process do not exclude each other.

    Args:
        path: A file for the lock, which is left behind, empty.
        waits: Called once if there is something to wait for.

    Raises:
        OSError: If the file cannot be created.
    """
    with path.open("ab") as file:
        locked = _lock(file, waits)
        claim = path.with_name(f"{path.name}.claim")
        with contextlib.nullcontext() if locked else _claim(claim, waits):
            yield


def _lock(file: BinaryIO, waits: Callable[[], None]) -> bool:
    """Wait for the lock of the operating system; False where there is none."""
    if fcntl is None:
        return False
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except (BlockingIOError, PermissionError):  # POSIX lets it be either
        waits()
    except OSError:
        return False
    fcntl.lockf(file, fcntl.LOCK_EX)
    return True


@contextlib.contextmanager
def _claim(path: Path, waits: Callable[[], None]) -> Iterator[None]:
    mine = f"{socket.gethostname()} {os.getpid()} {secrets.token_hex(6)}".encode()
    seen, since, said = None, 0.0, False
    while True:
        with contextlib.suppress(FileExistsError):
            atomic_create_bytes(path, mine)
            break
        if not said:
            waits()
            said = True
        now = _state(path)
        if now != seen:
            seen, since = now, time.monotonic()
        elif time.monotonic() - since > GIVEN_UP_AFTER_S or _is_dead(path):
            path.unlink(missing_ok=True)
        time.sleep(LOOKED_AT_EVERY_S)
    done = threading.Event()
    toucher = threading.Thread(target=_touch, args=(path, done), daemon=True)
    toucher.start()
    try:
        yield
    finally:
        done.set()
        toucher.join()
        if _content(path) == mine:
            path.unlink(missing_ok=True)


def _touch(path: Path, done: threading.Event) -> None:
    while not done.wait(TOUCHED_EVERY_S):
        with contextlib.suppress(OSError):
            os.utime(path)


def _state(path: Path) -> tuple[bytes, int]:
    try:
        return _content(path), path.stat().st_mtime_ns
    except OSError:
        return b"", 0


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def _is_dead(path: Path) -> bool:
    """Whether the holder was a process of this machine that is there no more."""
    host, _, rest = _content(path).partition(b" ")
    process = rest.split(b" ")[0]
    if host != socket.gethostname().encode() or not process.isdigit() or os.name != "posix":
        return False  # to ask Windows for a process with signal 0 would end it
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False
