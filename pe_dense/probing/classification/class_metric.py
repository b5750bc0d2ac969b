"""Accuracy of heads on whole pictures: chosen on held-out training pictures, scored once.

Shape legend: N pictures, S sources, P heads of a source, K classes, J best classes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
from mmengine.registry import METRICS

from pe_dense.probing.head_bank import Source
from pe_dense.probing.probe_metric import ProbeMetric, ScoredImage
from pe_dense.results.item_evidence import ItemEvidence
from pe_dense.results.named_evidence import ClassificationEvidence
from pe_dense.results.record import Selection


@METRICS.register_module()
class ClassProbeMetric(ProbeMetric):
    """`ProbeMetric` of `GlobalProbe`: layer, learning rate and weight decay by top-1.

    Raises:
        ValueError: As `ProbeMetric`; or if a class has no picture to select with and
            `allow_absent_classes` is not set.
    """

    MAIN: ClassVar[Mapping[str, str]] = {"classification": "top1"}

    def _require_all_classes(self, images: Sequence[ScoredImage]) -> None:
        seen = {image.target for image in images}
        names = self.dataset_meta["classes"]
        absent = [name for k, name in enumerate(names) if k not in seen]
        if absent:
            raise ValueError(
                f"class {absent[0]!r} has no picture among the {len(images)} to select with "
                f"({len(absent)} of {len(names)} classes have none); hold out a larger share, or "
                "set allow_absent_classes"
            )

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Choose, then score the chosen heads."""
        if not self.allow_absent_classes and self.select_on == "holdout":
            held = [ScoredImage(*row) for row in results if row[1]]
            if held:
                self._require_all_classes(held)
        return super().compute_metrics(results)

    def _evidence(self, images: Sequence[ScoredImage], source: int, head: int) -> ItemEvidence:
        rows_NQ = np.stack([image.counts[source, head] for image in images])
        kept = (rows_NQ.shape[1] - 1) // 2
        return ClassificationEvidence(
            image_ids=tuple(image.name for image in images),
            classes=tuple(self.dataset_meta["classes"]),
            target_N=np.array([image.target for image in images]),
            top_NJ=rows_NQ[:, 1 : 1 + kept].astype(np.int64),
            score_NJ=rows_NQ[:, 1 + kept :].astype(np.float64),
        )

    def _score(self, images: Sequence[ScoredImage], source: int, head: int) -> float:
        """Top-1, from ranks alone; of pictures that choose nothing else is kept."""
        ranks_N = np.array([image.counts[source, head, 0] for image in images])
        if np.isnan(ranks_N).any():  # diverged
            return float("nan")
        if self.metric == "top1":
            return float((ranks_N == 0).mean())
        return self._evidence(images, source, head).metrics(names=[self.metric])[self.metric]

    def _choosing_evidence(
        self, images: Sequence[ScoredImage], source: int, head: int
    ) -> ItemEvidence:
        """Right or wrong, from ranks alone; the class after the right one stands for all others."""
        classes = tuple(self.dataset_meta["classes"])
        target_N = np.array([image.target for image in images])
        ranks_N = np.array([image.counts[source, head, 0] for image in images])
        top_N = np.where(ranks_N == 0, target_N, (target_N + 1) % len(classes))
        return ClassificationEvidence(
            image_ids=tuple(image.name for image in images),
            classes=classes,
            target_N=target_N,
            top_NJ=top_N[:, None],
            score_NJ=np.ones((len(images), 1)),
        )


@METRICS.register_module()
class NeighbourMetric(ClassProbeMetric):
    """The same of `GlobalNeighbours`: layer and k in the place of learning rates.

    Args:
        encoder_depth, sources: As in the model.
        ks: Numbers of neighbours.
        temperature: As in the model; for the record.
        select_on: 'holdout', or '' where there is one layer and one k, and nothing is chosen.
        allow_absent_classes: Whether pictures to select with may lack classes.
        collect_device, prefix: As in MMEngine's metrics.

    Raises:
        ValueError: If several candidates are there and nothing to choose with, or one and a choice.
    """

    SELECTS_ON: ClassVar[tuple[str, ...]] = ("holdout", "")

    def __init__(
        self,
        encoder_depth: int,
        sources: Sequence[Source] | str = (-1,),
        ks: Sequence[int] = (20,),
        temperature: float | None = 0.07,
        select_on: str = "holdout",
        allow_absent_classes: bool = False,
        collect_device: str = "cpu",
        prefix: str | None = None,
    ) -> None:
        super().__init__(
            "classification", encoder_depth, sources, lrs=ks, weight_decays=(0.0,),
            select_on=select_on, allow_absent_classes=allow_absent_classes,
            collect_device=collect_device, prefix=prefix,
        )  # fmt: skip
        self.temperature = temperature
        several = len(self.sources) * len(ks) > 1
        if several != (select_on == "holdout"):
            raise ValueError(
                f"{len(self.sources)} layers and ks {list(ks)} do not fit select_on={select_on!r}; "
                "use 'holdout' where there are several to choose from, and '' for one"
            )

    def _edge(self, value: float) -> str:
        # One neighbour is an end of what can be, not of what was tried.
        return "" if value == 1 else super()._edge(value).replace("lr", "k")

    def selection(self, seed: int | None = None) -> Selection | None:
        """Layer and k; None where nothing was chosen."""
        if not self.select_on:
            return None
        found = super().selection(seed)
        weighting = "none" if self.temperature is None else f"{self.temperature:g}"
        chosen = {"layer": found.chosen["layer"], "k": found.chosen["lr"]}
        return dataclasses.replace(found, chosen=chosen | {"temperature": weighting})

    def notes(self) -> list[str]:
        """How neighbours vote, for records."""
        how = "count alike" if self.temperature is None else f"temperature {self.temperature:g}"
        return [f"neighbours: {how}"]
