"""Resamples of the items behind a score, and the score on each of them.

A resample takes as many units (images, videos, sequences) as there are, with replacement. Whole
units are drawn, since items of one video are not independent.

Shape legend: N items, U units, R resamples.

Source: cluster bootstrap as in Davison and Hinkley, Bootstrap Methods and their Application
(1997), section 3.8.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from pe_dense.results.item_evidence import ItemEvidence

FEW_UNITS = 20  # below, percentile intervals are visibly too narrow
# Two ways to add the same floats differ by less than this share of the score.
ROUNDING = 1e-12


def bootstrap_weights(unit_index_N: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """How often each item is in each resample, when whole units are drawn with replacement.

    Args:
        unit_index_N: (N,) integers, number of each item's unit; units are 0 to the largest.
        resamples: Number of draws, 1 or more.
        seed: Seed of the draws, 0 or more.

    Returns:
        (resamples, N) unsigned integers of the smallest type that holds them. The weights of one
        row sum to U over units, each counted once; items of one unit share their weight.

    Raises:
        ValueError: If `resamples` is below 1, or there are fewer than two units.

    Example:
        >>> bootstrap_weights(np.array([0, 0, 1]), resamples=3, seed=0).tolist()
        [[0, 0, 2], [1, 1, 1], [2, 2, 0]]
    """
    unit_index_N = np.asarray(unit_index_N)
    num_units = int(unit_index_N.max()) + 1
    if resamples < 1:
        raise ValueError(f"resamples is {resamples}; use 1 or more, 1000 for an interval")
    if num_units < 2:
        raise ValueError("all items are of one unit; an interval needs two units or more")
    drawn_RU = np.random.default_rng(seed).integers(num_units, size=(resamples, num_units))
    drawn_RU += np.arange(resamples)[:, None] * num_units
    counts_RU = np.bincount(drawn_RU.ravel(), minlength=resamples * num_units)
    counts_RU = counts_RU.reshape(resamples, num_units)
    smallest = np.min_scalar_type(int(counts_RU.max()))
    return counts_RU.astype(smallest)[:, unit_index_N]


class Draws:
    """Resamples of the items of one evidence, and what is said about them in every result."""

    def __init__(
        self, evidence: ItemEvidence, resamples: int, seed: int, unit: str | None, level: float
    ) -> None:
        units = evidence.units
        self.unit = evidence.unit if unit is None else unit
        if self.unit not in units:
            raise ValueError(
                f"unit '{self.unit}' is unknown to this {evidence.kind} evidence; "
                f"use one of {', '.join(units)}"
            )
        if not 0 < level < 1:
            raise ValueError(f"level is {level}; use a share between 0 and 1, such as 0.95")
        self.index_N = units[self.unit]
        self.num_units = int(self.index_N.max()) + 1
        if self.num_units < 2:
            raise ValueError(
                f"the {evidence.kind} evidence holds one {self.unit} only; an interval needs two "
                "or more, so report the score without one"
            )
        self.num_items, self.resamples, self.level = evidence.num_items, resamples, level
        self.weights_RN = bootstrap_weights(self.index_N, resamples, seed)

    def usable(self, score: float, drawn_R: np.ndarray) -> bool:
        """The metric is defined on all items, and in at least half of the resamples."""
        return not math.isnan(score) and 2 * np.isnan(drawn_R).sum() <= len(drawn_R)

    def defined(self, metric: str, score: float, drawn_R: np.ndarray) -> np.ndarray:
        """The resampled scores that are defined; ValueError if too few are."""
        if not self.usable(score, drawn_R):
            raise ValueError(
                f"metric '{metric}' is undefined in {np.isnan(drawn_R).sum()} of {len(drawn_R)} "
                "resamples; too few items have it, so report it without an interval"
            )
        return drawn_R[~np.isnan(drawn_R)]

    def bounds(self, drawn_R: np.ndarray, score: float) -> tuple[float, float]:
        """Bounds that hold the share `level` of the resampled scores, moved to mean the score."""
        tail = (1 - self.level) / 2
        low, high = np.quantile(drawn_R, [tail, 1 - tail]) + (score - drawn_R.mean())
        return float(low), float(high)

    def about(self, kept_R: np.ndarray) -> dict[str, Any]:
        """The fields that all results share."""
        return {
            "unit": self.unit,
            "num_units": self.num_units,
            "num_items": self.num_items,
            "resamples": self.resamples,
            "undefined": self.resamples - len(kept_R),
            "few_units": self.num_units < FEW_UNITS,
        }


def sample_sd(values: np.ndarray) -> float:
    """Standard deviation with n - 1; nan for one value."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else math.nan


def score_of(evidence: ItemEvidence, metric: str) -> float:
    """The score on all items, nan if undefined."""
    return evidence.metrics(None, [metric])[metric]


def drawn_scores(
    evidence: ItemEvidence, draws: Draws, metric: str, reference: ItemEvidence
) -> np.ndarray:
    """Scores of the resamples drawn from the reference, whatever the order of the items."""
    order = _places(evidence, reference)
    if not np.array_equal(evidence.units.get(draws.unit), draws.index_N[order]):
        raise ValueError(
            f"items belong to other {draws.unit}s in the two evidences; evaluate both again with "
            "the same data set"
        )
    return evidence.metrics(draws.weights_RN[:, order], [metric])[metric]


def _places(evidence: ItemEvidence, reference: ItemEvidence) -> np.ndarray:
    """(N,) place in the reference of each item of the evidence."""
    if evidence.kind != reference.kind:
        raise ValueError(
            f"evidence of kind '{reference.kind}' and '{evidence.kind}' cannot be compared; "
            "take two of the same task"
        )
    place = {name: n for n, name in enumerate(reference.item_ids)}
    different = sorted(set(place) ^ set(evidence.item_ids))
    if different:
        raise ValueError(
            f"{len(different)} items are in only one of the two evidences, such as "
            f"{', '.join(different[:3])}; evaluate both on the same items"
        )
    return np.array([place[name] for name in evidence.item_ids])
