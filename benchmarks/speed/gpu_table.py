"""The CSV file of `gpu.py`, and the Markdown tables made from it.

    python benchmarks/speed/gpu_table.py            # writes them into docs/speed.md and docs/gpu.md

Each stands between two comments of its page; a test compares them with the file.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from pathlib import Path

from measure import FOLDER, ROOT

from pe_dense.files import atomic_write_text

CSV_FILE = FOLDER / "gpu.csv"
SPEED, PAGE = ROOT / "docs" / "speed.md", ROOT / "docs" / "gpu.md"
CARDS_GIB = (8, 12, 16, 24, 32, 48, 80)  # as they are sold; a tenth is left free
BEGIN, END = "<!-- table of benchmarks/speed/gpu.csv: begin -->", "<!-- table: end -->"
SECTIONS = (
    "encoder", "propagation", "video", "alignment", "probing", "pixelwise", "detection", "data",
)  # fmt: skip
COLUMNS = (
    "section", "part", "status", "ours_ms", "plain_name", "plain_ms", "floor_ms", "floor_by",
    "ours_over_plain", "ours_over_floor", "share_of_peak", "ours_gib", "plain_gib", "equal",
    "target", "note", "hardware", "versions", "command",
)  # fmt: skip


def read_rows(path: Path = CSV_FILE) -> list[dict[str, str]]:
    """The rows of a CSV file of `gpu.py`; none where there is no file.

    Raises:
        ValueError: If the file has other columns.
    """
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        if tuple(reader.fieldnames or ()) != COLUMNS:
            raise ValueError(f"{path} has columns of another version: move it away, measure again")
        return list(reader)


def merge_rows(
    old: Iterable[Mapping[str, str]], new: Iterable[Mapping[str, str]], sections: Iterable[str]
) -> list[Mapping[str, str]]:
    """Old rows of the sections that did not run, and the new ones, in order of their sections."""
    ran = set(sections)
    kept = [row for row in old if row["section"] not in ran]
    return sorted([*kept, *new], key=lambda row: SECTIONS.index(row["section"]))


def write_rows(path: Path, rows: Iterable[Mapping[str, str]]) -> None:
    """Writes the CSV file, whole or not at all."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    atomic_write_text(path, text.getvalue())


def markdown(rows: Iterable[Mapping[str, str]]) -> str:
    """The table of docs/speed.md; one sentence where nothing was measured."""
    rows = list(rows)
    if not rows:
        return "Not measured yet on a GPU."
    lines = [
        "| part | ours, ms | against, ms | time | floor, ms | over floor | GiB | against |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        name = f"{row['section']}: {row['part']}"
        if row["status"] != "ok":
            lines.append(f"| {name} | {row['status']} | | | | | | |")
            continue
        against = f"{row['plain_name']} {row['plain_ms']}".strip()
        cells = [
            name, row["ours_ms"], against, row["ours_over_plain"], row["floor_ms"],
            row["ours_over_floor"], row["ours_gib"], row["plain_gib"],
        ]  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    hardware = sorted({row["hardware"] for row in rows})
    versions = sorted({row["versions"] for row in rows})
    return "\n".join([*lines, "", f"Measured on {'; '.join(hardware)} ({'; '.join(versions)})."])


def cards(rows: Iterable[Mapping[str, str]]) -> str:
    """Measured memory of every part with the smallest card that holds it."""
    measured = [row for row in rows if row["status"] == "ok" and row["ours_gib"]]
    if not measured:
        return "Not measured yet on a GPU."
    lines = ["| part | GiB | card |", "|---|---|---|"]
    for row in measured:
        fits = [size for size in CARDS_GIB if float(row["ours_gib"]) <= 0.9 * size]
        card = f"{fits[0]} GB" if fits else f"more than {CARDS_GIB[-1]} GB"
        lines.append(f"| {row['section']}: {row['part']} | {row['ours_gib']} | {card} |")
    return "\n".join(lines)


def with_table(text: str, table: str) -> str:
    """A Markdown text with the table between the two comments replaced.

    Raises:
        ValueError: If the comments are not there, once each and in order.
    """
    head, found, rest = text.partition(BEGIN)
    _, closed, tail = rest.partition(END)
    if not (found and closed) or BEGIN in rest or END in tail:
        raise ValueError(f"the text needs {BEGIN} and {END}, once each and in this order")
    return f"{head}{BEGIN}\n\n{table}\n\n{END}{tail}"


def main() -> None:
    rows = read_rows()
    for page, table in ((SPEED, markdown(rows)), (PAGE, cards(rows))):
        atomic_write_text(page, with_table(page.read_text(encoding="utf-8"), table))
        print(f"wrote the table into {page.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
