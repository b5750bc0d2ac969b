"""Files written whole or not at all, and their SHA-256.

What is written lies first beside its place, under a hidden name '.*.tmp' that no reader looks at,
is flushed to the disk, and takes its name in one step. So a reader sees the old or the new file,
never half of one, and a failure leaves nothing behind; only a killed process may leave the hidden
file. Folders are created where they are missing. The mode follows the umask, as for any new file
(`tempfile` would make it private).
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


def file_sha256(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file's bytes as 64 hex digits, read in chunks of 1 MiB.

    Raises:
        OSError: If the file cannot be read.
    """
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def code_sha256(folder: str | os.PathLike[str]) -> str:
    """SHA-256 of all Python files below a folder, and of their names, as 64 hex digits."""
    digest = hashlib.sha256()
    for file in sorted(Path(folder).rglob("*.py")):
        name = file.relative_to(folder).as_posix()
        digest.update(f"{name} {file_sha256(file)}\n".encode())
    return digest.hexdigest()


def why_not_writable(path: str | os.PathLike[str]) -> str | None:
    """Why a file could not be written there, tried with a few bytes; None if it could.

    Folders that are missing are not created: the nearest one that is there is tried.

    Example:
        >>> why_not_writable("/proc/self/status/records/a.json")
        '/proc/self/status is no folder'
    """
    folder = Path(path).absolute().parent
    while not os.path.lexists(folder):
        folder = folder.parent
    if not folder.is_dir():
        return f"{folder} is no folder"
    try:
        with temporary_beside(folder / "tried") as temporary:
            temporary.write_bytes(b"tried" * 100)
    except OSError as error:
        return f"{folder} cannot be written ({error.strerror})"
    return None


def atomic_write_text(path: str | os.PathLike[str], text: str) -> None:
    """Writes UTF-8 text in place of what `path` holds; see `atomic_file`."""
    atomic_write_bytes(path, text.encode())


def atomic_write_bytes(path: str | os.PathLike[str], data: bytes) -> None:
    """Writes bytes in place of what `path` holds; see `atomic_file`."""
    with atomic_file(path) as temporary:
        temporary.write_bytes(data)


def atomic_create_bytes(path: str | os.PathLike[str], data: bytes) -> None:
    """Writes a file that must be new: of several writers, also of other machines, one succeeds.

    On a file system without hard links the file is empty for the moment before it is complete.

    Raises:
        FileExistsError: If `path` exists; it is left as it is.
        OSError: If the folder or the file cannot be written.
    """
    with temporary_beside(path) as temporary:
        temporary.write_bytes(data)
        _flush(temporary)
        try:
            os.link(temporary, path)
        except FileExistsError:
            raise
        except OSError:  # no hard links here: claim the name, then move over it
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
            temporary.replace(path)


@contextlib.contextmanager
def atomic_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Name of an empty file to fill, which replaces `path` when the block ends without an error.

    For content that is too large for `atomic_write_bytes`, or that another library writes, even
    one that puts a file of its own in the place of the empty one.

    Raises:
        OSError: If the folder or the file cannot be written.
    """
    with temporary_beside(path) as temporary:
        temporary.touch(exist_ok=False)
        mode = temporary.stat().st_mode
        yield temporary
        temporary.chmod(mode)
        _flush(temporary)
        temporary.replace(path)


@contextlib.contextmanager
def temporary_beside(path: str | os.PathLike[str], suffix: str = ".tmp") -> Iterator[Path]:
    """A free hidden name beside `path`; what bears it when the block ends is removed.

    For files that must pass a check, or wait for others, before they take their names.

    Args:
        path: Where the file will be.
        suffix: End of the name, for readers that go by it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f".{path.name[:100]}.{secrets.token_hex(6)}{suffix}"
    try:
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def wait_for_lock(file: IO[Any]) -> None:
    """Waits until no other process has the lock of an open file; the system ends it with ours.

    On Windows there is nothing to wait for: what is written must be whole without a lock, too.

    Raises:
        OSError: If the file system has no locks.
    """
    if fcntl is not None:
        fcntl.flock(file, fcntl.LOCK_EX)


def _flush(path: Path) -> None:
    """Waits until the disk has the file."""
    with path.open("rb" if os.name == "posix" else "rb+") as file:  # Windows flushes what it writes
        os.fsync(file.fileno())
