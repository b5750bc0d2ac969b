"""Scores of a bank of heads: selection on held-out images, one scoring of the reported split.

Shape legend: N images, S sources, P heads of a source, K classes, Q sums of a depth error.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple, TypeVar, get_args

import numpy as np
from mmengine.evaluator import BaseMetric
from mmengine.registry import METRICS

from pe_dense.pixelwise.depth_errors import METRICS as DEPTH_METRICS
from pe_dense.pixelwise.depth_errors import DepthErrorSums, depth_evidence
from pe_dense.pixelwise.mean_iou import counts_evidence, short_names
from pe_dense.probing.half_length import gain_of, half_length_heads
from pe_dense.probing.head_bank import HeadSetting, Source, head_settings, resolve_sources
from pe_dense.probing.head_bank import source_name as name_of
from pe_dense.probing.selection import ChosenHeads, select_heads
from pe_dense.results.item_evidence import ItemEvidence
from pe_dense.results.metrics import metric_of
from pe_dense.results.record import Selection
from pe_dense.results.record_intervals import interval_info
from pe_dense.results.statistics import PairedDifference, paired_difference

SelectOn = Literal["holdout", "val"]
T = TypeVar("T")


class ScoredImage(NamedTuple):
    """What all heads did on one image: (S, P, 3, K), (S, P, Q) or (S, P, 1 + 2 J) counts."""

    name: str
    held_out: bool
    counts: np.ndarray
    sequence: str | None
    target: int | None = None


@dataclass(frozen=True)
class SeedChoice:
    """What one seed of the bank would choose alone."""

    seed: int
    source: str
    lr: float
    weight_decay: float


@dataclass(frozen=True)
class ProbeSummary:
    """What a probing run found; all scores are of the reported split.

    Attributes:
        metric: The metric that was selected by.
        selected_on: 'holdout': held-out training images. 'val': the reported images themselves,
            as in papers that take the best layer; such scores are optimistic.
        source: The chosen layer, or layers joined by '+'.
        lr, weight_decay: The chosen setting of it.
        seed: The seed whose head is reported, the first of the bank.
        seed_scores: Score of the chosen source and setting for every seed of the bank.
        by_seed: What every seed would choose alone.
        last: The last single layer that was probed, None if there is none.
        best_minus_last: Score of the chosen source minus that of the last layer, each with its
            own setting, on the same images, with the heads of `seed`; None without such a layer,
            or where the images are one sequence, of which nothing can be resampled.
        at_edge: Sources whose chosen learning rate is an end of three or more, in words.
        rising: Sources whose head a longer training would have made better, in words; None where
            nobody looked.
    """

    metric: str
    selected_on: str
    source: str
    lr: float
    weight_decay: float
    seed: int
    seed_scores: dict[int, float]
    by_seed: tuple[SeedChoice, ...]
    last: str | None
    best_minus_last: PairedDifference | None
    at_edge: dict[str, str]
    rising: dict[str, str] | None


@METRICS.register_module()
class ProbeMetric(BaseMetric):
    """Scores of the chosen head of every source.

    The data set holds two kinds of images: those that `HoldoutSubset` marks, which choose, and all
    others, which are reported. Of the latter only chosen heads are scored, once.

    Args:
        task: 'segmentation' or 'depth', as in `LayerProbe`.
        encoder_depth, sources, lrs, weight_decays, seeds: As in `LayerProbe`.
        half_length: As in `LayerProbe`.
        metric: Selects, and is the main one; default: mIoU, rmse.
        select_on: 'holdout', or 'val' as papers do that report the best layer of the test images.
        allow_absent_classes: Whether images to select with may lack classes.
        collect_device, prefix: As in MMEngine's metrics.

    Raises:
        ValueError: If a setting is unknown, images of a kind are missing, or a class has no
            annotated pixel on the images to select with.
    """

    default_prefix = "probe"
    MAIN: ClassVar[Mapping[str, str]] = {"segmentation": "mIoU", "depth": "rmse"}
    SELECTS_ON: ClassVar[tuple[str, ...]] = get_args(SelectOn)

    def __init__(
        self,
        task: str,
        encoder_depth: int,
        sources: Sequence[Source] | str = "all",
        lrs: Sequence[float] = (1e-3,),
        weight_decays: Sequence[float] = (1e-2,),
        seeds: Sequence[int] = (0,),
        half_length: bool = False,
        metric: str | None = None,
        select_on: SelectOn = "holdout",
        allow_absent_classes: bool = False,
        collect_device: str = "cpu",
        prefix: str | None = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        if task not in self.MAIN:
            raise ValueError(f"task {task!r} is not known to probes; use {' or '.join(self.MAIN)}")
        if select_on not in self.SELECTS_ON:
            raise ValueError(f"select_on {select_on!r} is not known; use {self.SELECTS_ON}")
        self.task, self.select_on = task, select_on
        self.metric = metric or self.MAIN[task]
        self.sources = resolve_sources(sources, encoder_depth)
        self.settings: tuple[HeadSetting, ...] = head_settings(lrs, weight_decays, seeds)
        self.half_length_heads = half_length_heads(self.settings) if half_length else ()
        self.seeds, self.lrs = tuple(seeds), tuple(lrs)
        self.allow_absent_classes = allow_absent_classes
        self._of_seeds: dict[int, dict[str, ItemEvidence]] | None = None
        self._summary: ProbeSummary | None = None

    # ---- collecting --------------------------------------------------------------------------

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Keep the counts of a batch."""
        for sample in data_samples:
            counts = np.asarray(sample["probe_counts"])
            heads = len(self.settings) + len(self.half_length_heads)
            if counts.shape[:2] != (len(self.sources), heads):
                raise ValueError(
                    f"the model gives counts of {counts.shape[0]} sources x {counts.shape[1]} "
                    f"heads, but the metric expects {len(self.sources)} x {heads}; give model and "
                    "metric the same sources, lrs, weight_decays, seeds and half_length"
                )
            if np.issubdtype(counts.dtype, np.integer):
                counts = counts.astype(np.int32)  # of one image; all of them are kept to the end
            held = sample.get("probe_split") == "holdout"
            name = str(sample.get("image_id", sample["img_path"]))
            row = name, held, counts, sample.get("sequence"), sample.get("target")
            self.results.append(row)

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Choose, then score the chosen heads; metrics of the reported head."""
        held = [ScoredImage(*row) for row in results if row[1]]
        reported = [ScoredImage(*row) for row in results if not row[1]]
        to_select = held if self.select_on == "holdout" else reported
        for name, images in (("to select with", to_select), ("to report", reported)):
            if not images:
                raise ValueError(
                    f"the test data hold no image {name}; concatenate a HoldoutSubset of part "
                    "'holdout' and the reported split"
                )
        if self.task == "segmentation" and not self.allow_absent_classes:
            self._require_all_classes(to_select)
        scores_SP = np.array(
            [
                [self._score(to_select, s, p) for p in range(len(self.settings))]
                for s in range(len(self.sources))
            ]
        )
        higher = metric_of(self.metric).higher_is_better
        selection = select_heads(scores_SP, self.settings, higher)
        self._of_seeds = {
            seed: {
                name_of(source): self._evidence(reported, s, self._head(selection.setting_S[s], e))
                for s, source in enumerate(self.sources)
            }
            for e, seed in enumerate(self.seeds)
        }
        self._summary = self._summarise(selection, reported, self._rising(selection, to_select))
        scores = self.evidence().metrics()
        return {name: float(value) for name, value in scores.items() if np.isfinite(value)}

    def _head(self, setting: int, seed: int) -> int:
        return setting * len(self.seeds) + seed

    def _rising(
        self, selection: ChosenHeads, images: Sequence[ScoredImage]
    ) -> dict[str, str] | None:
        """Sources whose chosen head gained in the second half of its training, in words.

        Found on the images that chose, so that the reported ones stay scored once.
        """
        if not self.half_length_heads:
            return None
        rising = {}
        for s, (source, setting) in enumerate(zip(self.sources, selection.setting_S, strict=True)):
            heads = len(self.settings) + setting, self._head(setting, 0)
            if not all(np.isfinite(self._score(images, s, head)) for head in heads):
                continue
            half, whole = (self._choosing_evidence(images, s, head) for head in heads)
            gain = gain_of(half, whole, self.metric)
            if gain.is_rising:
                rising[name_of(source)] = gain.in_words
        return rising

    def _choosing_evidence(
        self, images: Sequence[ScoredImage], source: int, head: int
    ) -> ItemEvidence:
        """Evidence on images of which only what chooses was kept."""
        return self._evidence(images, source, head)

    def _require_all_classes(self, images: Sequence[ScoredImage]) -> None:
        target_K = sum(image.counts[0, 0, 2].astype(np.int64) for image in images)
        absent = np.flatnonzero(target_K == 0)
        if len(absent):
            name = self.dataset_meta["classes"][absent[0]]
            raise ValueError(
                f"class {name!r} has no annotated pixel on the {len(images)} images to select "
                f"with ({len(absent)} of {len(target_K)} classes have none); hold out a larger "
                "share, or set allow_absent_classes"
            )

    def _evidence(self, images: Sequence[ScoredImage], source: int, head: int) -> ItemEvidence:
        names = short_names([image.name.replace("\\", "/") for image in images])
        counts_N = np.stack([image.counts[source, head] for image in images])
        if self.task == "segmentation":
            return counts_evidence(names, self.dataset_meta["classes"], counts_N)
        sequences = [image.sequence for image in images]
        return depth_evidence(
            names,
            [DepthErrorSums.from_row(row) for row in counts_N],
            metric_names=(self.metric, *(name for name in DEPTH_METRICS if name != self.metric)),
            sequence_ids=None if None in sequences else [str(name) for name in sequences],
        )

    def _score(self, images: Sequence[ScoredImage], source: int, head: int) -> float:
        if any(np.isnan(image.counts[source, head]).any() for image in images):
            return float("nan")  # diverged
        evidence = self._evidence(images, source, head)
        return evidence.metrics(names=[self.metric])[self.metric]

    def _summarise(
        self,
        selection: ChosenHeads,
        reported: Sequence[ScoredImage],
        rising: dict[str, str] | None,
    ) -> ProbeSummary:
        names = [name_of(source) for source in self.sources]
        best, setting = selection.source, selection.setting_S[selection.source]
        chosen = self.settings[self._head(setting, 0)]
        single = [source[0] for source in self.sources if len(source) == 1]
        last = str(max(single)) if single else None
        gap = None
        if last is not None and can_be_resampled(self._of_seed(None)[last]):
            gap = self.difference(names[best], last)
        return ProbeSummary(
            metric=self.metric,
            selected_on=self.select_on,
            source=names[best],
            lr=chosen.lr,
            weight_decay=chosen.weight_decay,
            seed=self.seeds[0],
            seed_scores={
                seed: self._score(reported, best, self._head(setting, e))
                for e, seed in enumerate(self.seeds)
            },
            by_seed=tuple(
                SeedChoice(seed, names[s], head.lr, head.weight_decay)
                for seed, (s, t) in zip(self.seeds, selection.by_seed, strict=True)
                for head in [self.settings[self._head(t, 0)]]
            ),
            last=last,
            best_minus_last=gap,
            at_edge={
                name: words
                for name, setting in zip(names, selection.setting_S, strict=True)
                if (words := self._edge(self.settings[self._head(setting, 0)].lr))
            },
            rising=rising,
        )

    def _edge(self, value: float) -> str:
        return edge_in_words(value, self.lrs)

    # ---- after an evaluation -----------------------------------------------------------------

    def difference(
        self, first: str, second: str, metric: str | None = None, seed: int | None = None
    ) -> PairedDifference:
        """Score of one source minus that of another on the reported images, with its interval.

        Args:
            first: Name of a source.
            second: Name of the one that is taken off.
            metric: Default: the one that was selected by.
            seed: Whose heads are compared; default: the reported one.

        Raises:
            ValueError: If a source or seed was not probed.
        """
        evidence = self._of_seed(seed)
        return paired_difference(
            _of_source(evidence, first), _of_source(evidence, second), metric or self.metric
        )

    def evidence(self) -> ItemEvidence:
        """Per-image evidence of the reported head."""
        return _of_source(self._of_seed(None), self.summary().source)

    def evidence_by_source(self) -> dict[str, ItemEvidence]:
        """Evidence of the chosen head of every source, with the reported seed."""
        return dict(self._of_seed(None))

    def evidence_by_seed(self) -> dict[int, ItemEvidence]:
        """Evidence of the chosen source and setting with every seed of the bank."""
        source = self.summary().source
        return {seed: self._of_seed(seed)[source] for seed in self.seeds}

    def selection(self, seed: int | None = None) -> Selection:
        """How the reported head was chosen, as records keep it.

        Layer and setting are those of the mean over seeds, for every seed; the gap to the last
        layer is that of the heads of one seed.

        Raises:
            ValueError: If the seed was not probed.
        """
        summary, gap, bounds = self.summary(), None, None
        if summary.last is not None:
            best, last = (self._of_seed(seed)[name] for name in (summary.source, summary.last))
            if can_be_resampled(last):
                found = self.difference(summary.source, summary.last, seed=seed)
                gap, bounds = found.difference, interval_info(found, summary.metric)
            else:
                values = (e.metrics(names=[summary.metric])[summary.metric] for e in (best, last))
                gap = float(next(values) - next(values))
        return Selection(
            on=summary.selected_on,
            metric=summary.metric,
            candidates=len(self.sources) * len(self.settings),
            chosen={
                "layer": summary.source,
                "lr": f"{summary.lr:g}",
                "weight_decay": f"{summary.weight_decay:g}",
            },
            best_minus_last=gap,
            best_minus_last_ci95=bounds,
            at_edge=summary.at_edge,
            rising=summary.rising,
        )

    def summary(self) -> ProbeSummary:
        """What was chosen and found in the last evaluation."""
        return _found(self._summary)

    def by_layer(self, seed: int | None = None) -> dict[str, dict[str, float]]:
        """Metric -> {source: score of its chosen head}, undefined scores left out.

        Sources are single layers, '7', and concatenations, '8+9+10+11'.

        Args:
            seed: Whose heads; default: the reported one.

        Raises:
            ValueError: If the seed was not probed.
        """
        found: dict[str, dict[str, float]] = {}
        for source, evidence in self._of_seed(seed).items():
            for name, value in evidence.metrics().items():
                if np.isfinite(value):
                    found.setdefault(name, {})[source] = float(value)
        return found

    def _of_seed(self, seed: int | None) -> dict[str, ItemEvidence]:
        """Evidence of every source with its chosen setting and the heads of one seed."""
        of_seeds = _found(self._of_seeds)
        seed = self.seeds[0] if seed is None else seed
        if seed not in of_seeds:
            raise ValueError(
                f"seed {seed} was not probed; use one of {', '.join(map(str, of_seeds))}"
            )
        return of_seeds[seed]


def edge_in_words(value: float, tried: Sequence[float]) -> str:
    """Which end of three or more tried values one is; '' if none.

    Example:
        >>> edge_in_words(1e-2, [1e-3, 1e-2, 1e-4]), edge_in_words(1e-3, [1e-3, 1e-2, 1e-4])
        ('lr 0.01, the largest of 3', '')
    """
    ends = {max(tried): "largest", min(tried): "smallest"} if len(set(tried)) > 2 else {}
    return f"lr {value:g}, the {ends[value]} of {len(set(tried))}" if value in ends else ""


def can_be_resampled(evidence: ItemEvidence) -> bool:
    """Whether the items are of two units or more; frames of one sequence are of one."""
    return len(set(evidence.unit_labels[evidence.unit])) > 1


def _of_source(of_seed: dict[str, ItemEvidence], source: str) -> ItemEvidence:
    if source not in of_seed:
        raise ValueError(f"source {source!r} was not probed; use one of {', '.join(of_seed)}")
    return of_seed[source]


def _found(result: T | None) -> T:
    if result is None:
        raise RuntimeError("ProbeMetric has evaluated nothing yet")
    return result
