"""The recipes for own data on real data: pretrained against random weights and no picture at all.

    python benchmarks/experiments/own_data.py --data DIR --weights vit_s14.safetensors [--only WORD]

DIR has real_photos (COCO photos with maps and masks), real_depth (a room, as 7-Scenes has it),
real_video (clips in DAVIS's layout) and bccd. Each recipe is run as a person would run it, with a
folder and nothing else, twice: from the weights of the file and from random ones of the same
encoder. What takes long on two cores as planned is shortened, and the table says how. Each run is
scored by tools/test.py, whose record has the interval over pictures and what the best predictor
without a picture scores.

A run that was stopped goes on, one that has a record is skipped. At the end own_data.csv and
own_data.md are written beside this file from the records of this work dir, and of it alone.
`minutes` is processor time.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from row_table import write_rows  # noqa: E402
from tool_calls import call  # noqa: E402

from pe_dense.files import atomic_write_text  # noqa: E402
from pe_dense.results.blind import best_blind  # noqa: E402
from pe_dense.results.record import Record  # noqa: E402
from pe_dense.results.store import load_records  # noqa: E402
from pe_dense.run import command_line  # noqa: E402

ENCODER = "timm:vit_small_patch14_dinov2.lvd142m"
ARMS = ("pretrained", "random")


@dataclass(frozen=True)
class Task:
    """A recipe on a folder.

    Attributes:
        name: How its runs are called.
        config: The recipe, below configs/.
        folder: The data, below DIR.
        options: What is changed in it; nothing where it can be afforded.
        trains: Whether something is trained.
        accept: What the check of the data finds there, and is accepted.
    """

    name: str
    config: str
    folder: str
    options: tuple[str, ...] = ()
    trains: bool = True
    accept: tuple[str, ...] = ()


SHORT = ("tune=frozen", "image_scale=(224,224)")
TASKS = (
    Task("segmentation_linear", "segmentation/linear_custom.py", "real_photos", ("layers=four",)),
    Task("depth_linear", "depth/linear_custom.py", "real_depth", ("layers=four",)),
    Task("depth_dpt", "depth/dpt_custom.py", "real_depth", ("max_iters=300",)),
    Task(
        "segmentation_upernet", "segmentation/upernet_custom.py", "real_photos",
        ("layer=-1", "max_iters=300")
    ),
    Task("boxes_deta", "detection/deta_custom.py", "bccd", (*SHORT, "max_iters=600")),
    Task("segmentation_layers", "probing/segmentation_custom.py", "real_photos"),
    Task("depth_layers", "probing/depth_custom.py", "real_depth"),
    Task(
        "video", "tracking/vos_custom.py", "real_video",
        ("short_side=240", "split_file=ImageSets/2017/four.txt"), trains=False,
    ),
    Task(
        "masks_vitdet", "detection/vitdet_custom.py", "real_photos", (*SHORT, "max_iters=500"),
        accept=("untrained-classes",),
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One run, as the CSV file has it; scores as records have them."""

    task: str
    weights: str
    metric: str
    score: float
    low: float | None
    high: float | None
    blind: float | None
    blind_name: str
    num_items: int
    unit: str
    data: str
    options: str
    protocol: str
    minutes: float  # nan: of a run that was stopped and went on


def main() -> None:
    """Run what has no record yet, and write the table."""
    parser = command_line.Parser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--weights", type=Path, required=True, help=f"file for {ENCODER}")
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets")
    parser.add_argument("--work-dir", type=Path, default=Path("work_dirs/own_data"))
    parser.add_argument("--only", help="run the tasks with this word in their name alone")
    args = parser.parse_args()
    weights = {"pretrained": str(args.weights.absolute()), "random": "random"}
    planned = [
        (task, arm, weights[arm], args.data.absolute() / task.folder,
         args.work_dir.absolute() / f"{task.name}-{arm}")
        for task in TASKS for arm in ARMS
    ]  # fmt: skip
    for task, *how in planned:
        if args.only is None or args.only in task.name:
            run(task, *how)
            write(finished(planned))  # whole, if this is killed next
    write(finished(planned))


def finished(planned: Sequence[tuple[Task, str, str, Path, Path]]) -> list[Row]:
    """The rows of all runs that have a record."""
    return [run(*one) for one in planned if any((one[-1] / "records").rglob("*.json"))]


