"""Scores by layer of several tasks in one figure and one table, in the manner of PE's layer figure.

Source of the form: PE (arXiv:2504.13181, figure 8): one panel per task, the layer along the x
axis, one line per encoder, the best layer marked. A band spans the seeds of an encoder.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pe_dense.files import atomic_write_bytes, atomic_write_text
from pe_dense.results.blind import best_blind, strictest
from pe_dense.results.metrics import metric_of
from pe_dense.results.record import Record
from pe_dense.results.store import weights_tag

COLUMNS = 3  # panels in a row
MOST_UNFINISHED = 0.25  # share of layers whose heads may not be trained to their end
BLIND_LABEL = "without the picture"
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")


@dataclass(frozen=True)
class LayerScore:
    """Score of a layer or concatenation: mean over seeds, and the lowest and highest of one."""

    mean: float
    low: float
    high: float
    seeds: int


@dataclass(frozen=True)
class LayerCurve:
    """Main metric of one encoder under one protocol, layer by layer.

    Attributes:
        task, dataset, protocol, metric, higher_is_better: Of the protocol.
        encoder: Zoo name, with its weights where they are random, or one of several.
        layers: Block index -> score.
        joined: The same for concatenations, '8+9+10+11'.
        chosen: What the records report, '7' or '8+9+10+11'; None if nothing was chosen, or not
            the same in all.
        chosen_on: What chose it: 'holdout', 'val' ...; '' if nothing did.
        blind: Score of the best predictor without the picture, None if the records know none.
        at_edge: Single layers whose head was chosen at an end of the learning rates.
        rising: Single layers whose head gained clearly in the second half of its training.
    """

    task: str
    dataset: str
    protocol: str
    metric: str
    higher_is_better: bool
    encoder: str
    layers: dict[int, LayerScore]
    joined: dict[str, LayerScore]
    chosen: str | None
    chosen_on: str
    blind: float | None = None
    at_edge: tuple[str, ...] = ()
    rising: tuple[str, ...] = ()

    @property
    def is_converged(self) -> bool:
        """Whether enough heads were trained to their end for the curve to be drawn."""
        return len({*self.at_edge, *self.rising}) < MOST_UNFINISHED * len(self.layers)

    @property
    def unfinished_in_words(self) -> str:
        """Why a curve is not drawn."""
        all_layers, told = len(self.layers), []
        if self.at_edge:
            told.append(
                f"{len(self.at_edge)} of {all_layers} layers ({', '.join(self.at_edge)}) have the "
                "best learning rate at an end of those tried: widen lrs"
            )
        if self.rising:
            told.append(
                f"{len(self.rising)} of {all_layers} layers ({', '.join(self.rising)}) gained "
                "clearly in the second half of their training: train longer"
            )
        return f"heads may not be trained to their end; {'; '.join(told)}"

    @property
    def best(self) -> int:
        """The layer with the best mean here; optimistic where the scored data show it."""
        pick = max if self.higher_is_better else min
        return pick(self.layers, key=lambda layer: self.layers[layer].mean)

    @property
    def last(self) -> int:
        """The last layer that was scored."""
        return max(self.layers)

    @property
    def seeds(self) -> int:
        """Most seeds behind one point."""
        return max(score.seeds for score in self.layers.values())

    @property
    def marked(self) -> int:
        """The layer to mark: the chosen one if it is in the curve, else the best."""
        chosen = "" if self.chosen is None else self.chosen
        return int(chosen) if chosen.isdigit() and int(chosen) in self.layers else self.best


def layer_curves(records: Iterable[Record]) -> list[LayerCurve]:
    """Curves from all records that have scores by layer; those of one protocol are put together.

    A protocol that is run once for each layer has ids that end in '.mod-<hash>'; they belong to
    one curve. Where several records score the same layer (seeds), the mean counts. Other weights
    of an encoder are another curve.
    """
    grouped: dict[tuple[str, str, str, str, str], list[Record]] = {}
    weights_of: dict[str, set[str]] = {}
    for record in records:
        by_layer = (record.by_layer or {}).get(record.protocol.metric, {})
        if record.origin != "measured" or not any(layer.isdigit() for layer in by_layer):
            continue
        protocol = f"{record.protocol.id.split('.mod-')[0]}-v{record.protocol.version}"
        name, tag = record.encoder.name, weights_tag(record)
        grouped.setdefault((record.task, record.dataset.name, protocol, name, tag), []).append(
            record
        )
        weights_of.setdefault(name, set()).add(tag)
    curves = []
    for (task, dataset, protocol, name, tag), same in sorted(grouped.items()):
        told = tag == "random" or len(weights_of[name]) > 1
        metric = same[0].protocol.metric
        values: dict[str, list[float]] = {}
        for record in same:
            for layer, score in (record.by_layer or {}).get(metric, {}).items():
                values.setdefault(layer, []).append(score)
        scores = {
            layer: LayerScore(sum(v) / len(v), min(v), max(v), len(v))
            for layer, v in values.items()
        }
        selections = [record.selection for record in same if record.selection is not None]
        chosen = {selection.chosen.get("layer") for selection in selections}
        agreed = len(chosen) == 1 and len(selections) == len(same)
        in_order = sorted(scores, key=_place)
        better = same[0].protocol.higher_is_better
        blind = best_blind(strictest((record.blind or {} for record in same), better), better)
        curves.append(
            LayerCurve(
                task, dataset, protocol, metric, same[0].protocol.higher_is_better,
                f"{name} ({tag})" if told else name,
                {int(layer): scores[layer] for layer in in_order if "+" not in layer},
                {layer: scores[layer] for layer in in_order if "+" in layer},
                chosen.pop() if agreed else None,
                selections[0].on if agreed else "",
                None if blind is None else blind.score,
                _layers_of(s.at_edge for s in selections),
                _layers_of(s.rising for s in selections),
            )
        )  # fmt: skip
    return curves


def _layers_of(told: Iterable[Mapping[str, str] | None]) -> tuple[str, ...]:
    found = {layer for words in told for layer in words or () if "+" not in layer}
    return tuple(sorted(found, key=int))


def _place(layer: str) -> list[int]:
    return [int(index) for index in layer.split("+")]


def markdown_table(curves: Sequence[LayerCurve]) -> str:
    """One row per curve: chosen, best and last layer with their scores, means over seeds.

    Raises:
        ValueError: If there is no curve.
    """
    _require_curves(curves)
    lines = [
        "| Task | Protocol | Encoder | Seeds | Metric | Chosen layer | Best | Last | Best - last |",
        "| --- | --- | --- | ---: | --- | ---: | ---: | ---: | ---: |",
    ]
    for c in curves:
        metric = metric_of(c.metric)
        chosen = "-"
        found = {**{str(layer): score for layer, score in c.layers.items()}, **c.joined}
        if c.chosen in found:
            chosen = f"{_score_text(c.metric, found[c.chosen], c.chosen)} on {c.chosen_on}"
        best, last = c.layers[c.best], c.layers[c.last]
        lines.append(
            f"| {c.task} | {c.protocol} | {c.encoder} | {c.seeds} | {metric.spelling} | {chosen} | "
            f"{_score_text(c.metric, best, str(c.best))} | "
            f"{_score_text(c.metric, last, str(c.last))} | "
            f"{metric.signed_text(best.mean - last.mean)} |"
        )
    return "\n".join(lines) + "\n"


def _score_text(name: str, score: LayerScore, layer: str) -> str:
    """'9.2 (7)'; of several seeds '9.2 (7; 9.1 to 9.4)'."""
    metric = metric_of(name)
    ends = f"; {metric.shown(score.low)} to {metric.shown(score.high)}" if score.seeds > 1 else ""
    return f"{metric.shown(score.mean)} ({layer}{ends})"


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
            layers, scores = list(c.layers), list(c.layers.values())
            if c.seeds > 1:
                low, high = ([scale * getattr(s, end) for s in scores] for end in ("low", "high"))
                axis.fill_between(layers, low, high, color=colour, alpha=0.2, linewidth=0)
            axis.plot(
                layers, [scale * score.mean for score in scores], "-o", color=colour, markersize=3,
                linewidth=1.4, label=c.encoder,
            )  # fmt: skip
            axis.plot(
                [c.marked], [scale * c.layers[c.marked].mean], marker="*", markersize=12,
                color=colour, markeredgecolor="white", linestyle="",
            )  # fmt: skip
        blind = [
            c.blind for c in curves if (c.task, c.protocol, c.metric) == (task, protocol, name)
        ]
        if any(score is not None for score in blind):
            score = scale * next(score for score in blind if score is not None)
            axis.axhline(score, color="#555555", linestyle=":", linewidth=1.2, label=BLIND_LABEL)
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
    shown = {}  # label -> handle, each once
    for axis in axes[: len(panels)]:
        shown.update(dict(zip(*reversed(axis.get_legend_handles_labels()), strict=True)))
    handles, labels = list(shown.values()), list(shown)
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=8, frameon=False)
    return figure


def _higher_is_better(curves: Sequence[LayerCurve], task: str, protocol: str) -> bool:
    return next(c.higher_is_better for c in curves if (c.task, c.protocol) == (task, protocol))


def _require_curves(curves: Sequence[LayerCurve]) -> None:
    if not curves:
        raise ValueError(
            "no record has scores by layer; run a probing protocol first, for example "
            "python tools/benchmark.py --suite layers"
        )
