"""Recall at k of retrieval, in both directions, with the rank of each query as evidence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from mmengine.evaluator import BaseMetric
from mmengine.registry import METRICS

from pe_dense.results.named_evidence import RetrievalEvidence
from pe_dense.zero_shot.accuracy_metric import notes_of
from pe_dense.zero_shot.retrieval_ranks import retrieval_ranks, right_pairs


@METRICS.register_module()
class CaptionRetrieval(BaseMetric):
    """Scores of `RetrievalEvidence` over the whole data set.

    Args:
        reweight: Scale of re-weighted scores; None: plain ones. See `retrieval_ranks`.
        collect_device, prefix: As in MMEngine's metrics.

    Raises:
        ValueError: If the scale is not above 0, or a picture is there twice.
    """

    default_prefix = "captions"

    def __init__(
        self,
        reweight: float | None = None,
        collect_device: str = "cpu",
        prefix: str | None = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        if reweight is not None and not 0 < reweight < float("inf"):
            raise ValueError(f"reweight={reweight} is no scale; use a number above 0, or None")
        self.reweight = reweight
        self._evidence: RetrievalEvidence | None = None
        self._notes: list[str] = []

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Keep the vectors of each picture and of its captions."""
        names = ("image_id", "media", "captions", "vector", "text_vectors", "num_cut", "left_out")
        self.results += [{name: sample[name] for name in names} for sample in data_samples]

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Ranks of all queries, then scores."""
        num_cut = sum(result["num_cut"] for result in results)
        self._notes = notes_of(num_cut, "captions", results[0]["left_out"])
        images = [result["image_id"] for result in results]
        texts = [caption for result in results for caption in result["captions"]]
        image_T = [i for i, result in enumerate(results) for _ in result["captions"]]
        texts_TD = torch.cat([result["text_vectors"] for result in results])
        images_ID = torch.stack([result["vector"] for result in results])
        ranks = retrieval_ranks(texts_TD, images_ID, right_pairs(texts, image_T), self.reweight)
        text_ids = [
            f"{result['image_id']} caption {place}"
            for result in results
            for place in range(len(result["captions"]))
        ]
        self._evidence = RetrievalEvidence(
            query_ids=(*text_ids, *images),
            image_ids=(*(images[i] for i in image_T), *images),
            visual=(results[0]["media"],),
            is_text_N=np.repeat([1, 0], [len(texts), len(images)]),
            rank_N=torch.cat([ranks.text_T, ranks.image_I]).numpy(),
        )
        return self._evidence.metrics()

    def evidence(self) -> RetrievalEvidence:
        """The rank of every query."""
        if self._evidence is None:
            raise RuntimeError("CaptionRetrieval has evaluated nothing yet")
        return self._evidence

    def notes(self) -> list[str]:
        """For the record: captions that did not fit into the text tower, items left out."""
        return self._notes
