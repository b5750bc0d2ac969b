"""The page and the figure of layers_real.py, from its table alone."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from real_encoder import Sizes
from real_neighbours import CHOICE, MINUS_LAST
from real_table import ALL, BLIND, WEIGHTS, Cell, Table, evidence_of_clips, over_clips

from pe_dense.files import atomic_write_bytes, atomic_write_text

NAME = "layers_real"
MODEL, RANDOM = "imgfocus_vit_s14", "random"
BY_OTHERS = "J&F of the block best on other clips, minus the last"
TOWERS = {MODEL: "pretrained (imgfocus_vit_s14)", RANDOM: "the same tower, random weights"}
COLOURS = {MODEL: "#0072b2", RANDOM: "#d55e00"}


@dataclass(frozen=True)
class Measure:
    """How a measure is called on page and figure."""

    key: str
    title: str
    axis: str
    scale: float
    digits: int
    is_better: int  # 1: higher, -1: lower
    unit: str
    what: str


MEASURES = (
    Measure(
        "J&F", "label propagation on clips", "J&F (%)", 100, 1, 1, "clip",
        "DAVIS's J&F of the first mask propagated by nearest tokens, nothing trained "
        "(`davis-layers-pe` at short side 224 px). Intervals: over clips.",
    ),
    Measure(
        "knn", "5 nearest tokens on photos", "mIoU of tokens (%)", 100, 1, 1, "photo",
        "Every token of 100 validation photos takes the class that most of its 5 nearest tokens "
        "of the 100 training photos have. Nothing is trained, and nothing is drawn. Intervals: "
        "over the validation photos.",
    ),
    Measure(
        "mIoU", "linear segmentation of photos", "mIoU (%)", 100, 1, 1, "photo",
        "Linear heads on frozen tokens (`custom-segmentation-probe`), learning rate chosen on a "
        "fifth of the training photos. Intervals: over the 100 validation photos, for one seed of "
        "the heads.",
    ),
    Measure(
        "rmse", "linear depth in one room", "RMSE (m)", 1, 3, -1, "frame",
        "Linear heads on frozen tokens (`custom-depth-probe`). One walk through one room: its end "
        "is scored after a gap, so that nothing can be resampled and there is no interval.",
    ),
)  # fmt: skip


def write(table: Table, sizes: Sizes, out: Path) -> None:
    """Write layers_real.md and layers_real.png."""
    out.mkdir(parents=True, exist_ok=True)
    if table.has(measure="J&F", model=MODEL, unit=ALL):
        table.add(differences(table, sizes))
    atomic_write_bytes(out / f"{NAME}.png", draw(table))
    atomic_write_text(out / f"{NAME}.md", page(table, sizes))


def shown(table: Table) -> list[Measure]:
    """Measures that the pretrained tower has."""
    return [m for m in MEASURES if table.has(measure=m.key, model=MODEL, unit=ALL)]


def curve(table: Table, measure: Measure, model: str) -> list[Cell]:
    """Cells over everything, by block."""
    return table.find(measure=measure.key, model=model, seed=0, unit=ALL)


def best(cells: Sequence[Cell], measure: Measure) -> Cell:
    """The best block; of equal ones the first."""
    return max(cells, key=lambda cell: measure.is_better * cell.score)


# What came out


def by_others(table: Table, blocks: Sequence[int]) -> tuple[Any, list[int]]:
    """Evidence of clips, each with the block that is best on all other clips; and those blocks."""
    every = [over_clips(table, MODEL, [0], block) for block in blocks]
    j_LN, f_LN = (np.stack([getattr(e, name) for e in every]) for name in ("j_N", "f_N"))
    both_LN, chosen = (j_LN + f_LN) / 2, []
    for n in range(both_LN.shape[1]):
        others_L = np.delete(both_LN, n, axis=1).mean(axis=1)
        chosen.append(int(others_L.argmax()))
    places = np.arange(len(chosen))
    evidence = evidence_of_clips(every[0].video_ids, j_LN[chosen, places], f_LN[chosen, places])
    return evidence, [blocks[i] for i in chosen]


def differences(table: Table, sizes: Sizes) -> list[Cell]:
    """Every block minus the last one on clips, paired; and the block that other clips choose."""
    from pe_dense.results.statistics import paired_difference

    blocks = [cell.block for cell in curve(table, MEASURES[0], MODEL)]
    every = {block: over_clips(table, MODEL, [0], block) for block in blocks}
    last = every[blocks[-1]]
    if len(last.video_ids) < 2:
        return []
    by_the_others, chosen = by_others(table, blocks)
    cells = []
    for block, evidence in (*list(every.items())[:-1], (-1, by_the_others)):
        found = paired_difference(evidence, last, "J&F")
        above = int(((evidence.j_N + evidence.f_N) > (last.j_N + last.f_N)).sum())
        note = f"better on {above} of {len(last.video_ids)} clips"
        if block == -1:
            times = ", ".join(f"block {b}: {chosen.count(b)}" for b in sorted(set(chosen)))
            note += f"; {times}"
        kind = f"J&F{MINUS_LAST}" if block != -1 else BY_OTHERS
        cells.append(
            Cell(
                sizes.name,
                kind,
                MODEL,
                0,
                block,
                ALL,
                found.difference,
                found.low,
                found.high,
                note,
            )
        )
    return cells


def clips_in_words(table: Table) -> list[str]:
    """Is the last block worse than an inner one, on clips?"""
    found = table.find(measure=BY_OTHERS, model=MODEL)
    if not found:
        return []
    (cell,) = found
    above, times = cell.note.split("; ")
    sides = "lies above 0" if cell.low > 0 else "holds 0" if cell.high > 0 else "lies below 0"
    return [
        "Is the last block worse than an inner one? For every clip the block is taken that is best "
        f"on the other clips ({times}). Minus the last block this is {points(cell)} J&F, paired by "
        f"clip; {above}. The interval {sides}."
    ]


def choice_in_words(table: Table, measure: Measure) -> list[str]:
    """The block that training photos choose, minus the last one: nothing scored chose it."""
    inner = [cell for cell in table.find(measure=CHOICE) if cell.block >= 0][:-1]
    if not inner:
        return []
    block = max(inner, key=lambda cell: cell.score).block
    found = table.find(measure=f"{measure.key}{MINUS_LAST}", model=MODEL, block=block)
    if not found:
        return []
    return [
        "",
        f"Block {block}, which every fifth training photo chooses among the inner blocks, minus "
        f"the last: {points(found[0])} points, paired by {measure.unit}.",
    ]


def points(cell: Cell) -> str:
    """'+0.9 [-6.4, +8.0]', in points."""
    score, low, high = (100 * v for v in (cell.score, cell.low, cell.high))
    return f"{score:+.1f} [{low:+.1f}, {high:+.1f}]"


def best_in_words(table: Table, measure: Measure) -> str:
    """Best and last block, blind line and random tower."""
    cells = curve(table, measure, MODEL)
    top, last = best(cells, measure), cells[-1]
    words = (
        f"Best block: {top.block}, {number(top, measure)}; last block: {number(last, measure)}. "
        "The best one is picked on what is scored, which favours it."
    )
    drawn, blind = curve(table, measure, RANDOM), curve(table, measure, BLIND)
    if drawn:
        words += f" Random weights: at best {number(best(drawn, measure), measure)}."
    else:
        words += " The tower with random weights, the control, was not measured yet."
    if blind:
        words += f" Without the picture ({blind[0].note}): {number(blind[0], measure)}."
    if len({cell.low is None for cell in cells}) == 2:
        words += " Blocks without brackets were measured without an interval."
    edges = [str(cell.block) for cell in cells if "largest" in cell.note]
    if edges:
        words += (
            f" In blocks {', '.join(edges)} the largest learning rate was chosen: these heads may "
            "not be trained to their end."
        )
    rising = [str(cell.block) for cell in cells if "half as long" in cell.note]
    if rising:
        words += (
            f" In blocks {', '.join(rising)} a training half as long gave clearly less on what "
            "chose the rates: a longer one might give more."
        )
    return words


def number(cell: Cell, measure: Measure) -> str:
    """'74.0 [70.1, 78.2]' in the unit of the measure."""
    text = f"{measure.scale * cell.score:.{measure.digits}f}"
    if cell.low is None or cell.high is None:
        return text
    low, high = (f"{measure.scale * v:.{measure.digits}f}" for v in (cell.low, cell.high))
    return f"{text} [{low}, {high}]"


def page(table: Table, sizes: Sizes) -> str:
    """The page in Markdown."""
    lines = [
        "# Layer curves of a real encoder on real pictures",
        "",
        "Generated by `benchmarks/experiments/layers_real.py`, whose text says what was asked and "
        f"how; every number is in `{NAME}.csv`. The encoder is a ViT-S/14 out of a package of the "
        "index ([how its file is made](../../docs/encoders.md)): its scores compare with each "
        "other and with nothing published. Brackets: 95 % intervals. Blocks are counted from 0.",
        "",
        f"![Scores by block]({NAME}.png)",
    ]
    missing = [m.title for m in MEASURES if m not in shown(table)]
    if missing:
        lines += ["", f"Not measured yet: {', '.join(missing)}."]
    lines += ["", "Detection with frozen features, at three blocks: `layers_detection.csv`."]
    for measure in shown(table):
        title = measure.title[0].upper() + measure.title[1:]
        lines += ["", f"## {title}", "", measure.what, "", best_in_words(table, measure)]
        if measure.key == "J&F":
            lines += ["", *clips_in_words(table)]
        lines += choice_in_words(table, measure)
        lines += ["", *table_of_blocks(table, measure)]
    return "\n".join([*lines, "", *setting_in_words(sizes)]) + "\n"


def table_of_blocks(table: Table, measure: Measure) -> list[str]:
    """Every block of both towers; on clips also the difference to the last block."""
    cells = {model: {c.block: c for c in curve(table, measure, model)} for model in TOWERS}
    minus = table.find(measure=f"{measure.key}{MINUS_LAST}", model=MODEL)
    gaps = {cell.block: points(cell) for cell in minus}
    names = [*TOWERS.values(), *(["pretrained, minus its last block"] if gaps else [])]
    lines = [f"| block | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    for block, cell in cells[MODEL].items():
        drawn = cells[RANDOM].get(block)
        row = [number(cell, measure), "" if drawn is None else number(drawn, measure)]
        lines.append(f"| {block} | {' | '.join(row + ([gaps.get(block, '')] if gaps else []))} |")
    return lines


def setting_in_words(sizes: Sizes) -> list[str]:
    """Sizes, for the end of the page."""
    rates = "; ".join(f"{m}: {', '.join(map(str, v))}" for m, v in sizes.lrs.items())
    epochs = "; ".join(f"{m}: {n}" for m, n in sizes.epochs.items())
    return [
        "## Setting",
        "",
        f"- Frames: short side {sizes.video_side} px; photos and depth: {sizes.photo_side} px.",
        f"- Encoder `{sizes.encoder}`{', in bfloat16' if sizes.amp else ''}; one random tower, "
        "gains of its branches 1.",
        f"- Classes of photos: those that at least {sizes.fewest} training photos show.",
        f"- The sha256 of each file of weights: rows `{WEIGHTS}` of the table.",
        f"- Heads: batch {sizes.batch_size}, passes over the training pictures {epochs}; learning "
        f"rates tried {rates}.",
    ]


# The figure


def draw(table: Table) -> bytes:
    """Panels of curves with intervals, the random tower and the blind line, as PNG."""
    from matplotlib.figure import Figure

    measures = shown(table)
    columns = min(2, max(len(measures), 1))
    rows = -(-max(len(measures), 1) // columns)
    figure = Figure(figsize=(5.4 * columns, 3.3 * rows + 0.5), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    handles: dict[str, Any] = {}
    for axis, measure in zip(axes[: len(measures)], measures, strict=True):
        panel(axis, table, measure)
        found = axis.get_legend_handles_labels()
        handles |= dict(zip(found[1], found[0], strict=True))
    for axis in axes[len(measures) :]:
        axis.set_axis_off()
    figure.legend(
        list(handles.values()), list(handles), loc="outside lower center", ncols=3, fontsize=8,
        frameon=False,
    )  # fmt: skip
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=150, metadata={"Software": None})
    return content.getvalue()


def panel(axis: Any, table: Table, measure: Measure) -> None:
    """One measure."""
    for model, label in TOWERS.items():
        cells = curve(table, measure, model)
        if not cells:
            continue
        x, y = [c.block for c in cells], [measure.scale * c.score for c in cells]
        axis.plot(x, y, "o-", color=COLOURS[model], ms=3.5, lw=1.5, label=label)
        known = [c for c in cells if c.low is not None and c.high is not None]
        x, y = [c.block for c in known], [measure.scale * c.score for c in known]
        low, high = ([measure.scale * getattr(c, end) for c in known] for end in ("low", "high"))
        if len(known) == len(cells) > 2:
            axis.fill_between(x, low, high, color=COLOURS[model], alpha=0.18, lw=0)
        elif known:
            bars = [np.subtract(y, low), np.subtract(high, y)]
            axis.errorbar(x, y, bars, fmt="none", color=COLOURS[model], capsize=3, lw=1.2)
    for cell in curve(table, measure, BLIND)[:1]:
        axis.axhline(
            measure.scale * cell.score, color="#555555", ls=":", lw=1.4, label="without the picture"
        )
    if measure.is_better < 0:
        axis.invert_yaxis()
    axis.set_title(measure.title, fontsize=10)
    turned = "; turned: better is up" if measure.is_better < 0 else ""
    axis.set_ylabel(measure.axis + turned, fontsize=9)
    axis.set_xlabel("block (0-based)", fontsize=9)
    axis.set_xticks([c.block for c in curve(table, measure, MODEL)])
    axis.tick_params(labelsize=8)
    axis.grid(alpha=0.25)
