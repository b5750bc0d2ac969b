"""Scores by layer of several tasks in one figure and one table, in the manner of PE's layer figure.

Source of the form: PE (arXiv:2504.13181, figure 8): one panel per task, the layer along the x
axis, one line per encoder, the best layer marked.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pe_dense.files import atomic_write_bytes, atomic_write_text
from pe_dense.results.metrics import metric_of
from pe_dense.results.record import Record

COLUMNS = 3  # panels in a row
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")


@dataclass(frozen=True)
class LayerCurve:
    """Main metric of one encoder under one protocol, layer by layer.

    Attributes:
        task, dataset, protocol, metric, higher_is_better: Of the protocol.
        encoder: Zoo name, with its weights where they are random.
        scores: Block index -> score.
        chosen: The layer that the record reports, None where that is no single one.
        chosen_on: What chose it: 'holdout', 'val' ...; '' if nothing did.
        joined: Name and score of the concatenation that the record reports, None if it is none.
    """

    task: str
    dataset: str
    protocol: str
    metric: str
    higher_is_better: bool
    encoder: str
    scores: dict[int, float]
    chosen: int | None
    chosen_on: str
    joined: tuple[str, float] | None = None

    @property
    def best(self) -> int:
        """The layer with the best score here; optimistic where the scored data show it."""
        pick = max if self.higher_is_better else min
        return pick(self.scores, key=lambda layer: self.scores[layer])

    @property
    def last(self) -> int:
        """The last layer that was scored."""
        return max(self.scores)


def layer_curves(records: Iterable[Record]) -> list[LayerCurve]:
    """Curves from all records that have scores by layer; those of one protocol are put together.

    A protocol that is run once for each layer has ids that end in '.mod-<hash>'; they belong to
    one curve. Where two records score the same layer (seeds), the mean counts.
    """
    grouped: dict[tuple, list[Record]] = {}
    for record in records:
        if record.origin != "measured" or not (record.by_layer or {}).get(record.protocol.metric):
            continue
        name = record.encoder.name + (" (random)" if record.encoder.weights == "random" else "")
        protocol = record.protocol.id.split(".mod-")[0]
        key = record.task, record.dataset.name, f"{protocol}-v{record.protocol.version}", name
        grouped.setdefault(key, []).append(record)
    curves = []
    for (task, dataset, protocol, encoder), same in sorted(grouped.items()):
        metric = same[0].protocol.metric
        values: dict[int, list[float]] = {}
        for record in same:
            for layer, score in record.by_layer[metric].items():
                values.setdefault(int(layer), []).append(score)
        selection = same[0].selection if len(same) == 1 or same[0].selection else None
        text = "" if selection is None else selection.chosen.get("layer", "")
        reported = [r.scores[metric] for r in same if metric in r.scores]
        curves.append(
            LayerCurve(
                task, dataset, protocol, metric, same[0].protocol.higher_is_better, encoder,
                {layer: sum(v) / len(v) for layer, v in sorted(values.items())},
                int(text) if text.isdigit() else None,
                "" if selection is None else selection.on,
                (text, sum(reported) / len(reported)) if "+" in text and reported else None,
            )
        )  # fmt: skip
    return curves


def markdown_table(curves: Sequence[LayerCurve]) -> str:
    """One row per curve: chosen, best and last layer with their scores.

    Raises:
        ValueError: If there is no curve.
    """
    _require_curves(curves)
    lines = [
        "| Task | Protocol | Encoder | Metric | Chosen layer | Best | Last | Best - last |",
        "| --- | --- | --- | --- | ---: | ---: | ---: | ---: |",
    ]
    for c in curves:
        metric = metric_of(c.metric)
        shown = {i: f"{metric.shown(score)} ({i})" for i, score in c.scores.items()}
        chosen = "-" if c.chosen is None else shown.get(c.chosen, "-")
        if c.joined is not None:
            chosen = f"{metric.shown(c.joined[1])} ({c.joined[0]})"
        chosen += f" on {c.chosen_on}" if c.chosen_on and chosen != "-" else ""
        gap = metric.signed_text(c.scores[c.best] - c.scores[c.last])
        lines.append(
            f"| {c.task} | {c.protocol} | {c.encoder} | {metric.spelling} | {chosen} | "
            f"{shown[c.best]} | {shown[c.last]} | {gap} |"
        )
    return "\n".join(lines) + "\n"


def write_layer_curves(curves: Sequence[LayerCurve], stem: Path) -> list[Path]:
    """Write the figure as PNG and SVG and the table as Markdown, each whole or not at all.

    Args:
        curves: What to draw.
        stem: Path without suffix.

    Returns:
        The files.

    Raises:
        ValueError: If there is no curve.
    """
    _require_curves(curves)
    stem.parent.mkdir(parents=True, exist_ok=True)
    paths = []
    for kind in ("png", "svg"):
        buffer = io.BytesIO()
        figure = _draw(curves)
        # Without a date, the same records give the same file.
        metadata = {"Date": None} if kind == "svg" else {}
        figure.savefig(buffer, format=kind, dpi=150, metadata=metadata)
        paths.append(stem.with_suffix(f".{kind}"))
        atomic_write_bytes(paths[-1], buffer.getvalue())
    paths.append(stem.with_suffix(".md"))
    atomic_write_text(paths[-1], markdown_table(curves))
    return paths


def _draw(curves: Sequence[LayerCurve]):
    from matplotlib.figure import Figure

    panels = list(dict.fromkeys((c.task, c.protocol, c.metric) for c in curves))
    encoders = list(dict.fromkeys(c.encoder for c in curves))
    columns = min(COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(4.2 * columns, 3.2 * rows + 0.5), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis, (task, protocol, name) in zip(axes[: len(panels)], panels, strict=True):
        metric = metric_of(name)
        scale = metric.scale
        for c in curves:
            if (c.task, c.protocol, c.metric) != (task, protocol, name):
                continue
            colour = COLOURS[encoders.index(c.encoder) % len(COLOURS)]
            layers = list(c.scores)
            axis.plot(
                layers, [scale * c.scores[i] for i in layers], "-o", color=colour, markersize=3,
                linewidth=1.4, label=c.encoder,
            )  # fmt: skip
            marked = c.best if c.chosen is None or c.chosen not in c.scores else c.chosen
            axis.plot(
                [marked], [scale * c.scores[marked]], marker="*", markersize=12, color=colour,
                markeredgecolor="white", linestyle="",
            )  # fmt: skip
        turned = not _higher_is_better(curves, task, protocol)
        if turned:
            axis.invert_yaxis()  # better is up in every panel
        axis.set_title(f"{task}: {protocol}", fontsize=9)
        axis.set_xlabel("block (0-based)", fontsize=8)
        unit = "%" if metric.is_fraction else metric.unit
        words = [word for word in (unit, "axis turned: better is up" if turned else "") if word]
        label = metric.spelling + (f" ({'; '.join(words)})" if words else "")
        axis.set_ylabel(label, fontsize=8)
        axis.tick_params(labelsize=8)
        axis.grid(alpha=0.25)
    for axis in axes[len(panels) :]:
        axis.set_axis_off()
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=8, frameon=False)
    return figure


def _higher_is_better(curves: Sequence[LayerCurve], task: str, protocol: str) -> bool:
    return next(c.higher_is_better for c in curves if (c.task, c.protocol) == (task, protocol))


def _require_curves(curves: Sequence[LayerCurve]) -> None:
    if not curves:
        raise ValueError(
            "no record has scores by layer; run a probing protocol first, for example "
            "tools/benchmark.py --suite layers"
        )
