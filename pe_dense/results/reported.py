"""Numbers that papers report: read from compact files, kept apart from measured ones.

One file per paper, in benchmarks/reported:

    {"schema_version": 1,
     "paper": "arXiv:2504.13181 (Perception Encoder)",
     "read_on": "2026-11-20",
     "tables": [
      {"table": "Table 37", "task": "segmentation", "dataset": "ade20k", "split": "val",
       "protocol": {"id": "ade20k-linear-pe-last-layer", "version": 1, "metric": "mIoU",
                    "higher_is_better": true},
       "rows": [{"encoder": "pe_spatial_b16_512", "scores": {"mIoU": 0.444},
                 "mark": "settings partly unknown"}]}]}

Scores are as in records: fractions, or the metric's own unit. Numbers of different protocols
have different protocol ids. `mark` says what is doubtful about a number, and `by_layer` (metric ->
{block index: score}) holds a layer curve; both may be left out. Numbers that repeat those of
another paper under another protocol must be marked so, see `repeated_digits`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from pe_dense.files import atomic_write_bytes
from pe_dense.results.metrics import TABLE, check_direction
from pe_dense.results.record import DatasetInfo, EncoderInfo, ProtocolInfo, Record, Source
from pe_dense.results.repeated_digits import unmarked_repeats
from pe_dense.results.typed_json import parse, unique_keys

SCHEMA_VERSION = 1
_OPTIONAL = {"mark": "", "by_layer": None}


@dataclass(frozen=True)
class ReportedRow:
    """One encoder in a table."""

    encoder: str
    scores: dict[str, float]
    mark: str
    by_layer: dict[str, dict[str, float]] | None


@dataclass(frozen=True)
class ReportedProtocol:
    """The protocol of a table; its settings are those of the paper, so it has no hash."""

    id: str
    version: int
    metric: str
    higher_is_better: bool


@dataclass(frozen=True)
class ReportedTable:
    """Rows of one table of a paper that share a protocol."""

    table: str
    task: str
    dataset: str
    split: str
    protocol: ReportedProtocol
    rows: tuple[ReportedRow, ...]


@dataclass(frozen=True)
class ReportedFile:
    """One paper; `read_on` is the day on which its numbers were read."""

    schema_version: int
    paper: str
    read_on: str
    tables: tuple[ReportedTable, ...]


def load_reported(root: str | os.PathLike[str]) -> list[Record]:
    """All reported numbers of a folder as records; empty if the folder is missing.

    Raises:
        ValueError: If a file is not of the layout above, a number cannot be right, or two files
            use one protocol id for different things; it names the file, the place and the field.
    """
    if Path(root).is_file():
        raise ValueError(f"{root}: is a file; name the folder of reported numbers")
    found = [place for path in sorted(Path(root).glob("*.json")) for place in _read(path)]
    _check_together(found)
    return [record for _, record in found]


def _read(path: Path) -> list[tuple[str, Record]]:
    """The records of a file, each with the place where it stands, for error messages."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=unique_keys)
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror}); name a JSON file") from None
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{path}: not valid JSON ({error}); correct it") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    try:
        content = parse(ReportedFile, _with_defaults(data), "file")
        if content.schema_version != SCHEMA_VERSION:
            raise ValueError(
                f"field 'schema_version' is {content.schema_version}; write {SCHEMA_VERSION}"
            )
        if not _is_date(content.read_on):
            raise ValueError(f"field 'read_on' is {content.read_on!r}; write it as 2026-01-31")
        if not content.tables:
            raise ValueError("field 'tables' is empty; add a table or remove the file")
        return [
            (f"{path}: {table.table!r}, {table.protocol.id}, {record.encoder.name}", record)
            for table in content.tables
            for record in _records(content, table)
        ]
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _is_date(text: str) -> bool:
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