def run(task: Task, arm: str, weights: str, data: Path, place: Path) -> Row:
    """Train and score one recipe from some weights, or read what was done before."""
    records, clock = place / "records", place / "minutes.txt"
    config = f"configs/{task.config}"
    asked = ["--encoder", ENCODER, "--weights", weights, "--work-dir", str(place / "run")]
    accepted = [word for name in task.accept for word in ("--accept", name)]
    asked += [*accepted, "--cfg-options", f"data_root={data}", *task.options]
    scored = ["--records", str(records), str(place / "run"), *accepted]
    if not task.trains:
        scored = [config, "--records", str(records), *asked, f"results_dir={place / 'maps'}"]
    if task.trains and not clock.is_file():
        started = place / "started.txt"  # of a run that went on, the whole time is not known
        went_on = started.exists()
        place.mkdir(parents=True, exist_ok=True)
        started.touch()
        command = [sys.executable, "tools/train.py", config, "--resume", *asked]
        minutes = call(command, place / "training.txt")
        clock.write_text("nan\n" if went_on else f"{minutes:.2f}\n")
    if not any(records.rglob("*.json")):
        minutes = call([sys.executable, "tools/test.py", *scored], place / "scoring.txt")
        if not task.trains:
            clock.write_text(f"{minutes:.2f}\n")
    (record,) = load_records(records)
    return row_of(task, arm, record, float(clock.read_text()))


def row_of(task: Task, arm: str, record: Record, minutes: float) -> Row:
    """What a record says, for the table."""
    metric = record.protocol.metric
    interval = None if record.ci95 is None else record.ci95[metric][0]  # None: of one walk alone
    blind = best_blind(record.blind or {}, record.protocol.higher_is_better)
    return Row(
        task.name, arm, metric, round(record.scores[metric], 4),
        None if interval is None else round(interval.low, 4),
        None if interval is None else round(interval.high, 4),
        None if blind is None else round(blind.score, 4), "" if blind is None else blind.name,
        record.dataset.num_items, "" if interval is None else interval.unit, task.folder,
        " ".join(task.options), record.protocol.id, minutes,
    )  # fmt: skip


def write(rows: Sequence[Row]) -> None:
    """Write own_data.csv and own_data.md beside this file."""
    here = Path(__file__)
    write_rows(here.with_suffix(".csv"), Row, rows)
    atomic_write_text(here.with_suffix(".md"), page(rows))


def page(rows: Sequence[Row]) -> str:
    """The table in Markdown."""
    lines = [
        "# The recipes for own data, on real data",
        "",
        "Generated by `benchmarks/experiments/own_data.py`, whose text says how; the numbers are",
        "in `own_data.csv`. A ViT-S/14 whose weights are those of no published table, so that its",
        "scores compare with each other and with nothing else; one seed. Brackets: 95 % intervals",
        "over the scored pictures or clips, none for frames of a single walk. No picture: the best",
        "predictor that never sees one. Minutes: processor time of a training, both weights",
        "together. Random weights are those that timm draws, whose LayerScale of 1e-5 leaves a",
        "token little more than its own patch.",
        "",
        "| recipe | data | metric | pretrained | random weights | no picture | changed | minutes |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for task in TASKS:
        own = {row.weights: row for row in rows if row.task == task.name}
        if not own:
            continue
        one = next(iter(own.values()))
        cells = [_score(own.get(arm)) for arm in ARMS]
        blind = "-" if one.blind is None else f"{one.blind:.3f} ({one.blind_name})"
        minutes = sum(row.minutes for row in own.values())
        spent = f"{minutes:.0f}" if math.isfinite(minutes) else "not known"
        changed = f"`{one.options}`" if one.options else "nothing"
        items = f"{one.num_items} {one.unit or 'image'}s"
        lines.append(
            f"| `{task.config}` | {one.data}, {items} | {one.metric} | "
            f"{' | '.join(cells)} | {blind} | {changed} | {spent} |"
        )
    left = [task.name for task in TASKS if not any(row.task == task.name for row in rows)]
    if left:
        lines += ["", f"Not run yet: {', '.join(left)}."]
    return "\n".join(lines) + "\n"


def _score(row: Row | None) -> str:
    if row is None:
        return "not run"
    interval = "no interval" if row.low is None else f"[{row.low:.3f}, {row.high:.3f}]"
    return f"{row.score:.3f} {interval}"


if __name__ == "__main__":
    command_line.run(main)
