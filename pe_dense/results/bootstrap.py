"""Resamples of the items behind a score, and the score on each of them.

A resample takes as many units (images, videos, sequences) as there are, with replacement. Whole
units are drawn, since items of one video are not independent.

What n units show is narrower than the truth, in two ways: resamples spread about the mean of the
sample, which takes one degree of freedom (sqrt((n - 1) / n) for a mean), and the spread itself is
only estimated (a t, not a normal). So bounds are stretched about the score by
sqrt(n / (n - 1)) t(n - 1) / z: by 1.87 at 4 units, 1.06 at 30, 1.0007 at 2,000.

Shape legend: N items, U units, R resamples.

Source: cluster bootstrap as in Davison and Hinkley, Bootstrap Methods and their Application
(1997), section 3.8; the stretch: Hesterberg, What Teachers Should Know About the Bootstrap
(arXiv:1411.5279), section 3.2 ("expanded percentile interval"), here about the score.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from pe_dense.results.interval_marks import FEW_UNITS, thin_classes
from pe_dense.results.item_evidence import ItemEvidence
from pe_dense.results.student_t import normal_quantile, t_quantile

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
        self.evidence = evidence
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

    @property
    def has_few_units(self) -> bool:
        """Whether there are fewer than 30 units."""
        return self.num_units < FEW_UNITS

    @property
    def tail(self) -> float:
        """Share outside of an interval, on each side."""
        return (1 - self.level) / 2

    def bounds(
        self,
        drawn_R: np.ndarray,
        score: float,
        seed_variance: float = 0.0,
        seed_freedom: float = math.inf,
    ) -> tuple[float, float]:
        """Bounds about the score that hold the share `level` of the resampled scores.

        Args:
            drawn_R: The score in each resample; their mean is moved to the score.
            score: The score on all items.
            seed_variance: What else varies it: estimated variance of a mean over seeds.
            seed_freedom: Degrees of freedom of that estimate.
        """
        away_R = drawn_R - drawn_R.mean()
        low = self._reach(-away_R, self.tail, seed_variance, seed_freedom)
        high = self._reach(away_R, self.tail, seed_variance, seed_freedom)
        return float(score - low), float(score + high)

    def _reach(
        self, away_R: np.ndarray, tail: float, seed_variance: float, seed_freedom: float
    ) -> float:
        """How far a bound is from the score, if `tail` is to be outside on its side; 0 or more.

        Items and seeds each have a Student's t of their own, and their reaches add as squares: the
        sum of two such variances is no Student's t, and this never holds less than it says.

        Source:
            Banerjee, Sankhya 22 (1960), 359-362.
        """
        reach = max(0.0, float(np.quantile(away_R, 1 - tail))) * stretch(self.num_units, tail)
        if not seed_variance:
            return reach
        return math.hypot(reach, math.sqrt(seed_variance) * t_quantile(tail, seed_freedom))

    def p_value(
        self,
        drawn_R: np.ndarray,
        difference: float,
        rounding: float,
        seed_variance: float = 0.0,
        seed_freedom: float = math.inf,
    ) -> float:
        """Two-sided probability of so large a difference by chance, at least 2 / (R + 1).

        It is where `bounds` begin to hold 0: below 0.05 exactly if the interval of level 0.95
        leaves 0 out, but for the least value, since resamples never show a probability of 0.

        Args:
            drawn_R: The difference in each resample, about any mean.
            difference: The measured one.
            rounding: Differences up to this are none.
            seed_variance: As in `bounds`.
            seed_freedom: As in `bounds`.
        """
        size = abs(difference) - rounding
        if size <= 0:
            return 1.0
        # How far resamples lie on the side of 0, seen from their mean.
        towards_R = np.sort((drawn_R.mean() - drawn_R) * np.sign(difference))

        def holds_zero(p: float) -> bool:
            reach = self._reach(towards_R, p / 2, seed_variance, seed_freedom)
            return reach > rounding and reach >= size

        low, high = 2 / (len(drawn_R) + 1), 1 - 1e-6
        if high <= low or not holds_zero(low):
            return min(low, 1.0)
        if holds_zero(high):
            return 1.0
        while high - low > 1e-9:
            middle = (low + high) / 2
            low, high = (middle, high) if holds_zero(middle) else (low, middle)
        return high

    def about(self, metric: str, kept_R: np.ndarray) -> dict[str, Any]:
        """The fields that all results share."""
        return {
            "unit": self.unit,
            "num_units": self.num_units,
            "num_items": self.num_items,
            "resamples": self.resamples,
            "undefined": self.resamples - len(kept_R),
            "few_units": self.has_few_units,
            "stretch": stretch(self.num_units, self.tail),
            "thin_classes": thin_classes(self.evidence, metric),
        }


def stretch(num_units: int, tail: float) -> float:
    """By how much an interval of a mean of n units is wider than what resamples show.

    sqrt(n / (n - 1)) t(n - 1) / z, with the quantiles that leave `tail` outside on one side.

    Example:
        >>> round(stretch(4, 0.025), 3), round(stretch(30, 0.025), 3)
        (1.875, 1.061)
    """
    lost = math.sqrt(num_units / (num_units - 1))
    return lost * t_quantile(tail, num_units - 1) / normal_quantile(tail)


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
