"""The page and the figure of align_real.py, from its table alone."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from layers_real_report import MODEL, RANDOM
from real_encoder import Sizes
from real_neighbours import CHOICE, MINUS_BEFORE
from real_table import ALL, BLIND, WEIGHTS, Cell, Table, over_clips

from pe_dense.files import atomic_write_bytes, atomic_write_text

NAME = "align_real"
ARMS = {
    "block": "own best inner block",
    "masks": "instance masks",
    "both": "block and masks",
    "last": "control: own last block",
    "shuffled": "control: block of another picture",
    "random_masks": "control: random tower, masks",
}
CONTROLS = ("last", "shuffled")
ASKED = ("block", "masks", "both")
SEEDS_NEEDED = 3  # before anything is said to have helped
SECONDARY = {
    "knn": ("5 nearest tokens, mIoU (%)", 100, 1),
    "mIoU": ("linear segmentation, mIoU (%)", 100, 1),
    "rmse": ("linear depth, RMSE (m), lower is better", 1, 3),
}


@dataclass(frozen=True)
class Gap:
    """J&F of one minus another, paired by clip, in points.

    Attributes:
        mean, low, high: Over clips, and its 95 % interval.
        by_clip: Each clip, mean over seeds.
    """

    mean: float
    low: float
    high: float
    by_clip: np.ndarray

    @property
    def in_words(self) -> str:
        """'+1.4 [-0.2, +3.1]'."""
        return f"{self.mean:+.1f} [{self.low:+.1f}, {self.high:+.1f}]"


def write(table: Table, sizes: Sizes, training: Any, out: Path) -> None:
    """Write align_real.md and align_real.png."""
    out.mkdir(parents=True, exist_ok=True)
    if finished(table):
        table.add(differences(table, sizes))
        atomic_write_bytes(out / f"{NAME}.png", draw(table, sizes))
    atomic_write_text(out / f"{NAME}.md", page(table, sizes, training))


def seeds_of(table: Table, arm: str) -> list[int]:
    """Seeds of an arm that were scored on all clips."""
    return sorted({cell.seed for cell in table.find(measure="J&F", model=arm, unit=ALL)})


def finished(table: Table) -> list[str]:
    """Arms that have the seeds of the others, in the order of the page.

    An arm with fewer seeds than another is compared on the seeds that all have.
    """
    return [arm for arm in ARMS if seeds_of(table, arm)]


def common_seeds(table: Table) -> list[int]:
    """Seeds that every arm with any has."""
    every = [set(seeds_of(table, arm)) for arm in finished(table)]
    return sorted(set.intersection(*every)) if every else []


def teacher_of(table: Table, sizes: Sizes) -> int | None:
    """The inner block that training photos chose, None before it was."""
    inner = [c for c in table.find(measure=CHOICE, model=MODEL) if c.block < sizes.depth - 1]
    return max(inner, key=lambda cell: cell.score).block if inner else None


def start_of(arm: str) -> str:
    """What an arm is compared with."""
    return RANDOM if arm == "random_masks" else MODEL


def gap(table: Table, arm: str, other: str, seeds: Sequence[int], last: int) -> Gap:
    """Last block of an arm minus that of another arm, or of a tower before."""
    from pe_dense.results.statistics import paired_difference

    own = over_clips(table, arm, seeds, last)
    theirs = over_clips(table, other, seeds if other in ARMS else [0], last)
    by_clip = 50 * (own.j_N + own.f_N - theirs.j_N - theirs.f_N)
    if len(by_clip) < 2:
        return Gap(float(by_clip.mean()), float("nan"), float("nan"), by_clip)
    found = paired_difference(own, theirs, "J&F")
    return Gap(100 * found.difference, 100 * found.low, 100 * found.high, by_clip)


def differences(table: Table, sizes: Sizes) -> list[Cell]:
    """What the page says of the primary measure, for those who read the table."""
    last, seeds, cells = sizes.depth - 1, common_seeds(table), []
    for arm in finished(table) if seeds else ():
        others = {"before": start_of(arm)}
        others |= {c: c for c in CONTROLS if arm in ASKED and seeds_of(table, c)}
        for name, other in others.items():
            found = gap(table, arm, other, seeds, last)
            numbers = (v / 100 for v in (found.mean, found.low, found.high))
            note = f"mean over seeds {' '.join(map(str, seeds))}"
            cells.append(Cell(sizes.name, f"J&F minus {name}", arm, -1, last, ALL, *numbers, note))
    return cells


# What came out


def verdict(table: Table, arm: str, seeds: Sequence[int], last: int) -> str:
    """One sentence by the rule that was fixed before."""
    own = gap(table, arm, start_of(arm), seeds, last)
    up = int((own.by_clip > 0).sum())
    words = (
        f"`{arm}` ({ARMS[arm]}): {own.in_words} J&F against before, {up} of {len(own.by_clip)} "
        "clips up"
    )
    against = []
    for control in CONTROLS:
        if arm in ASKED and seeds_of(table, control):
            found = gap(table, arm, control, seeds, last)
            against.append(found)
            words += f"; against `{control}` {found.in_words}"
    if arm not in ASKED:
        return words + "."
    if len(seeds) < SEEDS_NEEDED:
        return words + f". Seeds: {len(seeds)} of {SEEDS_NEEDED}, this decides nothing."
    helped = own.low > 0 and len(against) == len(CONTROLS) and all(g.low > 0 for g in against)
    return words + (". It helped." if helped else ". By the rule above it did not help.")


def page(table: Table, sizes: Sizes, training: Any) -> str:
    """The page in Markdown."""
    last, arms, seeds = sizes.depth - 1, finished(table), common_seeds(table)
    lines = [
        "# Spatial alignment of a real encoder, on photos",
        "",
        "Generated by `benchmarks/experiments/align_real.py`: arms, controls, primary measure and "
        f"the rule for saying that something helped were fixed there before the first run. Every "
        f"number is in `{NAME}.csv`. The encoder is imgfocus_vit_s14 "
        "([what it is](layers_real.md)); its scores compare with nothing published. Blocks are "
        "counted from 0.",
        "",
    ]
    if not arms or not seeds:
        return "\n".join([*lines, "No arm is finished.", ""])
    plural = "s" if len(seeds) > 1 else ""
    lines += [
        f"**{len(seeds)} seed{plural} ({', '.join(map(str, seeds))}) of every arm shown.** "
        + (
            "One seed cannot tell an arm from the luck of its draw; intervals are over clips and "
            "hold nothing of that."
            if len(seeds) < SEEDS_NEEDED
            else "Intervals are over clips, of means over seeds."
        ),
        "",
        f"![J&F of the last block]({NAME}.png)",
    ]
    missing = [arm for arm in ARMS if arm not in arms]
    if missing:
        lines += ["", f"Not run yet: {', '.join(f'`{arm}`' for arm in missing)}."]
    lines += ["", "## J&F of the last block on 14 clips, the primary measure", ""]
    lines += [f"- {verdict(table, arm, seeds, last)}" for arm in arms]
    lines += ["", *table_of_arms(table, sizes, arms, seeds)]
    chosen, teacher = table.find(measure=CHOICE, model=MODEL), teacher_of(table, sizes)
    if teacher is not None:
        lines += [
            "",
            f"The teacher is block {teacher} (5 nearest tokens on held-out training photos: mIoU "
            f"{100 * chosen[teacher].score:.1f}; last block {100 * chosen[-1].score:.1f}).",
        ]
    lines += ["", "## Clip by clip", "", *table_of_clips(table, arms, seeds, last)]
    return "\n".join([*lines, "", *setting_in_words(sizes, training)]) + "\n"


def table_of_arms(
    table: Table, sizes: Sizes, arms: Sequence[str], seeds: Sequence[int]
) -> list[str]:
    """All arms, their starts and the blind line, with the secondary measures that are there."""
    last = sizes.depth - 1
    models = [m for m in (MODEL, RANDOM) if table.has(measure="J&F", model=m, block=last)]
    kinds = [k for k in SECONDARY if any(table.has(measure=k, model=arm) for arm in arms)]
    names = ["minus before", *(SECONDARY[kind][0] for kind in kinds)]
    lines = [
        f"| last block of | J&F (%) | {' | '.join(names)} |",
        "|---" * (3 + len(kinds)) + "|",
    ]
    blind = table.find(measure="J&F", model=BLIND, unit=ALL)
    if blind:
        cells = f"{100 * blind[0].score:.1f} | " + " | ".join("" for _ in names)
        lines.append(f"| without the picture ({blind[0].note}) | {cells} |")
    teacher = teacher_of(table, sizes)
    if teacher is not None and table.has(measure="J&F", model=MODEL, block=teacher):
        score = 100 * float(over_clips(table, MODEL, [0], teacher).metrics()["J&F"])
        cells = " | ".join("" for _ in names)
        lines.append(f"| before, but block {teacher}, the teacher | {score:.1f} | {cells} |")
    for model in (*models, *arms):
        own = seeds if model in ARMS else [0]
        score = float(over_clips(table, model, own, last).metrics()["J&F"])
        minus = gap(table, model, start_of(model), seeds, last).in_words if model in ARMS else ""
        name = ARMS.get(model, "random weights, before" if model == RANDOM else "before")
        others = [mean_of(table, kind, model, own, last) for kind in kinds]
        lines.append(f"| {name} | {100 * score:.1f} | {' | '.join([minus, *others])} |")
    return lines


def mean_of(table: Table, kind: str, model: str, seeds: Sequence[int], last: int) -> str:
    """A secondary score, mean over seeds, '' where one lacks it; seeds against before behind it."""
    _, scale, digits = SECONDARY[kind]
    found = [
        cell.score
        for seed in seeds
        for cell in table.find(measure=kind, model=model, seed=seed, block=last, unit=ALL)
    ]
    if len(found) < len(seeds):
        return ""
    minus = table.find(measure=MINUS_BEFORE, model=model) if kind == "knn" else []
    words = [f"{100 * c.score:+.1f} [{100 * c.low:+.1f}, {100 * c.high:+.1f}]" for c in minus]
    change = f" ({', '.join(words)})" if len(words) == len(seeds) else ""
    return f"{scale * np.mean(found):.{digits}f}{change}"


def table_of_clips(table: Table, arms: Sequence[str], seeds: Sequence[int], last: int) -> list[str]:
    """Difference of every clip in points."""
    gaps = {arm: gap(table, arm, start_of(arm), seeds, last).by_clip for arm in arms}
    clips = over_clips(table, arms[0], seeds, last).video_ids
    lines = [f"| clip | {' | '.join(f'`{arm}`' for arm in arms)} |", "|---" * (len(arms) + 1) + "|"]
    for i, clip in enumerate(clips):
        lines.append(f"| {clip} | {' | '.join(f'{gaps[arm][i]:+.1f}' for arm in arms)} |")
    return lines


def setting_in_words(sizes: Sizes, training: Any) -> list[str]:
    """Sizes, for the end of the page."""
    return [
        "## Setting",
        "",
        f"- {training.steps} steps of {training.batch} photos at {training.side} px, LAMB at "
        f"{training.lr:g} with a cosine to 0, masks over {training.mask_ratio:g} of the tokens, no "
        "DropPath; the 100 training photos of real_photos, the same order for all arms of a seed.",
        "- Photos with captions alone were left out: they have no instance masks, and arms on "
        "other pictures could not be compared.",
        f"- J&F: `davis-layers-pe` at short side {sizes.video_side} px. Encoder in "
        f"{'bfloat16' if sizes.amp else 'float32'} in training and scoring.",
        "- The random tower is one draw for all seeds.",
        f"- The sha256 of each file of weights, before and of each arm: rows `{WEIGHTS}` of the "
        "table.",
        "- Records of towers of seed 1 stand on the leaderboard, on generated clips: "
        "[what came out](../../docs/real_encoder.md). They are steps of an experiment and no "
        "released weights.",
    ]


# The figure


def draw(table: Table, sizes: Sizes) -> bytes:
    """J&F of the last block of every arm, and differences from before, clip by clip, as PNG."""
    from matplotlib.figure import Figure

    last, arms, seeds = sizes.depth - 1, finished(table), common_seeds(table)
    figure = Figure(figsize=(10.5, 0.5 * len(arms) + 2.6), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    places = np.arange(len(arms))[::-1]
    for place, arm in zip(places, arms, strict=True):
        colour = "#0072b2" if arm in ASKED else "#777777"
        own = over_clips(table, arm, seeds, last)
        left.plot(100 * own.metrics()["J&F"], place, "o", color=colour)
        found = gap(table, arm, start_of(arm), seeds, last)
        spread = np.linspace(-0.22, 0.22, len(found.by_clip))
        right.plot(found.by_clip, place + spread, ".", color=colour, alpha=0.45, ms=5)
        right.errorbar(
            found.mean, place, xerr=[[found.mean - found.low], [found.high - found.mean]],
            fmt="o", color=colour, capsize=4, lw=2,
        )  # fmt: skip
    for model, colour, label in (
        (MODEL, "#222222", "before, last block"), (RANDOM, "#d55e00", "random weights, before"),
    ):  # fmt: skip
        if table.has(measure="J&F", model=model, block=last):
            score = 100 * float(over_clips(table, model, [0], last).metrics()["J&F"])
            left.axvline(score, color=colour, lw=1.4, ls="--", label=label)
    teacher = teacher_of(table, sizes)
    if teacher is not None and table.has(measure="J&F", model=MODEL, block=teacher):
        score = 100 * float(over_clips(table, MODEL, [0], teacher).metrics()["J&F"])
        left.axvline(score, color="#009e73", lw=1.4, ls="-.", label=f"before, block {teacher}")
    for cell in table.find(measure="J&F", model=BLIND, unit=ALL):
        left.axvline(100 * cell.score, color="#555555", lw=1.4, ls=":", label="without the picture")
    left.set_yticks(places, [ARMS[arm] for arm in arms], fontsize=9)
    left.set_ylim(-0.6, len(arms) - 0.4)
    left.set_xlabel("J&F of the last block (%)", fontsize=9)
    right.axvline(0, color="#222222", lw=1)
    right.set_xlabel("minus before, points of J&F: mean, 95 % over clips; dots: clips", fontsize=9)
    figure.suptitle(
        f"{len(seeds)} seed{'s' if len(seeds) > 1 else ''}, "
        f"{len(over_clips(table, arms[0], seeds, last).video_ids)} clips"
        + ("" if len(seeds) >= SEEDS_NEEDED else ": too few seeds to decide anything"),
        fontsize=10,
    )
    for axis in (left, right):
        axis.tick_params(labelsize=8)
        axis.grid(axis="x", alpha=0.25)
    handles, labels = left.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize=8, frameon=False)
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=150, metadata={"Software": None})
    return content.getvalue()
