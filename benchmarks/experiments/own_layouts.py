"""The same pictures in every layout that own data may have: is the score the same, every digit?

    python benchmarks/experiments/own_layouts.py --data DIR [--only WORD]

DIR has real_photos (COCO photos with maps and masks), real_depth (a room), real_video (clips in
DAVIS's layout) and bccd. A few pictures of each are written in each layout that docs/own_data.md
and docs/own_video.md promise, by writers that know nothing of the readers (layouts_of_*.py); each
is trained on for a few steps by the recipe and scored, by the README's commands in a clone of this
repository's last commit. Random weights of the smallest encoder and small pictures: what is read is
the question, not how good it is.

Compared with the first layout of a recipe are all scores of the record, digit by digit (whatever
classes are called: some layouts have no names), and the weights at the end of the training, bit by
bit: they depend on every picture, label, number and order of the training part. A format that
cannot hold the same labels (outlines, rounded shares, a lossy video) must come close, and the table
says how far its labels are from the first layout's.

With --warm the tools run in forks of one process that has imported them (warm_tools.py): a third
of the time. A layout that has a result is skipped. own_layouts.csv and own_layouts.md are written
beside this file; the exit code is 1 where a layout of the same labels has another score.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
sys.path.insert(0, str(Path(__file__).resolve().parent))

from own_layouts_plan import Layout, Recipe, recipes  # noqa: E402
from row_table import write_rows  # noqa: E402
from tool_calls import call  # noqa: E402
from warm_tools import WarmTools  # noqa: E402

from pe_dense.files import atomic_write_text  # noqa: E402
from pe_dense.results.store import load_records  # noqa: E402
from pe_dense.run import command_line  # noqa: E402

RESULT = "result.json"  # in the folder of a layout that is done
TOWER = ("--encoder", "pe_spatial_t16_512", "--weights", "random")


@dataclass(frozen=True)
class Row:
    """One layout, as the CSV file has it."""

    recipe: str
    layout: str
    metric: str
    score: float  # of the record, every digit
    reference: float  # of the first layout
    same_scores: bool  # all scores of the record
    same_weights: str  # 'True', 'False'; '' where nothing is trained
    holds: str  # 'the same labels', or how far they are from the first layout's
    num_items: int
    commit: str


def main() -> None:
    """Run what has no result yet, and write the table."""
    parser = command_line.Parser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets")
    parser.add_argument("--work-dir", type=Path, default=Path("work_dirs/own_layouts"))
    parser.add_argument("--only", help="run the recipes with this word in their name alone")
    parser.add_argument("--warm", action="store_true", help="import the libraries once")
    args = parser.parse_args()
    work_dir = args.work_dir.absolute()
    clone = Clone(work_dir, args.warm)
    planned = recipes(args.data.absolute())
    for recipe in planned:
        for layout in recipe.layouts if args.only is None or args.only in recipe.name else ():
            place = work_dir / recipe.name / layout.place
            if not (place / RESULT).is_file():
                run(recipe, layout, place, clone)
                write(finished(planned, work_dir, clone), planned)  # whole, if this is killed next
    rows = finished(planned, work_dir, clone)
    write(rows, planned)
    if wrong := [row for row in rows if row.holds == "the same labels" and not is_same(row)]:
        first = wrong[0]
        raise SystemExit(
            f"{len(wrong)} layouts that hold the same labels have another score or other weights, "
            f"the first of them {first.layout!r} of {first.recipe}"
        )


def finished(planned: Sequence[Recipe], work_dir: Path, clone: Clone) -> list[Row]:
    """The rows of everything that has a result, of this run or of those before."""
    rows = []
    for recipe in planned:
        places = [(layout, work_dir / recipe.name / layout.place) for layout in recipe.layouts]
        known = [
            (layout, run(recipe, layout, place, clone))
            for layout, place in places
            if (place / RESULT).is_file()
        ]
        rows += [row_of(recipe, layout, found, known[0][1]) for layout, found in known]
    return rows


class Clone:
    """A clone of the last commit, made when it is first needed; the commands run in it."""

    def __init__(self, work_dir: Path, warm: bool) -> None:
        self.commit = _git("rev-parse", "HEAD")
        self._place, self._warm = work_dir / f"clone-{self.commit[:8]}", warm
        self._tools: WarmTools | None = None

    def call(self, command: Sequence[str], output: Path) -> None:
        """Run a tool in the clone; fails as `tool_calls.call` does."""
        if not self._place.is_dir():
            _git("clone", "--quiet", str(ROOT), str(self._place))
        if not self._warm:
            call([sys.executable, *command], output, root=self._place)
            return
        self._tools = self._tools or WarmTools(self._place)
        self._tools.call(command, output)


def _git(*arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def run(recipe: Recipe, layout: Layout, place: Path, clone: Clone) -> dict:
    """Write, train on and score one layout, or read what was found before."""
    result = place / RESULT
    if result.is_file():
        return json.loads(result.read_text())
    shutil.rmtree(place, ignore_errors=True)
    data = place / "data"
    layout.write(data)
    if layout.convert:
        made = place / "converted"
        command = ["tools/prepare_data.py", "convert", str(data), str(made), *layout.convert]
        clone.call(command, place / "converting.txt")
        data = made
    holds = "the same labels" if layout.differ is None else layout.differ(data)
    options = ["--cfg-options", f"data_root={data}", *recipe.options, *layout.options]
    accepted = [word for name in recipe.accept for word in ("--accept", name)]
    own = [*accepted, *TOWER]
    what, scored = [str(place / "run")], accepted
    if recipe.trains:
        command = ["tools/train.py", recipe.config, *own, "--work-dir", str(place / "run")]
        clone.call([*command, *options], place / "training.txt")
    elif recipe.detector is not None:
        what = [recipe.config, str(detector(recipe, place.parent / "detector", clone))]
        scored = [*options, f"out_dir={place / 'tracks'}"]
    else:
        what = [recipe.config]
        scored = [*own, *options, f"results_dir={place / 'maps'}"]
    records = place / "records"
    command = ["tools/test.py", *what, "--records", str(records), *scored]
    clone.call(command, place / "scoring.txt")
    (record,) = load_records(records)
    found = dict(
        metric=record.protocol.metric, scores=record.scores, holds=holds,
        weights=weights_of(place / "run") if recipe.trains else None,
        num_items=record.dataset.num_items, commit=clone.commit,
    )  # fmt: skip
    result.write_text(json.dumps(found, indent=1) + "\n")
    return found


def detector(recipe: Recipe, place: Path, clone: Clone) -> Path:
    """The work dir of the detector that all layouts of boxes in videos are tracked with."""
    done = place / "done.txt"
    if not done.is_file():
        shutil.rmtree(place, ignore_errors=True)
        config, write_data, options = recipe.detector
        write_data(place / "data")
        command = ["tools/train.py", config, *TOWER, "--work-dir", str(place / "run")]
        command += ["--cfg-options", f"data_root={place / 'data'}", *options]
        clone.call(command, place / "training.txt")
        done.touch()
    return place / "run"


def weights_of(run_dir: Path) -> str:
    """SHA-256 over names and values of the weights at the end of a training."""
    from pe_dense.run.checkpoint import load_checkpoint_safely

    files = [*run_dir.glob("iter_*.pth"), *run_dir.glob("epoch_*.pth")]
    file = max(files, key=lambda file: int(file.stem.split("_")[1]))
    state = load_checkpoint_safely(str(file), "cpu")["state_dict"]
    digest = hashlib.sha256()
    for name, value in sorted(state.items()):
        digest.update(name.encode())
        digest.update(value.contiguous().numpy().tobytes())
    return digest.hexdigest()


def row_of(recipe: Recipe, layout: Layout, found: dict, reference: dict) -> Row:
    """What was found, beside the first layout."""
    metric = found["metric"]
    weights = "" if found["weights"] is None else str(found["weights"] == reference["weights"])
    return Row(
        recipe.name, layout.name, metric, found["scores"][metric], reference["scores"][metric],
        sorted(found["scores"].values()) == sorted(reference["scores"].values()), weights,
        found["holds"], found["num_items"], found["commit"],
    )  # fmt: skip


def is_same(row: Row) -> bool:
    """Whether scores, and weights where some were trained, are those of the first layout."""
    return row.same_scores and row.same_weights != "False"


def write(rows: Sequence[Row], planned: Sequence[Recipe]) -> None:
    """Write own_layouts.csv and own_layouts.md beside this file."""
    here = Path(__file__)
    write_rows(here.with_suffix(".csv"), Row, rows)
    atomic_write_text(here.with_suffix(".md"), page(rows, planned))


def page(rows: Sequence[Row], planned: Sequence[Recipe]) -> str:
    """The table in Markdown."""
    same = [row for row in rows if row.holds == "the same labels"]
    equal = sum(map(is_same, same))
    lines = [
        "# The same pictures in every layout",
        "",
        "Generated by `benchmarks/experiments/own_layouts.py`, whose text says how; numbers are",
        "in `own_layouts.csv`. Each line is a training of a few steps from random weights and its",
        "score, by the commands of the README in a bare clone, so the scores mean nothing but",
        "whether the same was read. Same: all scores of the record to the last digit, and the",
        "weights at the end of the training bit by bit. Of formats that cannot hold the same",
        "labels it is said how far theirs are from the first line's.",
        "",
        f"{equal} of {len(same)} layouts that hold the same labels are the same.",
    ]
    for recipe in planned:
        own = [row for row in rows if row.recipe == recipe.name]
        done = {row.layout for row in own}
        left = [layout.name for layout in recipe.layouts if layout.name not in done]
        lines += ["", f"## {recipe.name}", "", f"`{recipe.config}`"]
        if left:
            lines += ["", f"Not run yet: {'; '.join(left)}."]
        if not own:
            continue
        lines += [
            "", f"{own[0].num_items} scored items; `{' '.join(recipe.options)}`.", "",
            f"| layout | {own[0].metric} | scores | trained weights | labels |",
            "|---|---|---|---|---|",
        ]  # fmt: skip
        for row in own:
            words = {"True": "same", "False": "differ", "": "none trained"}
            scores = "same" if row.same_scores else "differ"
            lines.append(
                f"| {row.layout} | {row.score:.17g} | {scores} | {words[row.same_weights]} "
                f"| {row.holds} |"
            )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    command_line.run(main)
