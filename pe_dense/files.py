"""Files written whole or not at all, and their SHA-256."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path


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


def atomic_write_text(path: str | os.PathLike[str], text: str) -> None:
    """Writes UTF-8 text so that `path` is always the old or the new file, never half of one."""
    atomic_write_bytes(path, text.encode())


def atomic_write_bytes(path: str | os.PathLike[str], data: bytes) -> None:
    """Writes bytes so that `path` is always the old or the new file, never half of one.

    The folder is created if needed. On failure nothing is left behind; a killed process may
    leave a hidden '.*.tmp' file, which no reader looks at.

    Raises:
        OSError: If the folder or the file cannot be written.
    """
    with written_temporary(Path(path), data) as temporary:
        temporary.replace(path)


@contextlib.contextmanager
def written_temporary(path: Path, data: bytes) -> Iterator[Path]:
    """A complete temporary file beside `path`, on disk, removed on leaving if still there.

    Its mode follows the umask as for any new file (unlike `tempfile`, which makes it private).
    """
    with temporary_beside(path) as temporary:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        yield temporary


@contextlib.contextmanager
def temporary_beside(path: Path) -> Iterator[Path]:
    """A free name beside `path` that no reader looks at; what is there in the end is removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f".{path.name[:100]}.{secrets.token_hex(6)}.tmp"
    try:
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)
