"""The store: a folder of record files, one per encoder x weights x protocol x seed.

    <root>/<encoder>/<weights>/<protocol id>-v<version>[.seed<N>].json
    <root>/<encoder>/<weights>/<protocol id>-v<version>[.seed<N>].<sha256, 8 digits>.npz

The first is the record, the second the per-item evidence behind its score. The record's path is
its key. `<encoder>` is the encoder's name with ':' written as '+' and '/' as '='
(names contain neither). `<weights>` is the first 8 hex digits of the weights' sha256, or 'random';
for a reported record it is 'reported-' and 8 hex digits of its source, so that a measured row and
the numbers of several papers can stand beside each other.

Whoever writes or removes files of a folder holds the lock of its file '.lock', so that of several
writers each finds the work of the others finished. A writer that is killed may leave evidence that
belongs to no record, or a hidden half file; `find_problems` tells them, `remove_leftovers` removes
them.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from pe_dense.files import (
    atomic_create_bytes,
    atomic_write_bytes,
    file_sha256,
    wait_for_lock,
    why_not_writable,
)
from pe_dense.results.record import Evidence, Record, record_from_json, record_to_json

DEFAULT_ROOT = "benchmarks/records"  # what the repository publishes
OWN_ROOT = "work_dirs/records"  # where runs write by themselves
LOCK = ".lock"
CLEAN = "remove it with: python tools/leaderboard.py clean"


def require_writable(record: Path) -> None:
    """Refuse a place that a record could not be written to, before it is needed.

    Raises:
        ValueError: With the folder, and why.
    """
    problem = why_not_writable(record)
    if problem is None and record.is_dir():
        problem = f"{record} is a folder"
    if problem is not None:
        raise ValueError(
            f"no record could be written: {problem}; name another folder with --records, or pass "
            "--no-record"
        )


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
    return PurePosixPath(encoder_folder(record.encoder.name), weights_tag(record), file)


def measured_path(
    encoder: str, weights_sha256: str, protocol_id: str, version: int, seed: int | None
) -> PurePosixPath:
    """`record_path` of a measured record that does not exist yet, to ask before a long run.

    Example:
        >>> str(measured_path("timm:vit_s", "random", "ade20k-linear", 1, seed=0))
        'timm+vit_s/random/ade20k-linear-v1.seed0.json'
    """
    file = _file_name(protocol_id, version, seed)
    return PurePosixPath(encoder_folder(encoder), _short(weights_sha256), file)


def encoder_folder(encoder: str) -> str:
    """Folder of an encoder: its name, ':' as '+' and '/' as '='."""
    return encoder.replace(":", "+").replace("/", "=")


def encoder_of_folder(folder: str) -> str:
    """Name of the encoder that a folder belongs to, the inverse of `encoder_folder`.

    Example:
        >>> encoder_of_folder(encoder_folder("timm:a/b"))
        'timm:a/b'
    """
    return folder.replace("+", ":").replace("=", "/")


def _short(weights_sha256: str) -> str:
    return "random" if weights_sha256 == "random" else weights_sha256[:8]


def _file_name(protocol_id: str, version: int, seed: int | None) -> str:
    return f"{protocol_id}-v{version}" + ("" if seed is None else f".seed{seed}") + ".json"


def evidence_path(record: Record, root: str | os.PathLike[str]) -> Path | None:
    """File of the record's evidence; None if it has none."""
    return None if record.evidence is None else Path(root) / record.evidence.file