def _with_defaults(data: object) -> object:
    """Fills in what a row may leave out; whatever else is wrong is found by `parse`."""
    if not isinstance(data, dict) or not isinstance(data.get("tables"), list):
        return data
    for table in data["tables"]:
        if isinstance(table, dict) and isinstance(table.get("rows"), list):
            table["rows"] = [
                {**_OPTIONAL, **row} if isinstance(row, dict) else row for row in table["rows"]
            ]
    return data


def _records(content: ReportedFile, table: ReportedTable) -> list[Record]:
    protocol = table.protocol
    where = f"{table.table!r}, {protocol.id}"
    if not table.rows:
        raise ValueError(f"{where}: has no rows; remove the table")
    names = [row.encoder for row in table.rows]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"{where}: {', '.join(twice)} has two rows; keep one")
    found = []
    for row in table.rows:
        try:
            found.append(_record(content, table, row))
            check_direction(table.protocol.metric, table.protocol.higher_is_better)
        except ValueError as error:
            raise ValueError(f"{where}, {row.encoder}: {error}") from None
    return found


def _record(content: ReportedFile, table: ReportedTable, row: ReportedRow) -> Record:
    protocol = table.protocol
    for name in row.scores:
        for metric in TABLE:
            if name == metric.spelling and name != metric.name:
                raise ValueError(f"metric '{name}' is called '{metric.name}' here; write that")
    return Record(
        origin="reported",
        task=table.task,
        protocol=ProtocolInfo(
            protocol.id, protocol.version, protocol.metric, protocol.higher_is_better, None
        ),
        dataset=DatasetInfo(table.dataset, table.split, None),
        encoder=EncoderInfo(row.encoder, "released", None, None, None),
        scores=row.scores,
        by_layer=row.by_layer,
        created=f"{content.read_on}T00:00:00Z",
        source=Source(content.paper, table.table, row.mark),
    )


def _check_together(found: Sequence[tuple[str, Record]]) -> None:
    """Checks that one protocol id means one thing, no number is there twice, repeats are marked."""
    seen: dict[tuple[str, ...], str] = {}
    first: dict[tuple[str, int, str], tuple[object, str]] = {}
    for place, record in found:
        protocol, source = record.protocol, record.source
        assert source is not None
        cell = (record.encoder.name, protocol.id, str(protocol.version), source.paper, source.table)
        if cell in seen:
            raise ValueError(f"{place}: is reported twice, also at {seen[cell]}; keep one")
        seen[cell] = place
        for field, value in (
            ("task", record.task),
            ("protocol.metric", protocol.metric),
            ("protocol.higher_is_better", protocol.higher_is_better),
            ("dataset.name", record.dataset.name),
            ("dataset.split", record.dataset.split),
        ):
            key = protocol.id, protocol.version, field
            expected, other = first.setdefault(key, (value, place))
            if value != expected:
                raise ValueError(
                    f"{place}: field '{field}' is {value!r} but {expected!r} at {other}; a "
                    "protocol id measures one thing, so give one of them another id"
                )
    for problem in unmarked_repeats(found):
        raise ValueError(problem)


def add_reported(
    file: str | os.PathLike[str], root: str | os.PathLike[str], supersede: bool = False
) -> Path:
    """Checks a person's file of reported numbers and copies it to the others.

    Args:
        file: The file.
        root: Folder of the others.
        supersede: Replace a file of the same name.

    Returns:
        Where it is now.

    Raises:
        ValueError: If the file is wrong, does not fit the others, or is there already.
    """
    file, root = Path(file), Path(root)
    target = root / file.name
    if file.suffix != ".json" or file.name.startswith("."):
        raise ValueError(f"{file}: give it a name that ends in .json")
    if target.exists() and not supersede:
        raise ValueError(f"{target} exists already; rename yours, or pass --supersede")
    mine = _read(file)
    others = [
        place for path in sorted(root.glob("*.json")) if path != target for place in _read(path)
    ]
    _check_together([*others, *mine])  # a conflict is blamed on the new file
    atomic_write_bytes(target, file.read_bytes())
    return target
