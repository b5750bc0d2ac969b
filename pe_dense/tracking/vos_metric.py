"""Scores of video object segmentation: J, F and J&F over objects, by layer and setting.

Shape legend: L layers, S settings, K objects of a video.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from mmengine.evaluator import BaseMetric
from mmengine.registry import METRICS

from pe_dense.results.evidence import VideoObjectEvidence
from pe_dense.results.record import IntervalInfo, Selection
from pe_dense.results.record_intervals import interval_info
from pe_dense.results.statistics import paired_difference
from pe_dense.tracking.layer_choice import best_of, mean_j_and_f
from pe_dense.tracking.object_statistics import evidence_of_objects

REPORTS = ("selected", "best", "first", "chosen")


@dataclass(frozen=True)
class VosSummary:
    """Which layer and setting is reported, and what it was chosen on.

    Attributes:
        layer: Block, 0-based.
        setting: Place in the settings of the model.
        selected_on: 'select': other videos. 'val': the reported videos themselves, as in papers
            that give the best layer; such scores are optimistic. 'none': nothing was chosen.
        num_videos, num_objects: That are reported.
    """

    layer: int
    setting: int
    selected_on: str
    num_videos: int
    num_objects: int


@METRICS.register_module()
class VideoObjectMetric(BaseMetric):
    """J&F, J and F with recall and decay, means over the objects of all reported videos.

    Args:
        report: Which layer and setting is reported if there are several. 'selected': the one
            chosen on the videos for that (an error without any). 'best': the one with the
            highest J&F on the reported videos, which is optimistic. 'first': the first of each.
            'chosen': as 'selected' where some videos choose, as 'first' where there are none.
        settings: Those of the model, so that records say what was chosen; None: its number.
        collect_device, prefix: As in MMEngine's metrics.

    Raises:
        ValueError: If there is nothing to score, nothing was selected, or videos were run under
            different layers or settings.
    """

    default_prefix = "vos"

    def __init__(
        self,
        report: str = "selected",
        settings: Sequence[Mapping[str, Any]] | None = None,
        collect_device: str = "cpu",
        prefix: str | None = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        if report not in REPORTS:
            raise ValueError(f"report={report!r} is unknown; choose one of {', '.join(REPORTS)}")
        self.report, self.settings = report, settings
        self._reported: list[dict[str, Any]] = []
        self._summary: VosSummary | None = None

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Keep the statistics of the objects of each video."""
        names = ("video", "purpose", "objects", "layers", "settings", "statistics", "chosen")
        self.results += [{name: sample[name] for name in names} for sample in data_samples]

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Choose if asked, then score; nothing where all videos are only written."""
        reported = [result for result in results if result["purpose"] == "report"]
        if not reported:
            if any(result["purpose"] == "write" for result in results):
                return {}  # masks of later frames are nowhere, or elsewhere
            raise ValueError("no video is to be reported; check the split of the test data")
        # MMEngine may repeat videos so that all processes have as many.
        runs = {(result["layers"], result["settings"], result["chosen"]) for result in reported}
        if len(runs) > 1:
            raise ValueError(f"videos were run under different layers or settings: {sorted(runs)}")
        layers, settings, chosen = runs.pop()
        if not any(result["objects"] for result in reported):
            raise ValueError("no object is annotated in a frame that counts; check the masks")
        if self.report == "selected" and not chosen:
            raise ValueError(
                "no video chose layer and setting; give the test data a selection, or set "
                "report='best' or 'first' in test_evaluator"
            )
        self._candidates = max(len(r["layers"]) * len(r["settings"]) for r in results)
        at = (0, 0)
        if self.report == "best":
            at = best_of(mean_j_and_f([result["statistics"] for result in reported]))
        self._reported, self._at, self._layers = reported, at, layers
        selected_on = "select" if chosen else "val" if self.report == "best" else "none"
        self._summary = VosSummary(
            layer=layers[at[0]],
            setting=settings[at[1]],
            selected_on=selected_on,
            num_videos=len(reported),
            num_objects=sum(len(result["objects"]) for result in reported),
        )
        return {name: float(value) for name, value in self.evidence().metrics().items()}

    def summary(self) -> VosSummary:
        """What the last evaluation reported."""
        if self._summary is None:
            raise RuntimeError("VideoObjectMetric has evaluated nothing yet")
        return self._summary

    def evidence(self) -> VideoObjectEvidence:
        """Every object under the reported layer and setting."""
        self.summary()
        return self._evidence(*self._at)

    def selection(self) -> Selection | None:
        """How layer and setting were chosen, as records keep it; None if nothing was."""
        summary = self.summary()
        if summary.selected_on == "none":
            return None
        setting = {"setting": str(summary.setting)}
        if self.settings is not None:
            setting = {name: str(v) for name, v in self.settings[summary.setting].items()}
        gap, bounds = self._best_minus_last()
        return Selection(
            on=summary.selected_on,
            metric="J&F",
            candidates=self._candidates,
            chosen={"layer": str(summary.layer), **setting},
            best_minus_last=gap,
            best_minus_last_ci95=bounds,
        )

    def _best_minus_last(self) -> tuple[float | None, IntervalInfo | None]:
        """J&F of the reported layer minus that of the last one, under the same setting.

        None where the reported videos were run with one layer only, as those are that others chose
        for; without an interval where there is one video.
        """
        if len(self._layers) < 2:
            return None, None
        layer, setting = self._at
        last = max(range(len(self._layers)), key=lambda i: self._layers[i])
        best, other = self._evidence(layer, setting), self._evidence(last, setting)
        if len(set(best.unit_labels[best.unit])) < 2:
            return float(best.metrics()["J&F"] - other.metrics()["J&F"]), None
        found = paired_difference(best, other, "J&F")
        return found.difference, interval_info(found, "J&F")

    def by_layer(self) -> dict[str, dict[str, float]]:
        """Metric -> {block: score}, all layers under the reported setting."""
        self.summary()
        found: dict[str, dict[str, float]] = {}
        for i, layer in enumerate(self._layers):
            for name, value in self._evidence(i, self._at[1]).metrics().items():
                found.setdefault(name, {})[str(layer)] = float(value)
        return found

    def by_setting(self) -> np.ndarray:
        """(L, S) J&F of all that was run on the reported videos."""
        self.summary()
        return mean_j_and_f([result["statistics"] for result in self._reported])

    def _evidence(self, layer: int, setting: int) -> VideoObjectEvidence:
        return evidence_of_objects(
            [result["video"] for result in self._reported],
            [result["objects"] for result in self._reported],
            [result["statistics"][layer, setting] for result in self._reported],
        )