def save_record(
    record: Record,
    root: str | os.PathLike[str],
    supersede: bool = False,
    evidence: bytes | None = None,
) -> Path:
    """Writes the record and its evidence into the store and returns the record's file.

    Each file appears whole or not at all, also if the process is killed. Several writers of one
    key take turns: without `supersede` the first wins and the others write nothing; with it the
    last one's record stays, with its own evidence alone. The evidence comes first and is named
    after its content, so that a record never stands beside evidence of another.

    Args:
        record: The record; its field `evidence` is filled in here.
        root: Root of the store, created if needed.
        supersede: Replace a record with the same key instead of refusing.
        evidence: Content of the evidence file.

    Raises:
        ValueError: If the store has a record with this key and `supersede` is False.
        OSError: If the store cannot be written.
    """
    assert record.evidence is None, "the store names the evidence file"
    path = Path(root) / record_path(record)
    with _locked(path.parent):
        if path.exists() and not supersede:
            raise _taken(path)
        if evidence is not None:
            digest = hashlib.sha256(evidence).hexdigest()
            file = evidence_name(record, digest)
            atomic_write_bytes(Path(root) / file, evidence)
            record = dataclasses.replace(record, evidence=Evidence(str(file), digest))
        data = record_to_json(record).encode("ascii")
        if supersede:
            atomic_write_bytes(path, data)
            for old in _evidence_files(path):
                if old != evidence_path(record, root):
                    old.unlink(missing_ok=True)
            return path
        try:
            atomic_create_bytes(path, data)
        except FileExistsError:  # where the file system has no locks, another was quicker
            raise _taken(path) from None
    return path


def rewrite_record(old: Record, new: Record, root: str | os.PathLike[str]) -> Path:
    """Writes what is derived from an unchanged measurement anew, and returns the record's file.

    Raises:
        ValueError: If the file no longer holds the old record.
        OSError: If the store cannot be written.
    """
    kept = ("protocol", "dataset", "encoder", "scores", "evidence", "code", "created", "command")
    assert all(getattr(old, name) == getattr(new, name) for name in kept)
    path = Path(root) / record_path(old)
    with _locked(path.parent):
        if load_record(path, root) != old:
            raise ValueError(f"{path} was replaced by another process meanwhile; run this again")
        atomic_write_bytes(path, record_to_json(new).encode("ascii"))
    return path


def evidence_name(record: Record, sha256: str) -> PurePosixPath:
    """Where evidence of this content lies, relative to the root: beside its record."""
    return record_path(record).with_suffix(f".{sha256[:8]}.npz")


_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Waits until no other process writes into this folder; the system frees a killed one's lock.

    A file system without locks is used without: one writer wins there, too, but a loser may leave
    its evidence.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK).open("a") as file:
        try:
            wait_for_lock(file)
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
        yield


def _taken(path: Path) -> ValueError:
    return ValueError(
        f"{path} already holds a record of this encoder, weights, protocol and seed; "
        "pass --supersede to replace it"
    )


def _evidence_files(record_file: Path) -> list[Path]:
    pattern = re.escape(record_file.stem) + r"\.[0-9a-f]{8}\.npz"
    files = record_file.parent.glob("*.npz")
    return sorted(file for file in files if re.fullmatch(pattern, file.name))


def load_record(path: str | os.PathLike[str], root: str | os.PathLike[str]) -> Record:
    """The record in one file of the store.

    Raises:
        ValueError: If the file cannot be read, holds no valid record, or lies elsewhere than
            its content says.
    """
    path = Path(path)
    if path.exists() and not (path.is_file() or path.is_dir()):  # a pipe or a device has no end
        raise ValueError(f"{path}: is no plain file; remove it")
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


def load_records(root: str | os.PathLike[str], published: bool = False) -> list[Record]:
    """All records of the store, sorted by path; empty if the root is empty or missing.

    Only '*.json' files are looked at; each must be a valid record in its right place.

    Args:
        root: Root of the store.
        published: Refuse records of uncommitted code, which nobody else could run again.

    Raises:
        ValueError: At the first file that is wrong.
    """
    records = [load_record(path, root) for path in record_files(root)]
    if published:
        for record in records:
            require_committed(record)
    return records


def load_readable(root: str | os.PathLike[str]) -> tuple[list[Record], list[str]]:
    """Records of the store that can be read, sorted by path, and a sentence for each other file.

    For tools that ask what is there already; what is shown is checked by `checked_store`.

    Raises:
        ValueError: If the root is a file.
    """
    records, problems = [], []
    for path in record_files(root):
        try:
            records.append(load_record(path, root))
        except ValueError as error:
            problems.append(str(error))
    return records, problems


def require_committed(record: Record) -> None:
    """Refuse a measured record of uncommitted or unknown code.

    Raises:
        ValueError: If it is one; it names the field.
    """
    if record.code is None:
        return
    rule = "commit, evaluate again and pass --supersede, or keep it in a store of your own"
    commit = record.code.commit
    if commit == "unknown" or commit.startswith("files-"):
        raise ValueError(f"{record_path(record)}: field 'code.commit' is {commit!r}; {rule}")
    if record.code.dirty:
        raise ValueError(f"{record_path(record)}: field 'code.dirty' is true; {rule}")


