"""Top-1 and top-5 accuracy of classes by name; the best classes of each picture are evidence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from mmengine.evaluator import BaseMetric
from mmengine.registry import METRICS

from pe_dense.results.named_evidence import ClassificationEvidence


@METRICS.register_module()
class NameAccuracy(BaseMetric):
    """Scores of `ClassificationEvidence` over the whole data set.

    Args:
        collect_device, prefix: As in MMEngine's metrics.

    Raises:
        ValueError: If a picture is scored twice.
    """

    default_prefix = "names"

    def __init__(self, collect_device: str = "cpu", prefix: str | None = None) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        self._evidence: ClassificationEvidence | None = None
        self._notes: list[str] = []

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Keep what was found for each picture."""
        names = ("image_id", "classes", "target", "top", "score", "num_cut", "left_out")
        self.results += [{name: sample[name] for name in names} for sample in data_samples]

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Scores of all that was kept."""
        self._notes = notes_of(
            max(result["num_cut"] for result in results),
            "sentences of classes",
            results[0]["left_out"],
        )
        self._evidence = ClassificationEvidence(
            image_ids=tuple(result["image_id"] for result in results),
            classes=results[0]["classes"],
            target_N=np.array([result["target"] for result in results]),
            top_NJ=np.stack([result["top"] for result in results]),
            score_NJ=np.stack([result["score"] for result in results]),
        )
        return self._evidence.metrics()

    def evidence(self) -> ClassificationEvidence:
        """The best classes of every picture."""
        if self._evidence is None:
            raise RuntimeError("NameAccuracy has evaluated nothing yet")
        return self._evidence

    def notes(self) -> list[str]:
        """For the record: sentences that did not fit into the text tower, items left out."""
        return self._notes


def notes_of(num_cut: int, what: str, left_out: Sequence[str]) -> list[str]:
    """What a score is not of, in words; nothing where it is of everything.

    Example:
        >>> notes_of(2, "captions", ["a.mp4"])
        ['2 captions were longer than the text tower and lost their end', 'left out: a.mp4']
    """
    notes = []
    if num_cut:
        notes.append(f"{num_cut:,} {what} were longer than the text tower and lost their end")
    if left_out:
        notes.append(f"left out: {', '.join(left_out)}")
    return notes
