"""The store: a folder of record files, one per encoder x weights x protocol x seed.

    <root>/<encoder>/<weights>/<protocol id>-v<version>[.seed<N>].json

The path is the key. `<encoder>` is the encoder's name with ':' written as '+' and '/' as '='
(names contain neither). `<weights>` is the first 8 hex digits of the weights' sha256, or 'random';
for a reported record it is 'reported-' and 8 hex digits of its source, so that a measured row and
the numbers of several papers can stand beside each other.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path, PurePosixPath

from pe_dense.results.provenance import atomic_write_bytes, written_temporary
from pe_dense.results.record import Record, record_from_json, record_to_json

DEFAULT_ROOT = "benchmarks/records"


def weights_tag(record: Record) -> str:
    """Short name of the weights: 'random', 8 hex digits, or 'reported-' and 8 of the source."""
    if record.origin == "reported":
        assert record.source is not None
        source = f"{record.source.paper}\n{record.source.table}"
        return "reported-" + hashlib.sha256(source.encode()).hexdigest()[:8]
    assert record.encoder.weights_sha256 is not None
    return _short(record.encoder.weights_sha256)


def record_path(record: Record) -> PurePosixPath:
    """Where the record lies, relative to the root of its store; two equal paths are one key."""
    protocol = record.protocol
    file = _file_name(protocol.id, protocol.version, record.seed)
    return PurePosixPath(_folder_name(record.encoder.name), weights_tag(record), file)


def measured_path(
    encoder: str, weights_sha256: str, protocol_id: str, version: int, seed: int | None
) -> PurePosixPath:
    """`record_path` of a measured record that does not exist yet, to ask before a long run.

    Example:
        >>> str(measured_path("timm:vit_s", "random", "ade20k-linear", 1, seed=0))
        'timm+vit_s/random/ade20k-linear-v1.seed0.json'
    """
    file = _file_name(protocol_id, version, seed)
    return PurePosixPath(_folder_name(encoder), _short(weights_sha256), file)


def _folder_name(encoder: str) -> str:
    return encoder.replace(":", "+").replace("/", "=")


def _short(weights_sha256: str) -> str:
    return "random" if weights_sha256 == "random" else weights_sha256[:8]


def _file_name(protocol_id: str, version: int, seed: int | None) -> str:
    return f"{protocol_id}-v{version}" + ("" if seed is None else f".seed{seed}") + ".json"


def save_record(record: Record, root: str | os.PathLike[str], supersede: bool = False) -> Path:
    """Writes the record into the store and returns its file.

    The file appears whole or not at all, also if the process is killed, and of several writers
    of one key exactly one wins.

    Args:
        record: The record.
        root: Root of the store, created if needed.
        supersede: Replace a record with the same key instead of refusing.

    Raises:
        ValueError: If the store has a record with this key and `supersede` is False.
        OSError: If the store cannot be written.
    """
    path = Path(root) / record_path(record)
    data = record_to_json(record).encode("ascii")
    if supersede:
        atomic_write_bytes(path, data)
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        if path.exists():  # the common case, without writing first; the link below decides
            raise FileExistsError
        with written_temporary(path, data) as temporary:
            _link_or_claim(temporary, path)
    except FileExistsError:
        raise ValueError(
            f"{path} already holds a record of this encoder, weights, protocol and seed; "
            "pass --supersede to replace it"
        ) from None
    return path


def _link_or_claim(temporary: Path, path: Path) -> None:
    """Gives the finished temporary file its name, or raises FileExistsError."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links: claim the name, then move over it
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        temporary.replace(path)


def load_record(path: str | os.PathLike[str], root: str | os.PathLike[str]) -> Record:
    """The record in one file of the store.

    Raises:
        ValueError: If the file cannot be read, holds no valid record, or lies elsewhere than
            its content says.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise ValueError(f"{path}: not UTF-8 text; restore or remove the file") from None
    except OSError as error:
        raise ValueError(
            f"{path}: cannot be read ({error.strerror}); restore or remove the file"
        ) from None
    record = record_from_json(text, source=str(path))
    expected = record_path(record)
    if path.relative_to(root).as_posix() != expected.as_posix():
        raise ValueError(
            f"{path}: its content belongs at {Path(root) / expected}; move it there or correct it"
        )
    return record


def load_records(root: str | os.PathLike[str]) -> list[Record]:
    """All records of the store, sorted by path; empty if the root is empty or missing.

    Only '*.json' files are looked at; each must be a valid record in its right place.

    Raises:
        ValueError: At the first file that is not.
    """
    return [load_record(path, root) for path in _record_files(Path(root))]


def find_problems(root: str | os.PathLike[str]) -> list[str]:
    """One sentence for every file of the store that `load_records` would refuse."""
    problems = []
    for path in _record_files(Path(root)):
        try:
            load_record(path, root)
        except ValueError as error:
            problems.append(str(error))
    return problems


def _record_files(root: Path) -> list[Path]:
    if root.exists() and not root.is_dir():
        raise ValueError(f"{root}: is a file, but a store of records is a folder; name the folder")
    found = [path for path in root.rglob("*.json") if not path.name.startswith(".")]
    return sorted(found, key=lambda path: path.relative_to(root).as_posix())
