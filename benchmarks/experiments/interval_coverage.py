"""How often 95 % intervals hold the truth, equal encoders stand together, and gaps are found.

    python benchmarks/experiments/interval_coverage.py            # about 15 minutes on one core
    python benchmarks/experiments/interval_coverage.py --only groups --trials 200

Test sets are drawn from made-up populations of the size and kind of real ones, scored through the
evidence classes, and given intervals, differences and groups by `pe_dense.results`, as records and
pages get them. Truth is the mean over test sets of that size; for intervals of one score, the share
that holds the score on endless data stands beside it (AP and mIoU depend on the size of the set).

Writes interval_coverage.csv and .md beside this file. A row passes between 92 and 98 %, or carries
the mark that the row of a table would carry. A killed run goes on where it was: finished blocks of
trials lie in --work-dir; every trial has a seed of its own, so that it does not matter when it ran.

What was before: COVERAGE_OF=DIR measures the code of another checkout, under a --label of its own.
The populations are in interval_populations.py, the tables in interval_coverage_report.py.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
PACKAGE = Path(os.environ.get("COVERAGE_OF", ROOT)).resolve()
sys.path.insert(0, str(PACKAGE))

from interval_coverage_report import markdown, write_csv  # noqa: E402
from interval_populations import (  # noqa: E402
    detector,
    label_maps,
    same_videos,
    trained,
    videos,
)

from pe_dense.results import statistics  # noqa: E402
from pe_dense.results.rank_groups import rank_groups  # noqa: E402
from pe_dense.results.statistics import interval, paired_difference  # noqa: E402

BLOCK = 25


@dataclass(frozen=True)
class Case:
    """One row of the table.

    Attributes:
        kind: 'interval', 'difference', 'combined', 'groups', 'limits' or 'power'.
        case: What the test set is.
        seeds: Of each encoder; 0 where there are none.
        asked: What share is counted.
        trial: Function of a random generator and a seed of the draws -> (held, held on endless
            data or None, marks).
        trials, resamples: How many.
    """

    kind: str
    case: str
    seeds: str
    asked: str
    trial: Callable[[np.random.Generator, int, int], tuple[bool, bool | None, tuple[str, ...]]]
    trials: int = 1000
    resamples: int = 1000

    @property
    def key(self) -> str:
        """Name of the row, for files and messages."""
        return f"{self.kind} | {self.case} | {self.seeds} | {self.asked}"


# ---- trials ----------------------------------------------------------------------------------


def held(found, truth: float) -> bool:
    """Whether the interval holds it."""
    return bool(found.low <= truth <= found.high)


def words(found) -> tuple[str, ...]:
    """Marks of a result; none from code that knew of none."""
    try:
        from pe_dense.results.interval_marks import marks_in_words
    except ImportError:
        return ("fewer than 20 units",) if found.few_units else ()
    return marks_in_words(found.unit, found.num_units, found.thin_classes)


class Truth:
    """Mean score of test sets of this size, and of endless data; drawn once, when first asked."""

    def __init__(self, draw: Callable, metric: str, num: int, sets: int, endless: int) -> None:
        self.draw, self.metric, self.num = draw, metric, num
        self.sets, self.endless = sets, endless
        self._found: tuple[float, float] | None = None

    def __call__(self) -> tuple[float, float]:
        if self._found is None:
            rng = np.random.default_rng([99, self.num])
            scores = [self.score(rng, self.num) for _ in range(self.sets)]
            self._found = float(np.mean(scores)), self.score(rng, self.endless)
        return self._found

    def score(self, rng: np.random.Generator, num: int) -> float:
        return self.draw(rng, num).metrics(None, [self.metric])[self.metric]


def interval_case(
    name: str, draw: Callable, metric: str, num: int, sets: int, endless: int, **options
) -> Case:
    """Coverage of the interval of one score."""
    unit = options.pop("unit", None)
    truth = Truth(draw, metric, num, sets, endless)

    def trial(rng, seed, resamples):
        found = interval(draw(rng, num), metric, resamples, seed, unit)
        of_size, of_all = truth()
        marks = words(found) if unit is None else ("not published",)
        return held(found, of_size), held(found, of_all), marks

    return Case("interval", name, "-", "holds the truth", trial, **options)


def difference_case(name: str, pair: Callable, metric: str, **options) -> Case:
    """Share of equal models that are not significantly different."""

    def trial(rng, seed, resamples):
        found = paired_difference(*pair(rng), metric, resamples, seed)
        return found.p_value >= 0.05, None, words(found)

    return Case("difference", name, "-", "equal models are not told apart", trial, **options)


def combined_case(name: str, seeds: tuple[int, ...], num: int, **options) -> Case:
    """Coverage of the interval of the first encoder's mean, for other images and seeds."""

    def trial(rng, seed, resamples):
        encoders = trained(rng, num, seeds)
        if hasattr(statistics, "combined_intervals"):
            all_found = statistics.combined_intervals(encoders, "rmse", resamples, seed)
            found = all_found["encoder0"]
        else:
            found = statistics.combined_interval(encoders["encoder0"], "rmse", resamples, seed)
        marks = words(found)
        if getattr(found, "compares", "encoders") == "checkpoints":
            marks += ("compares checkpoints",)
        return held(found, 3.0), None, marks

    return Case("combined", name, described(seeds), "holds the encoder's mean", trial, **options)