def find_record(name: str | os.PathLike[str], root: str | os.PathLike[str]) -> Record:
    """The record that a person names: its file, or its path below the root, '.json' or not.

    Raises:
        ValueError: If there is none; it says how to list them.
    """
    for path in (Path(name), Path(root) / name, Path(root) / f"{os.fspath(name)}.json"):
        if path.is_file():
            return load_record(path.resolve(), Path(root).resolve())
    raise ValueError(
        f"{name}: no such record; give its file below {root}, for example "
        f"{next(iter(record_files(root)), 'ENCODER/WEIGHTS/PROTOCOL-v1.seed0.json')}"
    )


def find_problems(root: str | os.PathLike[str]) -> list[str]:
    """One sentence for every record that is wrong, and for evidence that is wrong or left over.

    Only files are looked at; what the evidence says of the record is `checked_store`'s.
    """
    problems = []
    for path in record_files(root):
        try:
            problem = evidence_problem(load_record(path, root), path, root)
        except ValueError as error:
            problem = str(error)
        problems += [] if problem is None else [problem]
    return problems + [f"{file}: {why}" for file, why in leftovers(root).items()]


def evidence_problem(record: Record, path: Path, root: str | os.PathLike[str]) -> str | None:
    """What is wrong with the file of a record's evidence, or None."""
    evidence = evidence_path(record, root)
    if evidence is None:
        return None
    assert record.evidence is not None
    again = "restore it, or evaluate again and pass --supersede"
    own = evidence_name(record, record.evidence.sha256)
    if record.evidence.file != str(own):
        return (
            f"{path}: names {record.evidence.file} as its evidence, but its own would be "
            f"{own}; {again}"
        )
    if not evidence.is_file():
        return f"{path}: its evidence {evidence} is missing; {again}"
    try:
        same = file_sha256(evidence) == record.evidence.sha256
    except OSError as error:
        return f"{evidence}: cannot be read ({error.strerror}); {again}"
    return (
        None if same else f"{evidence}: is not the evidence that {path.name} was made from; {again}"
    )


def leftovers(root: str | os.PathLike[str]) -> dict[Path, str]:
    """Files that belong to no record -> why, and what removes them; writers must be at rest.

    Evidence beside a record that cannot be read is no leftover: it may be right once that is.
    """
    owned: set[Path] = set()
    for path in record_files(root):
        try:
            record = load_record(path, root)
        except ValueError:
            owned.update(_evidence_files(path))
            continue
        evidence = evidence_path(record, root)
        owned.update([] if evidence is None else [evidence])
    found = {}
    for file in sorted(Path(root).rglob("*")):
        if re.fullmatch(r"\..*\.[0-9a-f]{12}\.tmp", file.name):
            found[file] = f"was left by a writer that was killed; {CLEAN}"
        elif file.suffix == ".npz" and not file.name.startswith(".") and file not in owned:
            found[file] = f"belongs to no record; {CLEAN}"
    return found


def remove_leftovers(root: str | os.PathLike[str]) -> list[Path]:
    """Removes what `leftovers` finds, once nobody writes there; the files that were removed.

    Raises:
        OSError: If a file cannot be removed.
    """
    removed = []
    for folder in sorted({file.parent for file in leftovers(root)}):
        with _locked(folder):
            # Again, since what a writer had half done then is whole by now.
            for file in [file for file in leftovers(root) if file.parent == folder]:
                file.unlink(missing_ok=True)
                removed.append(file)
    return removed


def record_files(root: str | os.PathLike[str]) -> list[Path]:
    """Files of the store that should be records, sorted by path; empty if the root is missing.

    Raises:
        ValueError: If the root is a file.
    """
    root = Path(root)
    if root.exists() and not root.is_dir():
        raise ValueError(f"{root}: is a file, but a store of records is a folder; name the folder")
    found = [path for path in root.rglob("*.json") if not path.name.startswith(".")]
    return sorted(found, key=lambda path: path.relative_to(root).as_posix())
