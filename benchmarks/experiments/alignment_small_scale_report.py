"""What alignment_small_scale.py writes: differences over seeds, a page, a table and curves.

Shape legend: S seeds, L blocks.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

NAME = "alignment_small_scale"
MODELS = ("random", "contrastive", "core", "locality", "both")
ALIGNED = MODELS[2:]
LABELS = {
    "random": "untrained",
    "contrastive": "contrastive",
    "core": "aligned: own best block",
    "locality": "aligned: instance masks",
    "both": "aligned: both",
}
METRICS = {
    "segmentation": "segmentation, linear (mIoU over tokens)",
    "neighbours": "segmentation, 5 neighbours (mIoU over tokens)",
    "propagation": "label propagation (J&F)",
}
# Two-sided 95 % of Student's t by number of seeds.
STUDENT_T = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365, 9: 2.306}


def interval(values_S: Sequence[float]) -> tuple[float, float]:
    """Mean over seeds and half the width of its 95 % interval by Student's t; nan for one seed.

    Example:
        >>> mean, half = interval([1.0, 2.0, 3.0])
        >>> mean, round(half, 3)
        (2.0, 2.484)
    """
    count = len(values_S)
    if count < 2:
        return float(np.mean(values_S)), float("nan")
    spread = float(np.std(values_S, ddof=1)) / count**0.5
    return float(np.mean(values_S)), STUDENT_T.get(count, 2.262) * spread


def held_out_peak(scores_SL: np.ndarray) -> list[float]:
    """For every seed: the block that is best for the other seeds minus the last block.

    The best block of the same seed would never be worse than the last one; this one can be.

    Example:
        >>> held_out_peak(np.array([[1.0, 3.0, 2.0], [3.0, 1.0, 2.0]]))
        [-1.0, -1.0]
    """
    return [
        float(own[np.argmax(np.delete(scores_SL, s, axis=0).mean(axis=0))] - own[-1])
        for s, own in enumerate(scores_SL)
        if len(scores_SL) > 1
    ]


def table_of(results: Sequence[Mapping[str, Any]], model: str, metric: str) -> np.ndarray:
    """(S, L) scores of a model."""
    return np.array([[row[metric] for row in r["curves"][model]] for r in results])


def findings(results: Sequence[Mapping[str, Any]], metric: str) -> dict[str, list[float]]:
    """Differences by seed: of the peak, and of every aligned last block to the contrastive one.

    'learned' is the last block of the contrastive tower minus that of the untrained one: where it
    is not above 0, a peak at an early block only says that training spoils what the pixels give.
    """
    contrastive_SL = table_of(results, "contrastive", metric)
    learned_S = contrastive_SL[:, -1] - table_of(results, "random", metric)[:, -1]
    found = {
        "learned": [float(v) for v in learned_S],
        "peak": held_out_peak(contrastive_SL),
        "peak_untrained": held_out_peak(table_of(results, "random", metric)),
    }
    for model in ALIGNED:
        gain_S = table_of(results, model, metric)[:, -1] - contrastive_SL[:, -1]
        found[model] = [float(v) for v in gain_S]
    return found


def verdict(values_S: Sequence[float], what: str) -> str:
    """One sentence: the difference, its interval, and what it says."""
    if len(values_S) < 2:
        return f"{what}: too few seeds to say."
    mean, half = interval(values_S)
    says = "not shown: the interval holds 0"
    if abs(mean) > half:
        says = "shown" if mean > 0 else "the opposite is shown"
    return f"{what}: {mean:+.3f} +- {half:.3f}; {says}."


# What is written

WITHDRAWN = (
    "**Withdrawn.** These numbers are no evidence that alignment brings dense features to "
    "the last block. A linear probe of a token's position alone, without any picture, has "
    "0.2155 mIoU on these scenes, more than the best arm (0.207), and an untrained tower "
    "aligned with the same masks reaches 0.224: what the last block gains is position. Two "
    "controls were missing, a predictor that sees nothing and the masks on an untrained "
    "tower. The rest stays as it was measured."
)


def report(
    results: Sequence[Mapping[str, Any]],
    seeds: Sequence[int],
    setting: Mapping[str, Any],
    command: str,
    smoke: bool,
) -> str:
    """The page."""
    lines = ["# Alignment at small scale, from nothing", "", WITHDRAWN, ""]
    if smoke:
        lines += ["**This is a smoke run: every part ran, and no number means anything.**", ""]
    lines += [
        "A small Core tower learns from pictures and captions of the mini world, then it is "
        "aligned with its own best inner block, with instance masks, and with both. The question "
        "is whether dense features lie before the last block, and in it afterwards "
        "(Perception Encoder, arXiv:2504.13181).",
        "",
        f"    {command}",
        "",
        f"![Scores by block]({NAME}.png)",
        "",
        f"Mean over {len(seeds)} seed{'s' if len(seeds) > 1 else ''} with 95 % intervals by "
        "Student's t, of seeds alone: pictures and videos are the same for all. With 3 seeds they "
        "are wide. Blocks are counted from 0.",
        "",
        "## What came out",
        "",
    ]
    for metric, name in METRICS.items():
        found = findings(results, metric)
        lines.append(f"**{name}**")
        lines.append("")
        lines.append("- " + verdict(found["learned"], "Last block, contrastive minus untrained"))
        lines.append("- " + verdict(found["peak"], "Contrastive, best block minus last block"))
        what = "Untrained, best block minus last block"
        lines.append("- " + verdict(found["peak_untrained"], what))
        for model in ALIGNED:
            what = f"Last block, {LABELS[model]} minus contrastive"
            lines.append("- " + verdict(found[model], what))
        lines.append("")
    lines += [
        "The best block is the one that is best for the other seeds, so that this difference can "
        "be negative. The semantic teacher is the best inner block of each seed for linear "
        "segmentation on the pictures that are scored: blocks "
        + ", ".join(f"{r['teacher_layer']} (seed {s})" for s, r in zip(seeds, results, strict=True))
        + ".",
        "",
        "## The contrastive towers",
        "",
        "| seed | image to text, top 1 | text to image, top 1 | chance |",
        "|---|---|---|---|",
    ]
    for seed, result in zip(seeds, results, strict=True):
        r = result["retrieval"]
        lines.append(
            f"| {seed} | {r['image_to_text_R1']:.3f} | {r['text_to_image_R1']:.3f} "
            f"| {r['chance_R1']:.4f} |"
        )
    for metric, name in METRICS.items():
        depth = table_of(results, "contrastive", metric).shape[1]
        lines += ["", f"## {name[0].upper() + name[1:]}", ""]
        lines.append("| block | " + " | ".join(LABELS[m] for m in MODELS) + " |")
        lines.append("|---" * (len(MODELS) + 1) + "|")
        for layer in range(depth):
            cells = []
            for model in MODELS:
                mean, half = interval(list(table_of(results, model, metric)[:, layer]))
                cells.append(f"{mean:.3f}" if np.isnan(half) else f"{mean:.3f} +- {half:.3f}")
            lines.append(f"| {layer} | " + " | ".join(cells) + " |")
    lines += ["", "## Setting", ""]
    lines += [f"- {key.replace('_', ' ')}: {value}" for key, value in setting.items()]
    return "\n".join(lines) + "\n"


def rows_csv(results: Sequence[Mapping[str, Any]], seeds: Sequence[int]) -> str:
    """Every score: seed, model, metric, block, value."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["seed", "model", "metric", "block", "score"])
    for seed, result in zip(seeds, results, strict=True):
        for name, value in result["retrieval"].items():
            writer.writerow([seed, "contrastive", name, "", f"{value:.6f}"])
        for model, rows in result["curves"].items():
            for layer, row in enumerate(rows):
                for metric, value in row.items():
                    writer.writerow([seed, model, metric, layer, f"{value:.6f}"])
    return out.getvalue()


