"""How much of an encoder to train: frozen, LoRA, the last four blocks, all; at equal steps.

    python benchmarks/experiments/tune.py --weights vit_s14.safetensors --bccd FOLDER [--seeds 0 1]

Two small tasks, each with its own recipe under four values of one option, `tune`, and nothing else
changed: segmentation of the mini world by a linear head, and boxes of blood cells (BCCD) by a small
DETA. On the first seed each is run from random weights as well, and each score stands beside what
the best predictor without a picture reaches on the same pictures. The commands that are run are
printed; runs that have a record are skipped, a stopped training goes on. After each run tune.csv
and tune.md are written beside this file from the records and the logs.

Time is processor time of the training's own process (`minutes`), which other work on the machine
changes less than the clock; of a training that was stopped and went on it is not known.
"""

from __future__ import annotations

import argparse
import math
import re
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

SETTINGS = ("frozen", "lora", "layers=4", "full")
ARMS = ("pretrained", "random")
ENCODER = "timm:vit_small_patch14_dinov2.lvd142m"
_PARAMETERS = re.compile(r"; ([\d,]+) of ([\d,]+) parameters of the encoder")


@dataclass(frozen=True)
class Task:
    """A recipe at a small size.

    Attributes:
        name: How the table calls it.
        config: The recipe.
        metric: Its main score.
        options: What is changed in it, for all settings alike.
        what: One sentence for the page.
    """

    name: str
    config: str
    metric: str
    options: tuple[str, ...]
    what: str


