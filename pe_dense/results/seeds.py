"""What training with another seed would change: the spread between seeds, pooled over encoders.

Three seeds say little about their own spread: with 2 degrees of freedom, t is 4.3 where the normal
is 2.0. But encoders under one protocol are trained alike, so that their spreads are pooled: the sum
of squares of all about the mean of their encoder, with as many degrees of freedom as there are
seeds minus encoders. This takes the spread to be the same for all; where it is not, an encoder that
trains less steadily than most is trusted too much, and the others too little.

Part of what differs between the scores of two seeds comes from the items: each seed does better on
other ones, and would on another test set too. Resampling the items sees that part already. It is
taken out of the spread here, so that it does not count twice; what is left is 0 or more.

Shape legend: B encoders, S seeds of one encoder, R resamples.

Source: one-way analysis of variance, pooled mean square within groups. Taking out the part of the
items: two-way random effects with readers (here seeds) and cases (here items), as in Gallas,
Academic Radiology 13 (2006), 353-362, and Obuchowski and Rockette, Communications in Statistics
24 (1995), 285-308.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class SeedSpread:
    """Scores of the same experiment with several seeds.

    Attributes:
        mean: Mean over seeds.
        sd: Standard deviation of one seed, with n - 1; nan for one seed.
        standard_error: Of the mean, sd / sqrt(n); nan for one seed.
        low, high: Smallest and largest score.
        n: Number of seeds.
    """

    mean: float
    sd: float
    standard_error: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class SeedVariance:
    """How much one seed's score varies, pooled over encoders.

    Attributes:
        variance: Variance of one seed's score beyond what items explain, 0 or more; nan where no
            encoder has two seeds.
        total: Variance of one seed's score as it is; nan likewise.
        degrees_of_freedom: Seeds minus encoders; 0 where no encoder has two seeds.
    """

    variance: float
    total: float
    degrees_of_freedom: int

    @property
    def is_known(self) -> bool:
        """Whether any encoder has two seeds or more."""
        return self.degrees_of_freedom > 0

    def of_mean(self, num_seeds: int) -> float:
        """Variance of a mean over so many seeds; 0 where nothing is known."""
        return self.variance / num_seeds if self.is_known else 0.0


def seed_component(values_by_seed: Sequence[float]) -> SeedSpread:
    """Mean and spread of the scores that several seeds gave on the same items.

    Raises:
        ValueError: If there is no score, or one is not finite.

    Example:
        >>> spread = seed_component([0.5, 0.7])
        >>> round(spread.mean, 3), round(spread.sd, 3), round(spread.standard_error, 3)
        (0.6, 0.141, 0.1)
    """
    values_S = np.asarray(values_by_seed, np.float64)
    if values_S.ndim != 1 or not len(values_S) or not np.isfinite(values_S).all():
        raise ValueError(
            f"scores by seed are {list(values_by_seed)[:5]}; pass one finite number per seed"
        )
    sd = float(np.std(values_S, ddof=1)) if len(values_S) > 1 else math.nan
    return SeedSpread(
        mean=float(values_S.mean()),
        sd=sd,
        standard_error=sd / math.sqrt(len(values_S)),
        low=float(values_S.min()),
        high=float(values_S.max()),
        n=len(values_S),
    )


def seed_variance(
    scores_BS: Sequence[Sequence[float]], item_variance_B: Sequence[float] | None = None
) -> SeedVariance:
    """Variance between seeds, pooled over encoders; those with one seed say nothing about it.

    Args:
        scores_BS: For each encoder, the scores of its seeds on the same items.
        item_variance_B: For each encoder, the part of one seed's variance that comes from what
            seeds do to single items, as `item_part` gives it; default: 0.

    Example:
        >>> found = seed_variance([[0.5, 0.7], [0.1, 0.2, 0.3], [0.9]])
        >>> round(found.variance, 4), found.degrees_of_freedom
        (0.0133, 3)
    """
    squares, from_items, freedom = 0.0, 0.0, 0
    for b, scores_S in enumerate(scores_BS):
        own = len(scores_S) - 1
        if own < 1:
            continue
        squares += float(np.square(np.asarray(scores_S) - np.mean(scores_S)).sum())
        from_items += own * (0.0 if item_variance_B is None else item_variance_B[b])
        freedom += own
    if not freedom:
        return SeedVariance(math.nan, math.nan, 0)
    total = squares / freedom
    return SeedVariance(max(0.0, total - from_items / freedom), total, freedom)


def item_part(drawn_SR: np.ndarray, num_units: int) -> float:
    """Variance of one seed's score by what it does to single items, from resamples of them.

    `drawn_SR` are the scores of S seeds of one encoder on the same resamples. What they have in
    common is no difference between seeds, so that only their distance to their mean counts.
    """
    num_seeds = len(drawn_SR)
    if num_seeds < 2:
        return 0.0
    apart_SR = drawn_SR - drawn_SR.mean(axis=0)
    mean_variance = float(apart_SR.var(axis=1, ddof=1).mean())
    return mean_variance * num_seeds / (num_seeds - 1) * num_units / (num_units - 1)