def draw(results: Sequence[Mapping[str, Any]], smoke: bool) -> dict[str, bytes]:
    """The curves as 'png' and 'svg': means, intervals as bars, seeds as dots."""
    import matplotlib
    from matplotlib.figure import Figure

    colours = ("#999999", "#222222", "#0072b2", "#d55e00", "#009e73")  # told apart by all eyes
    figure = Figure(figsize=(13, 4.2), layout="constrained")
    panels = figure.subplots(1, len(METRICS))
    for panel, (metric, name) in zip(panels, METRICS.items(), strict=True):
        for place, (model, colour) in enumerate(zip(MODELS, colours, strict=True)):
            scores_SL = table_of(results, model, metric)
            x_L = np.arange(scores_SL.shape[1]) + 0.08 * (place - 2)
            means, halves = zip(*(interval(list(v)) for v in scores_SL.T), strict=True)
            bars = None if np.isnan(halves[0]) else halves
            panel.errorbar(
                x_L, means, bars, color=colour, label=LABELS[model], lw=1.4, elinewidth=0.6
            )
            for own_L in scores_SL:
                panel.plot(x_L, own_L, ".", color=colour, ms=3, alpha=0.6)
        panel.set_title(name, fontsize=10)
        panel.set_xlabel("block")
        # Intervals of few seeds can reach far; the scores decide what is shown.
        every = np.concatenate([table_of(results, m, metric).ravel() for m in MODELS])
        margin = 0.1 * (np.ptp(every) or 0.1)
        panel.set_ylim(every.min() - margin, every.max() + margin)
        panel.grid(alpha=0.3)
    panels[0].legend(fontsize=8)
    if smoke:
        figure.suptitle("smoke run: no result")
    pictures = {}
    with matplotlib.rc_context({"svg.hashsalt": NAME, "svg.fonttype": "path"}):
        for kind, metadata in (("png", {"Software": None}), ("svg", {"Date": None})):
            buffer = io.BytesIO()
            figure.savefig(buffer, format=kind, dpi=150, metadata=metadata)
            pictures[kind] = buffer.getvalue()
    return pictures