def limits_case(which: str, encoder: str, **options) -> Case:
    """Coverage where the spread between seeds is not the same for all, as pooling takes it."""

    def trial(rng, seed, resamples):
        encoders = trained(rng, 100, (3,) * 6, unsteady=3.0)
        found = statistics.combined_intervals(encoders, "rmse", resamples, seed)[encoder]
        return held(found, 3.0), None, words(found)

    return Case("limits", which, "3", "holds the encoder's mean", trial, **options)


def groups_case(
    name: str, seeds: tuple[int, ...], num: int, seed_sd: float = 0.06, **options
) -> Case:
    """Share of trials in which equal encoders are all in group 1."""

    def trial(rng, seed, resamples):
        ranks = rank_groups(trained(rng, num, seeds, seed_sd), "rmse", False, 0.95, resamples, seed)
        marks = ("fewer than 30 images",) if ranks[0].few_units else ()
        if getattr(ranks[0], "compares", "encoders") == "checkpoints":
            marks += ("compares checkpoints",)
        return all(rank.group == 1 for rank in ranks), None, marks

    asked = "equal encoders share group 1"
    return Case("groups", name, described(seeds), asked, trial, resamples=400, **options)


def power_case(name: str, seeds: tuple[int, ...], num: int, gap_sd: float, **options) -> Case:
    """Share of trials in which the one encoder that is worse is not in group 1."""

    def trial(rng, seed, resamples):
        gaps = (gap_sd * 0.06, *[0.0] * (len(seeds) - 1))
        ranks = rank_groups(
            trained(rng, num, seeds, gaps=gaps), "rmse", False, 0.95, resamples, seed
        )
        group = {rank.name: rank.group for rank in ranks}
        return group["encoder0"] > 1, None, ()

    asked = f"a gap of {gap_sd:g} seed-SDs is found"
    return Case("power", name, described(seeds), asked, trial, resamples=400, **options)


def described(seeds: tuple[int, ...]) -> str:
    """'3' or '1, others 3'."""
    if len(set(seeds)) == 1:
        return str(seeds[0])
    return f"{seeds[0]}, others {seeds[1]}"


def maps(classes: int, zipf: float) -> Callable:
    return lambda rng, num: label_maps(rng, num, classes, zipf)[0]


