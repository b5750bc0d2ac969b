"""The table of numbers that layers_real.py and align_real.py fill, cell by cell."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from pe_dense.files import atomic_write_text, file_sha256

BLIND = "without the picture"
NUMBERS, DIGITS = ("score", "low", "high"), 6
ALL = "all"  # unit of a score over everything that is scored
WEIGHTS = "weights file"  # measure of a row whose note is the sha256 of what a model was


@dataclass(frozen=True)
class Cell:
    """One number.

    Attributes:
        setting: `Sizes.name`.
        measure: 'J&F', 'J', 'F', 'mIoU', 'knn' or 'rmse'; behind it what kind, such as
            'J&F minus before'. Or `WEIGHTS`, whose score says nothing.
        model: What was measured.
        seed: Of its training; of the draw for random weights.
        block: 0-based; -1 where the score belongs to none.
        unit: Clip, or `ALL`.
        score: Fraction; metres for rmse.
        low, high: 95 % interval over clips or pictures; None where nothing can be resampled.
        note: What else belongs to the number.
    """

    setting: str
    measure: str
    model: str
    seed: int
    block: int
    unit: str
    score: float
    low: float | None = None
    high: float | None = None
    note: str = ""


class Table:
    """The CSV file: what is in it is not measured again.

    Args:
        path: Made with the first cell.
        setting: `Sizes.name`; rows of another one are refused.

    Raises:
        ValueError: If the file holds rows of other sizes.
    """

    def __init__(self, path: Path, setting: str) -> None:
        self.path, self.setting, self.cells = path, setting, []
        if path.is_file():
            with path.open(newline="", encoding="ascii") as file:
                self.cells = [_cell(row) for row in csv.DictReader(file)]
        strange = {cell.setting for cell in self.cells} - {setting}
        if strange:
            raise ValueError(
                f"{path} holds numbers of {sorted(strange)[0]!r}, not of {setting!r}; name another "
                "--out"
            )

    def add(self, cells: Sequence[Cell]) -> None:
        """Keep cells, in the place of those of the same name, and write the file whole.

        What is kept is as the file has it, so that a page says the same whenever it is made.
        """
        new = {_name(cell): _as_written(cell) for cell in cells}
        self.cells = [cell for cell in self.cells if _name(cell) not in new] + [*new.values()]
        text = io.StringIO()
        writer = csv.DictWriter(text, [f.name for f in fields(Cell)], lineterminator="\n")
        writer.writeheader()
        for cell in sorted(self.cells, key=_name):
            row = {k: "" if v is None else v for k, v in asdict(cell).items()}
            for key in NUMBERS:
                row[key] = row[key] if row[key] == "" else f"{row[key]:.{DIGITS}f}"
            writer.writerow(row)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write_text(self.path, text.getvalue())

    def find(self, **wanted: Any) -> list[Cell]:
        """Cells with these values, in order of blocks and units."""
        found = [c for c in self.cells if all(getattr(c, k) == v for k, v in wanted.items())]
        return sorted(found, key=_name)

    def has(self, **wanted: Any) -> bool:
        """Whether there is such a cell."""
        return bool(self.find(**wanted))

    def of_file(self, model: str, seed: int, weights: Path) -> None:
        """Say which file a model was, or hold it to what the table says.

        Raises:
            ValueError: If the numbers of the model are those of another file.
        """
        own = file_sha256(weights)
        for cell in self.find(measure=WEIGHTS, model=model, seed=seed):
            if cell.note != own:
                raise ValueError(
                    f"{self.path} has numbers of {model} from a file of sha256 {cell.note}, but "
                    f"{weights} has {own}; name that file, or another --out"
                )
        self.add([Cell(self.setting, WEIGHTS, model, seed, -1, ALL, 0.0, note=own)])


def _name(cell: Cell) -> tuple[Any, ...]:
    return cell.measure, cell.model, cell.seed, cell.block, cell.unit


def _as_written(cell: Cell) -> Cell:
    numbers = {key: getattr(cell, key) for key in NUMBERS}
    return replace(cell, **{k: v if v is None else round(v, DIGITS) for k, v in numbers.items()})


def _cell(row: Mapping[str, str]) -> Cell:
    def number(text: str) -> float | None:
        return float(text) if text else None

    return Cell(
        row["setting"], row["measure"], row["model"], int(row["seed"]), int(row["block"]),
        row["unit"], float(row["score"]), number(row["low"]), number(row["high"]), row["note"],
    )  # fmt: skip


def over_clips(table: Table, model: str, seeds: Sequence[int], block: int) -> Any:
    """Evidence of the clips of a model and block, means over seeds, for intervals and differences.

    Raises:
        ValueError: If a seed lacks a clip that another has.
    """

    columns, units = {}, None
    for measure in ("J", "F"):
        by_seed = [
            table.find(measure=measure, model=model, seed=seed, block=block) for seed in seeds
        ]
        for cells in by_seed:
            units = units or [cell.unit for cell in cells]
            if [cell.unit for cell in cells] != units or not units:
                raise ValueError(
                    f"{table.path}: {model}, block {block}, has not the same clips for all of the "
                    f"seeds {list(seeds)}; run the experiment to its end"
                )
        columns[measure] = np.array([[cell.score for cell in cells] for cells in by_seed]).mean(0)
    return evidence_of_clips(units, columns["J"], columns["F"])


def evidence_of_clips(clips: Sequence[str], j_N: np.ndarray, f_N: np.ndarray) -> Any:
    """Evidence of clips with one object each."""
    from pe_dense.results.evidence import VideoObjectEvidence

    objects = tuple("1" for _ in clips)
    return VideoObjectEvidence(video_ids=tuple(clips), object_ids=objects, j_N=j_N, f_N=f_N)
