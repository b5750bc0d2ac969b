"""A store with every record checked: those that can be shown, and those that are refused and why.

A record is checked on its own (`store`, `record_claims`), against its evidence (`record_numbers`)
and against the others (`record_conflicts`). One that fails is refused by name; the others stand.
Those that fail alone have no say about the others.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path

import numpy as np

from pe_dense.results.recomputed import Recomputed, recompute_file
from pe_dense.results.record import Record
from pe_dense.results.record_claims import Protocols, check_claims
from pe_dense.results.record_conflicts import Entry, find_conflicts
from pe_dense.results.record_numbers import check_numbers
from pe_dense.results.store import (
    evidence_path,
    evidence_problem,
    load_record,
    record_files,
    record_path,
    require_committed,
)

REMEDY = "restore the record and its evidence, or evaluate again and pass --supersede"

# What damage that no check knows may raise where the evidence is scored: it must not stop the rest.
_UNFORESEEN = (
    ArithmeticError, AssertionError, AttributeError, LookupError, MemoryError, RecursionError,
    TypeError,
)  # fmt: skip


@dataclass(frozen=True)
class CheckedStore:
    """What a store holds.

    Attributes:
        records: Records that nothing is wrong with, sorted by path.
        refused: File of a record -> one sentence for each thing that is wrong with it.
        not_recomputed: Path of a record -> names of its numbers that no evidence gives.
    """

    records: tuple[Record, ...]
    refused: Mapping[Path, tuple[str, ...]]
    not_recomputed: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def problems(self) -> list[str]:
        """All sentences about refused records, each with the record's name."""
        return [text for texts in self.refused.values() for text in texts]


def check_store(
    root: str | os.PathLike[str],
    protocols: Protocols,
    published: bool = False,
    allow_dirty: bool = False,
    others: Sequence[Record] = (),
    memory: Path | None = None,
    now: datetime | None = None,
) -> CheckedStore:
    """Loads all records of a store and checks each of them.

    Args:
        root: Root of the store.
        protocols: Known protocols, as `record_claims.load_protocols` gives them.
        published: Refuse what cannot be published: records of unknown protocols, without
            evidence, or of uncommitted code.
        allow_dirty: Let records of uncommitted code pass.
        others: Records beside the store that stand on the same pages, such as those of papers.
        memory: Where to remember what evidence gave; see `recomputed`.
        now: The time, UTC, without a zone; default: the clock's.

    Raises:
        ValueError: If the root is a file.
    """
    root = Path(root)
    now = now or datetime.now(timezone.utc).replace(tzinfo=None)
    refused: dict[Path, list[str]] = {}
    entries: dict[Path, Entry] = {}
    loose: dict[str, tuple[str, ...]] = {}
    reported = []
    for path in record_files(root):
        try:
            record = load_record(path, root)
            if record.origin == "reported":
                reported.append(record)
                continue
            if published and not allow_dirty:
                require_committed(record)
            problem = evidence_problem(record, path, root)
            if problem is not None:
                raise ValueError(problem)
            with np.errstate(all="ignore"):  # what overflows is no number, and is refused
                found = recomputed_of(record, root, memory)
        except ValueError as error:
            refused[path] = [str(error)]
            continue
        except _UNFORESEEN as error:
            told = f"its evidence cannot be scored ({type(error).__name__}: {error})"
            refused[path] = [_sentence(path, told)]
            continue
        clauses = check_claims(record, protocols, now, published)
        if published and protocols and found is None:
            clauses.append("has no per-item evidence, so that nobody can score it again")
        verdict = check_numbers(record, found)
        clauses += verdict.problems
        if clauses:
            refused[path] = [_sentence(path, clause) for clause in clauses]
        else:
            entries[path] = Entry(record, found)
            if verdict.not_recomputed:
                loose[str(record_path(record))] = verdict.not_recomputed
    conflicts = find_conflicts(list(entries.values()), [*others, *reported])
    for path, entry in entries.items():
        if entry.name in conflicts:
            refused[path] = [_sentence(path, clause) for clause in conflicts[entry.name]]
            loose.pop(entry.name, None)
    sound = [entry.record for path, entry in entries.items() if path not in refused]
    return CheckedStore(
        records=tuple(sorted([*sound, *reported], key=record_path)),
        refused={path: tuple(refused[path]) for path in sorted(refused)},
        not_recomputed=loose,
    )


def _sentence(path: Path, clause: str) -> str:
    """One line, however long the texts of a record are."""
    words = " ".join(clause.split())
    return f"{path}: {words if len(words) <= 300 else words[:297] + '...'}; {REMEDY}"


def recomputed_of(record: Record, root: Path, memory: Path | None = None) -> Recomputed | None:
    """What the evidence of a record gives; None for a record without.

    Raises:
        ValueError: If the file is no evidence.
    """
    path = evidence_path(record, root)
    if path is None or record.evidence is None:
        return None
    return recompute_file(path, record.evidence.sha256, memory)