# Pre-trained weights want a smaller rate than a new head: a tenth of it, and less in front.
RATES = ("lr=1e-3", "backbone_lr_mult=0.1", "layer_decay=0.8")
TASKS = (
    Task(
        "segmentation of the mini world",
        "configs/segmentation/linear_pe_t16_mini.py",
        "mIoU",
        ("layers=[-1]", "image_scale=(84,84)", "crop_size=(84,84)", "warmup_iters=10",
         "max_epochs=2", "val_interval=2", *RATES),
        "200 training and 100 scored pictures at 84 px, linear head on the last block, batch 4, "
        "100 steps",
    ),
    Task(
        "boxes of BCCD",
        "configs/detection/deta_custom.py",
        "AP",
        ("image_scale=(224,224)", "max_iters=300", "val_interval=150", *RATES[1:]),
        "the recipe for own boxes, small DETA, on a folder of 205 training pictures, of which a "
        "tenth chooses the checkpoint, and 87 scored ones, no side longer than 224 px, 300 steps "
        "of the size and rate that the recipe plans",
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One run, as the CSV file has it; scores are fractions."""

    task: str
    weights: str
    tune: str
    seed: int
    metric: str
    score: float
    low: float
    high: float
    blind: float
    blind_name: str
    trained_parameters: int
    encoder_parameters: int
    minutes: float  # nan: of a training that was stopped and went on


def main() -> None:
    """Run what has no record yet, and write the table."""
    parser = command_line.Parser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--weights", type=Path, required=True, help=f"file for {ENCODER}")
    parser.add_argument("--bccd", type=Path, help="folder of BCCD; without it, no boxes")
    parser.add_argument("--work-dir", type=Path, default=Path("work_dirs/tune"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    args = parser.parse_args()
    work_dir, weights = args.work_dir.absolute(), args.weights.absolute()
    data = {TASKS[0].name: mini_world(work_dir), TASKS[1].name: args.bccd}
    planned = [
        (task, arm, seed, tune)
        for task in TASKS
        for arm in ARMS
        for seed in (args.seeds if arm == "pretrained" else args.seeds[:1])
        for tune in SETTINGS
        if data[task.name] is not None
    ]
    start = {"pretrained": str(weights), "random": "random"}
    runs = [
        (task, arm, tune, seed, data[task.name].absolute(), start[arm],
         work_dir / f"{task.metric}-{arm}-{tune.replace('=', '')}-seed{seed}")
        for task, arm, seed, tune in planned
    ]  # fmt: skip
    for one in runs:
        run(*one)
        done = [other for other in runs if any((other[-1] / "records").rglob("*.json"))]
        write([run(*other) for other in done])  # whole, if this is killed next


def mini_world(work_dir: Path) -> Path:
    """The folder of the mini world in ADE20K's layout, which is made the first time."""
    root = work_dir / "mini"
    if not (root / "ade").is_dir():
        call(
            [sys.executable, "tools/prepare_data.py", "mini", "--out", str(root), "--train", "200"]
        )
    return root / "ade"


def run(task: Task, arm: str, tune: str, seed: int, data: Path, weights: str, place: Path) -> Row:
    """Train and score one setting, or read what was done before."""
    records, log, clock = place / "records", place / "output.txt", place / "minutes.txt"
    options = ["--cfg-options", f"data_root={data}", *task.options, f"tune={tune}"]
    if not clock.is_file():
        started = place / "started.txt"
        went_on = started.exists()
        place.mkdir(parents=True, exist_ok=True)
        started.touch()
        minutes = call(
            [sys.executable, "tools/train.py", task.config, "--resume", "--encoder", ENCODER,
             "--weights", weights, "--seed", str(seed), "--work-dir", str(place / "run"), *options],
            log,
        )  # fmt: skip
        clock.write_text("nan\n" if went_on else f"{minutes:.2f}\n")
    if not any(records.rglob("*.json")):
        command = [sys.executable, "tools/test.py", str(place / "run"), "--records", str(records)]
        call(command, place / "score.txt")
    (record,) = load_records(records)
    return row_of(task, arm, tune, seed, record, log.read_text(), float(clock.read_text()))


def row_of(
    task: Task, arm: str, tune: str, seed: int, record: Record, log: str, minutes: float
) -> Row:
    """What the record and the log of a training say."""
    found = _PARAMETERS.search(log)
    assert found is not None, "tools/train.py says how many parameters are trained"
    trained, every = (int(number.replace(",", "")) for number in found.groups())
    interval = record.ci95[task.metric][0]
    blind = best_blind(record.blind or {}, record.protocol.higher_is_better)
    assert blind is not None, "tools/test.py scores what needs no picture"
    return Row(
        task.name, arm, tune, seed, task.metric, round(record.scores[task.metric], 4),
        round(interval.low, 4), round(interval.high, 4), round(blind.score, 4), blind.name,
        trained, every, minutes,
    )  # fmt: skip


def write(rows: Sequence[Row]) -> None:
    """Write tune.csv and tune.md beside this file."""
    here = Path(__file__)
    write_rows(here.with_suffix(".csv"), Row, rows)
    atomic_write_text(here.with_suffix(".md"), page(rows))


def page(rows: Sequence[Row]) -> str:
    """The table in Markdown."""
    lines = [
        "# Frozen, LoRA, the last blocks, or all",
        "",
        "Generated by `benchmarks/experiments/tune.py`, whose text says how; the numbers are in",
        "`tune.csv`. A ViT-S/14 whose weights are those of no published table, so that its scores",
        "compare with each other and with nothing else. Brackets: 95 % intervals over the scored",
        "pictures, which leave out what another seed would change. Minutes: processor time of the",
        "training. Random weights are those that timm draws, whose LayerScale of 1e-5 leaves a",
        "token little more than its own patch.",
    ]
    for task in TASKS:
        own = [row for row in rows if row.task == task.name]
        if not own:
            continue
        lines += [
            "", f"## {task.name[0].upper()}{task.name[1:]}", "",
            f"{task.what[0].upper()}{task.what[1:]}. Without a picture: {task.metric} "
            f"{own[0].blind:.3f} ({own[0].blind_name}).", "",
            "| weights | tune | seed "
            f"| {task.metric} | trained parameters of the encoder | minutes |",
            "|---|---|---|---|---|---|",
        ]  # fmt: skip
        for row in own:
            share = 100 * row.trained_parameters / row.encoder_parameters
            spent = f"{row.minutes:.1f}" if math.isfinite(row.minutes) else "not known"
            lines.append(
                f"| {row.weights} | `{row.tune}` | {row.seed} | {row.score:.3f} "
                f"[{row.low:.3f}, {row.high:.3f}] | {row.trained_parameters:,} ({share:.1f} %) "
                f"| {spent} |"
            )
    known = {(row.task, row.weights) for row in rows}
    left = [
        f"{task.name} from {arm} weights"
        for task in TASKS
        for arm in ARMS
        if (task.name, arm) not in known
    ]
    if left:
        lines += ["", f"Not run yet: {', '.join(left)}."]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    command_line.run(main)