def cases() -> list[Case]:
    """All rows, in the order of the table."""
    rows = [
        interval_case(f"J&F, {n} videos", videos, "J&F", n, 20_000, 200_000, trials=4000)
        for n in (30, 12, 4)
    ]
    rows.append(
        interval_case(
            "J&F, 30 videos, over objects", videos, "J&F", 30, 20_000, 200_000, unit="object"
        )
    )
    rows += [
        interval_case(f"AP, {n} images", detector, "AP", n, 4000, 50_000, resamples=400)
        for n in (50, 20)
    ]
    rows += [
        interval_case(
            "mIoU, 2,000 images, 150 classes, Zipf 1", maps(150, 1.0), "mIoU", 2000, 1000, 30_000,
            resamples=300,
        ),
        interval_case(
            "mIoU, 100 images, 20 classes, Zipf 1", maps(20, 1.0), "mIoU", 100, 4000, 100_000,
            trials=4000,
        ),
        interval_case(
            "mIoU, 100 images, 20 equal classes", maps(20, 0.0), "mIoU", 100, 4000, 100_000,
            trials=4000,
        ),
        difference_case("J&F, 30 videos", two_of_videos(30), "J&F"),
        difference_case("J&F, 4 videos", two_of_videos(4), "J&F"),
        difference_case(
            "mIoU, 100 images, 20 classes, Zipf 1", lambda rng: label_maps(rng, 100, 20, 1.0, 2),
            "mIoU",
        ),
        difference_case(
            "mIoU, 2,000 images, 150 classes, Zipf 1",
            lambda rng: label_maps(rng, 2000, 150, 1.0, 2), "mIoU", resamples=300, trials=500,
        ),
    ]  # fmt: skip
    rows += [combined_case("100 images, one encoder", (s,), 100) for s in (1, 2, 3)]
    rows += [
        combined_case("100 images, six encoders", s, 100)
        for s in ((1, 3, 3, 3, 3, 3), (2,) * 6, (3,) * 6)
    ]
    rows += [
        groups_case(f"{num} images, {n} encoders", (s,) * n, num)
        for num in (300, 30, 12)
        for n in (2, 6)
        for s in (1, 2, 3)
    ]
    rows += [
        groups_case("300 images, 6 encoders, no spread between seeds", (s,) * 6, 300, 0.0)
        for s in (1, 3)
    ]
    rows += [
        limits_case("100 images, the unsteady encoder", "encoder0"),
        limits_case("100 images, a steady one", "encoder1"),
    ]
    rows += [
        power_case(f"300 images, {n} encoders", (s,) * n, 300, gap)
        for n in (2, 6)
        for s in (2, 3)
        for gap in (3, 6)
    ]
    return rows


def two_of_videos(num: int) -> Callable:
    def pair(rng):
        evidence = videos(rng, num)
        return same_videos(rng, evidence), same_videos(rng, evidence)

    return pair


# ---- running ---------------------------------------------------------------------------------


def run_case(case: Case, state: Path, trials: int, progress: Progress) -> dict:
    """Counts of a case; finished blocks are read from its file, others are run and added to it."""
    blocks = read_blocks(state)
    for start in range(0, trials, BLOCK):
        size = min(BLOCK, trials - start)
        if (start, size) in blocks:
            continue
        began = time.perf_counter()
        counted = {"start": start, "size": size, "held": 0, "endless": 0, "marks": {}}
        for trial in range(start, start + size):
            rng = np.random.default_rng([*case.key.encode(), trial])
            found, endless, marks = case.trial(rng, trial, case.resamples)
            counted["held"] += found
            counted["endless"] = None if endless is None else counted["endless"] + endless
            for mark in marks:
                counted["marks"][mark] = counted["marks"].get(mark, 0) + 1
        counted["seconds"] = time.perf_counter() - began
        with state.open("a", encoding="ascii") as file:
            # A line of its own also behind one that a kill cut off.
            file.write("\n" + json.dumps(counted) + "\n")
            file.flush()
            os.fsync(file.fileno())
        blocks[start, size] = counted
        progress.add(size, counted["seconds"])
    used = [blocks[start, min(BLOCK, trials - start)] for start in range(0, trials, BLOCK)]
    return total_of(case, trials, used)


def code_digest() -> str:
    """Short hash of all that makes a trial, so that blocks of other code are not taken over."""
    used = sorted(name for name in sys.modules if name.startswith("pe_dense."))
    files = [Path(str(sys.modules[name].__file__)) for name in used]
    files += [HERE / "interval_coverage.py", HERE / "interval_populations.py"]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:12]


def read_blocks(state: Path) -> dict[tuple[int, int], dict]:
    """Blocks of trials that are finished; a line that a kill cut off is not one."""
    blocks = {}
    if state.is_file():
        for line in state.read_text(encoding="ascii").splitlines():
            try:
                block = json.loads(line)
            except json.JSONDecodeError:
                continue
            blocks[block["start"], block["size"]] = block
    return blocks


