"""The tables of interval_coverage.py: rows as CSV, and for readers as Markdown."""

from __future__ import annotations

import csv
from pathlib import Path

from pe_dense.files import atomic_write_text

COLUMNS = (
    "code", "kind", "case", "seeds", "asked", "share", "endless", "marks", "verdict", "trials",
    "resamples", "seconds",
)  # fmt: skip


def write_csv(path: Path, label: str, rows: list[dict], cases: list[str]) -> list[dict]:
    """Replaces rows of this label that were measured again; all rows, in the order of the cases."""

    def key(row: dict) -> tuple:
        return tuple(row[name] for name in ("code", "kind", "case", "seeds", "asked"))

    kept: dict[tuple, dict] = {}
    if path.is_file():
        with path.open(newline="", encoding="ascii") as file:
            kept = {key(row): row for row in csv.DictReader(file)}
    for row in rows:
        row = {"code": label, **row}
        kept[key(row)] = row
    order = {name: n for n, name in enumerate(cases)}

    def place(row: dict) -> tuple:
        name = f"{row['kind']} | {row['case']} | {row['seeds']} | {row['asked']}"
        return row["code"] != "now", order.get(name, len(order))

    found = sorted(kept.values(), key=place)
    lines = [",".join(COLUMNS)]
    lines += [",".join(quoted(str(row[name])) for name in COLUMNS) for row in found]
    atomic_write_text(path, "\n".join(lines) + "\n")
    return found


def quoted(cell: str) -> str:
    """A cell of a CSV file."""
    return '"' + cell.replace('"', '""') + '"' if set(cell) & set('",\n') else cell


TITLES = {
    "interval": "Interval of one score: how often it holds the truth",
    "difference": "Two equal models: how often they are not told apart (p of 5 %)",
    "combined": "Interval of an encoder's mean, for other images and other seeds",
    "groups": "Equal encoders: how often all of them are in group 1",
    "limits": "What pooling cannot know: one encoder of six whose seeds vary three times as much",
    "power": "One encoder is worse: how often it is not in group 1",
}


def markdown(rows: list[dict]) -> str:
    """The table for readers, the former code beside the present one."""
    before = {row_name(row): row for row in rows if row["code"] != "now"}
    labels = sorted({row["code"] for row in before.values()})
    lines = [
        "# How often intervals hold the truth",
        "",
        "Made by `python benchmarks/experiments/interval_coverage.py`, whose text says what the",
        "populations are. Shares of trials: 4,000 trials are off by up to 0.007, 1,000 by 0.014",
        "(two standard errors at 0.95). Wanted is 0.95. A row holds between 0.92 and 0.98;",
        "elsewhere the row of a table carries the mark that stands here. 'Endless data' is the",
        "share that holds the score on endless data, not the mean over test sets of this size.",
    ]
    if labels:
        trials = sorted({row["trials"] for row in before.values()})
        lines.append(f"'Before' is commit {', '.join(labels)}, in {' or '.join(trials)} trials.")
    for kind, title in TITLES.items():
        of_kind = [row for row in rows if row["code"] == "now" and row["kind"] == kind]
        if not of_kind:
            continue
        head = [
            "Test set",
            "Seeds",
            "Share",
            "Before",
            "Endless data",
            "Marks",
            "Verdict",
            "Trials",
        ]
        head[2] = "Found" if kind == "power" else head[2]
        shown = [name for name in head if has(name, of_kind, before)]
        lines += ["", f"## {title}", "", "| " + " | ".join(shown) + " |"]
        lines.append("|" + "|".join(" --- " for _ in shown) + "|")
        for row in of_kind:
            cells = cells_of(row, before)
            lines.append("| " + " | ".join(cells[name] or "-" for name in shown) + " |")
    return "\n".join(lines) + "\n"


def row_name(row: dict) -> tuple:
    """What a row is about, whatever code measured it."""
    return tuple(row[name] for name in ("kind", "case", "seeds", "asked"))


def has(name: str, rows: list[dict], before: dict[tuple, dict]) -> bool:
    """Whether a column says anything."""
    if name in ("Test set", "Share", "Found", "Trials"):
        return True
    return any(cells_of(row, before)[name] not in ("", "-") for row in rows)


def cells_of(row: dict, before: dict[tuple, dict]) -> dict[str, str]:
    """Column -> text."""
    former = before.get(row_name(row))
    case = row["case"] + (f", {row['asked']}" if row["kind"] == "power" else "")
    return {
        "Test set": case,
        "Seeds": row["seeds"],
        "Share": row["share"],
        "Found": row["share"],
        "Before": former["share"] if former else "",
        "Endless data": row["endless"],
        "Marks": row["marks"],
        "Verdict": row["verdict"],
        "Trials": str(row["trials"]),
    }
