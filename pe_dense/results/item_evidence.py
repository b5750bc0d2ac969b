"""What all kinds of per-item evidence share: the interface, sums, and fields checked once.

Shape legend: N items (images, objects or sequences), K classes, M metrics, R weightings.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import numpy as np

# Beyond, sums of areas or counts would not be exact in float64.
MAX_TOTAL = 2**53


class ItemEvidence(ABC):
    """What all kinds of evidence can do; see the subclasses for what they hold.

    Attributes:
        kind: Short name of the kind, as in evidence files.
        item: What one item is: 'image', 'object' or 'sequence'.
        metric_names: Names of all metrics, the main one first.
    """

    kind: ClassVar[str]
    item: ClassVar[str]
    metric_names: tuple[str, ...]

    @property
    @abstractmethod
    def item_ids(self) -> tuple[str, ...]:
        """Unique names of the items, in stored order; equal sets can be compared in pairs."""

    @property
    @abstractmethod
    def unit_labels(self) -> dict[str, tuple[str, ...]]:
        """What can be resampled -> the label of every item's unit, in the order of the items."""

    @property
    @abstractmethod
    def unit(self) -> str:
        """The right unit to resample, a key of `unit_labels`: items of one unit are not alone."""

    @abstractmethod
    def _metrics(self, weights_RN: np.ndarray, names: Sequence[str]) -> dict[str, np.ndarray]:
        """At least the metrics in `names`, each (R,) float64."""

    @property
    def num_items(self) -> int:
        """Number of items."""
        return len(self.item_ids)

    @property
    def units(self) -> dict[str, np.ndarray]:
        """What can be resampled -> (N,) int64, the number of every item's unit from 0 on."""
        return {
            unit: np.unique(labels, return_inverse=True)[1].astype(np.int64)
            for unit, labels in self.unit_labels.items()
        }

    def metrics(
        self, weights_RN: np.ndarray | None = None, names: Iterable[str] | None = None
    ) -> dict[str, Any]:
        """Scores of the items, for each weighting if weights are given.

        Args:
            weights_RN: (R, N) integers, 0 or more: how often each item counts.
            names: Metrics wanted; default: all, undefined ones as nan.

        Returns:
            Metric -> float, or (R,) float64 with weights; nan where undefined.

        Raises:
            ValueError: If a name is unknown (it lists the known ones), or the weights are no
                integers of that shape or negative.
        """
        wanted = self._known(names)
        if weights_RN is None:
            ones_1N = np.ones((1, self.num_items), np.uint8)
            scores = self._metrics(ones_1N, wanted)
            return {name: float(scores[name][0]) for name in wanted}
        weights_RN = np.asarray(weights_RN)
        if weights_RN.ndim != 2 or weights_RN.shape[1] != self.num_items:
            raise ValueError(
                f"weights have shape {weights_RN.shape} but the evidence holds {self.num_items} "
                "items; pass one row of weights per resample"
            )
        if weights_RN.dtype.kind not in "iu" or (weights_RN.size and weights_RN.min() < 0):
            raise ValueError(
                f"weights of type {weights_RN.dtype} must be integers of 0 or more; "
                "pass how often each item counts"
            )
        scores = self._metrics(weights_RN, wanted)
        return {name: scores[name] for name in wanted}

    def _known(self, names: Iterable[str] | None) -> tuple[str, ...]:
        if names is None:
            return self.metric_names
        wanted = (names,) if isinstance(names, str) else tuple(names)
        for name in wanted:
            if name not in self.metric_names:
                raise ValueError(
                    f"metric '{name}' is unknown to {self.kind} evidence; "
                    f"use one of {listed(self.metric_names)}"
                )
        return wanted


# ---- sums ------------------------------------------------------------------------------------


def ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Part over whole, nan where the whole is 0."""
    return np.divide(part, whole, out=np.full(np.shape(whole), np.nan), where=whole != 0)


def mean_of_defined(values: np.ndarray) -> np.ndarray:
    """Mean of what is not nan, over all axes but the first; nan where nothing is."""
    defined, rest = ~np.isnan(values), tuple(range(1, values.ndim))
    return ratio(np.where(defined, values, 0.0).sum(axis=rest), defined.sum(axis=rest))


def weighted_mean(
    weights_RN: np.ndarray, values_NM: np.ndarray, scored_NM: np.ndarray
) -> np.ndarray:
    """Mean over the scored items, (R, M); nan where none is scored."""
    weights_RN = weights_RN.astype(np.float64)
    return ratio(weights_RN @ values_NM, weights_RN @ scored_NM.astype(np.float64))


# ---- fields: checked once, then never changed ------------------------------------------------


def listed(names: Sequence[str], limit: int = 12) -> str:
    """Names for an error message, no more than `limit`."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def store_names(
    evidence: ItemEvidence, field: str, unique: bool = True, length: int | None = None
) -> None:
    """Makes a field a tuple of texts.

    Raises:
        ValueError: If it is empty, of another length, not of text, or repeats a name.
    """
    value = getattr(evidence, field)
    names = tuple(map(str, value)) if isinstance(value, np.ndarray) else tuple(value)
    if isinstance(value, str) or not all(isinstance(name, str) and name for name in names):
        raise ValueError(f"field '{field}' must hold texts that are not empty; pass names")
    if not names:
        raise ValueError(f"field '{field}' is empty; evidence needs at least one entry")
    if length is not None and len(names) != length:
        raise ValueError(f"field '{field}' has {len(names)} entries, not {length}; pass one each")
    if unique:
        refuse_repeated(field, names)
    object.__setattr__(evidence, field, names)


def refuse_repeated(field: str, names: tuple[str, ...]) -> None:
    """Raises ValueError if a name appears twice."""
    if len(set(names)) < len(names):
        seen: set[str] = set()
        twice = next(name for name in names if name in seen or seen.add(name))
        raise ValueError(f"field '{field}' holds '{twice}' twice; score each one once")


def store_counts(evidence: ItemEvidence, field: str, shape: tuple[int, ...]) -> None:
    """Makes a field a read-only int64 array.

    Raises:
        ValueError: If the shape differs, or the values are no integers, negative, or too large.
    """
    value = np.asarray(getattr(evidence, field))
    _check_shape(field, value, shape)
    if value.dtype.kind not in "iu":
        raise ValueError(f"field '{field}' is of type {value.dtype}; pass integer counts")
    if value.size and (value.min() < 0 or value.max() > MAX_TOTAL // value.size):
        raise ValueError(
            f"field '{field}' holds {value.min()} to {value.max()}; counts are 0 or more, and "
            "their sum must stay below 2^53"
        )
    freeze(evidence, field, value.astype(np.int64))


def store_values(
    evidence: ItemEvidence,
    field: str,
    shape: tuple[int, ...],
    between: tuple[float, float] | None = None,
) -> None:
    """Makes a field a read-only float64 array; nan is allowed only where there is no range.

    Raises:
        ValueError: If the shape differs, or a value is no number, infinite, or out of range.
    """
    value = np.asarray(getattr(evidence, field))
    _check_shape(field, value, shape)
    if value.dtype.kind not in "iuf" or np.isinf(value).any():
        raise ValueError(f"field '{field}' must hold finite numbers; correct it")
    if between is not None and not ((value >= between[0]) & (value <= between[1])).all():
        raise ValueError(
            f"field '{field}' leaves its range, {between[0]:g} to {between[1]:g}; correct it"
        )
    freeze(evidence, field, value.astype(np.float64))


def _check_shape(field: str, value: np.ndarray, shape: tuple[int, ...]) -> None:
    if value.shape != shape:
        raise ValueError(f"field '{field}' has shape {value.shape}, not {shape}; correct it")


def freeze(evidence: ItemEvidence, field: str, value: np.ndarray) -> None:
    """Makes a field this array, read-only from now on."""
    value.setflags(write=False)
    object.__setattr__(evidence, field, value)