def total_of(case: Case, trials: int, blocks: list[dict]) -> dict:
    """The row of a case, without its label."""
    share = sum(block["held"] for block in blocks) / trials
    endless = [block["endless"] for block in blocks]
    seen: dict[str, int] = {}
    for block in blocks:
        for mark, count in block["marks"].items():
            seen[mark] = seen.get(mark, 0) + count
    marks = kinds_of_marks(seen, trials)
    return {
        "kind": case.kind,
        "case": case.case,
        "seeds": case.seeds,
        "asked": case.asked,
        "share": f"{share:.3f}",
        "endless": "" if None in endless else f"{sum(endless) / trials:.3f}",
        "marks": "; ".join(marks),
        "verdict": verdict(case.kind, round(share, 3), marks),
        "trials": trials,
        "resamples": case.resamples,
        "seconds": f"{sum(block['seconds'] for block in blocks):.0f}",
    }


def kinds_of_marks(seen: dict[str, int], trials: int) -> list[str]:
    """Marks that most trials carry, whatever number of classes they name."""
    kinds: dict[str, int] = {}
    for mark, count in seen.items():
        kind = "classes on fewer than 10 images" if "class" in mark else mark
        kinds[kind] = kinds.get(kind, 0) + count
    return sorted(kind for kind, count in kinds.items() if 2 * count > trials)


def verdict(kind: str, share: float, marks: list[str]) -> str:
    """'holds' between 92 and 98 %, else 'marked' if the row carries a mark, else 'fails'.

    Power is as it is, and 'limits' is where what the methods take for granted is not so.
    """
    if kind in ("power", "limits"):
        return ""
    if 0.92 <= share <= 0.98:
        return "holds"
    return "marked" if marks else "fails"


class Progress:
    """One line for every few seconds, with the time that is left."""

    def __init__(self, trials: dict[str, int]) -> None:
        self.trials, self.began, self.shown = trials, time.monotonic(), 0.0
        self.case, self.done = "", 0
        self.seconds: dict[str, list[float]] = {}

    def start(self, case: Case) -> None:
        """The case that runs from now on."""
        self.case, self.done = case.key, 0

    def add(self, trials: int, seconds: float) -> None:
        """Some trials of it are finished."""
        self.done += trials
        self.seconds.setdefault(self.case, []).append(seconds / trials)
        if time.monotonic() - self.shown > 5:
            self.shown = time.monotonic()
            left = self.left()
            print(f"{self.case}: {self.done} trials, {left / 60:.0f} min left", flush=True)

    def left(self) -> float:
        """Seconds, if cases that have not begun are like the mean of those that have."""
        rates = {case: float(np.mean(found)) for case, found in self.seconds.items()}
        usual = float(np.mean(list(rates.values())))
        names = list(self.trials)
        later = names[names.index(self.case) + 1 :]
        now = rates[self.case] * max(0, self.trials[self.case] - self.done)
        return now + sum(usual * self.trials[name] for name in later)


def main() -> None:
    """Run all cases, or some, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", default="", help="run cases whose name holds this text")
    parser.add_argument("--trials", type=int, help="fewer trials of every case, for a look")
    parser.add_argument("--work-dir", default=ROOT / "work_dirs/interval_coverage", type=Path)
    parser.add_argument("--out", default=HERE, type=Path, help="folder of the tables")
    parser.add_argument("--label", default="now", help="what the tables call that code")
    args = parser.parse_args()
    chosen = [case for case in cases() if args.only in case.key]
    if not chosen:
        parser.error(f"no case has '{args.only}' in its name; there are {len(cases())}")
    if (args.label == "now") != (PACKAGE == ROOT):
        parser.error("give other code (COVERAGE_OF) a label of its own (--label), as 'now' is ours")
    trials = {case.key: min(args.trials or case.trials, case.trials) for case in chosen}
    folder = args.work_dir / f"{args.label}-{code_digest()}"
    folder.mkdir(parents=True, exist_ok=True)
    progress, rows = Progress(trials), []
    for n, case in enumerate(chosen):
        progress.start(case)
        state = folder / ("".join(c if c.isalnum() else "_" for c in case.key) + ".jsonl")
        rows.append(run_case(case, state, trials[case.key], progress))
        row = rows[-1]
        print(f"{n + 1}/{len(chosen)} {case.key}: {row['share']} {row['marks']} {row['verdict']}")
        sys.stdout.flush()
        order = [case.key for case in cases()]
        found = write_csv(args.out / "interval_coverage.csv", args.label, rows, order)
        (args.out / "interval_coverage.md").write_text(markdown(found), encoding="ascii")


if __name__ == "__main__":
    main()
