"""Per-item evidence of what an encoder knows by name: classes of pictures, and retrieval.

Shape legend: N pictures or queries, K classes, J best classes that are kept, R weightings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from pe_dense.results.item_evidence import (
    ItemEvidence,
    mean_of_defined,
    ratio,
    store_counts,
    store_names,
    store_values,
    weighted_mean,
)

RECALL_AT = (1, 5, 10)


@dataclass(frozen=True, eq=False, kw_only=True)
class ClassificationEvidence(ItemEvidence):
    """The best classes of each picture or video, and the right one.

    Metrics: top1, top5 (where more than 5 classes compete and 5 are kept) and mean_class_top1, the
    mean over the classes that have pictures.

    Attributes:
        image_ids: N unique names.
        classes: K unique names.
        target_N: int64, place of the right class.
        top_NJ: int64, places of the best classes, the best first, J at least 1.
        score_NJ: float64, what they scored.

    Raises:
        ValueError: If names repeat, shapes differ, a place is none of a class, one stands twice in
            a row, or scores rise.

    Example:
        >>> evidence = ClassificationEvidence(
        ...     image_ids=("a", "b"), classes=("cat", "dog"), target_N=[0, 0],
        ...     top_NJ=[[0], [1]], score_NJ=[[0.9], [0.2]],
        ... )
        >>> evidence.metrics()
        {'top1': 0.5, 'mean_class_top1': 0.5}
    """

    kind: ClassVar[str] = "classification"
    item: ClassVar[str] = "image"
    image_ids: tuple[str, ...]
    classes: tuple[str, ...]
    target_N: np.ndarray
    top_NJ: np.ndarray
    score_NJ: np.ndarray

    def __post_init__(self) -> None:
        """Checks and freezes the fields."""
        store_names(self, "image_ids")
        store_names(self, "classes")
        num, kept = len(self.image_ids), np.shape(self.top_NJ)[-1]
        store_counts(self, "target_N", (num,))
        store_counts(self, "top_NJ", (num, kept))
        store_values(self, "score_NJ", (num, kept), between=(-np.inf, np.inf))
        if not 1 <= kept <= len(self.classes):
            raise ValueError(f"field 'top_NJ' keeps {kept} of {len(self.classes)} classes")
        for name in ("target_N", "top_NJ"):
            if getattr(self, name).max() >= len(self.classes):
                raise ValueError(
                    f"field '{name}' holds {getattr(self, name).max()}, no place among "
                    f"{len(self.classes)} classes"
                )
        if (np.diff(np.sort(self.top_NJ, axis=1), axis=1) == 0).any():
            raise ValueError("field 'top_NJ' has a class twice in a row; keep each once")
        if (np.diff(self.score_NJ, axis=1) > 0).any():
            raise ValueError("field 'score_NJ' rises in a row; put the best class first")

    @property
    def item_ids(self) -> tuple[str, ...]:
        """Names of the pictures."""
        return self.image_ids

    @property
    def metric_names(self) -> tuple[str, ...]:
        """top1, top5 where there is one, mean_class_top1."""
        has_five = self.top_NJ.shape[1] >= 5 and len(self.classes) > 5
        return ("top1", *(("top5",) if has_five else ()), "mean_class_top1")

    @property
    def unit_labels(self) -> dict[str, tuple[str, ...]]:
        """Pictures only."""
        return {"image": self.image_ids}

    @property
    def unit(self) -> str:
        """Pictures are drawn on their own."""
        return "image"

    def _metrics(self, weights_RN: np.ndarray, names: Sequence[str]) -> dict[str, np.ndarray]:
        right_NJ = self.top_NJ == self.target_N[:, None]
        columns_N2 = np.stack([right_NJ[:, 0], right_NJ[:, :5].any(axis=1)], axis=1)
        shares_R2 = weighted_mean(weights_RN, columns_N2, np.ones(columns_N2.shape, bool))
        found = {"top1": shares_R2[:, 0], "top5": shares_R2[:, 1]}
        if "mean_class_top1" in names:
            found["mean_class_top1"] = self._by_class(weights_RN.astype(np.float64))
        return {name: found[name] for name in names}

    def _by_class(self, weights_RN: np.ndarray) -> np.ndarray:
        """Mean over classes of the share of their pictures that is right, (R,)."""
        order = np.argsort(self.target_N, kind="stable")
        sorted_N = self.target_N[order]
        starts = np.flatnonzero(np.r_[True, np.diff(sorted_N) > 0])
        right_N = (self.top_NJ[:, 0] == self.target_N)[order]
        every_RK = np.add.reduceat(weights_RN[:, order], starts, axis=1)
        right_RK = np.add.reduceat(weights_RN[:, order] * right_N, starts, axis=1)
        return mean_of_defined(ratio(right_RK, every_RK))


@dataclass(frozen=True, eq=False, kw_only=True)
class RetrievalEvidence(ItemEvidence):
    """How many wrong answers stand before the first right one, for texts and for pictures.

    Metrics: text_to_image_R@1, @5, @10 and image_to_text_R@1, @5, @10 ('video' for 'image' where
    videos are looked for): the share of queries with a right answer among the first k. The pictures
    are resampled, each with its captions as queries; what is searched stays whole.

    Attributes:
        query_ids: N unique names.
        image_ids: The picture or video that each query is, or that its text belongs to.
        visual: ('image',) or ('video',): what is looked for.
        is_text_N: int64, 1 where the query is a text.
        rank_N: int64, wrong answers at or before the first right one.

    Raises:
        ValueError: If names repeat, shapes differ, or a direction has no query.
    """

    kind: ClassVar[str] = "retrieval"
    item: ClassVar[str] = "query"
    query_ids: tuple[str, ...]
    image_ids: tuple[str, ...]
    visual: tuple[str, ...]
    is_text_N: np.ndarray
    rank_N: np.ndarray

    def __post_init__(self) -> None:
        """Checks and freezes the fields."""
        store_names(self, "query_ids")
        store_names(self, "image_ids", unique=False, length=len(self.query_ids))
        if tuple(self.visual) not in (("image",), ("video",)):
            raise ValueError(f"field 'visual' is {self.visual!r}; use ('image',) or ('video',)")
        object.__setattr__(self, "visual", tuple(self.visual))
        for name in ("is_text_N", "rank_N"):
            store_counts(self, name, (len(self.query_ids),))
        if not set(np.unique(self.is_text_N)) == {0, 1}:
            raise ValueError(
                "field 'is_text_N' must be 0 or 1, and have both; pass both directions"
            )

    @property
    def item_ids(self) -> tuple[str, ...]:
        """Names of the queries."""
        return self.query_ids

    @property
    def metric_names(self) -> tuple[str, ...]:
        """Text to picture first, as papers have it."""
        what = self.visual[0]
        directions = (f"text_to_{what}", f"{what}_to_text")
        return tuple(f"{direction}_R@{k}" for direction in directions for k in RECALL_AT)

    @property
    def unit_labels(self) -> dict[str, tuple[str, ...]]:
        """Pictures, and queries."""
        return {"image": self.image_ids, "query": self.query_ids}

    @property
    def unit(self) -> str:
        """A picture with its captions: they are right or wrong together."""
        return "image"

    def _metrics(self, weights_RN: np.ndarray, names: Sequence[str]) -> dict[str, np.ndarray]:
        found_NM, scored_NM = [], []
        for name in names:
            direction, _, k = name.partition("_R@")
            scored_N = self.is_text_N == direction.startswith("text_to_")
            scored_NM.append(scored_N)
            found_NM.append(scored_N & (self.rank_N < int(k)))
        means_RM = weighted_mean(weights_RN, np.stack(found_NM, 1), np.stack(scored_NM, 1))
        return {name: means_RM[:, m] for m, name in enumerate(names)}
