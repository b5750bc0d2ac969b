"""A table of rows that are dataclasses, as the CSV files of the experiments have them."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from pe_dense.files import atomic_write_text


def write_rows(path: Path, kind: type, rows: Sequence[Any]) -> None:
    """Write rows whole, in the order of the fields of `kind`; None is an empty cell."""
    text = io.StringIO()
    table = csv.DictWriter(text, [field.name for field in fields(kind)], lineterminator="\n")
    table.writeheader()
    table.writerows(asdict(row) for row in rows)
    atomic_write_text(path, text.getvalue())
