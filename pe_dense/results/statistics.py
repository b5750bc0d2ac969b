"""How sure a score is: bootstrap intervals, paired comparisons, and what seeds add.

All of it draws items again: a resample takes as many units (images, videos, sequences) as there
are, with replacement, and the score is computed from the evidence with the multiplicities as
weights. Whole units are drawn, since items of one video are not independent. The same seed gives
the same resamples, so that two scores of the same items are compared on the same draws.

Why percentiles of the resampled scores, moved so that their mean is the score: what is asked is
how far the score of another test set of this size may lie from its mean over such test sets, and
AP is biased at a given size, upwards, because its precision is a running maximum. A resample
repeats images, so that it shows the bias twice, and plain percentiles lie too high: on 50
images of a detector they held the true mean in 85 % of trials, the moved ones in 95 %
(benchmarks/experiments/interval_coverage.py). For a mean there is no bias and no difference. BCa
would also correct the skew, but needs one more evaluation per item (5,000 for COCO), and its
correction is itself noisy for few units. The bounds are then stretched as a normal is to a
Student's t of the number of units; see `bootstrap`. What stays too narrow is marked; see
`interval_marks`.

What is covered is the mean over test sets of this size, drawn as this one was. For a mean over
items that is the score on endless data; for AP and mIoU it is not, since both depend on the size
of the set.

Shape legend: N items, U units, R resamples, S seeds, B scores compared.

Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapters 13 and 16; cluster
bootstrap: Davison and Hinkley, Bootstrap Methods and their Application (1997), section 3.8.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pe_dense.results.bootstrap import (
    ROUNDING,
    Draws,
    drawn_scores,
    sample_sd,
    score_of,
)
from pe_dense.results.bootstrap import bootstrap_weights as bootstrap_weights
from pe_dense.results.interval_marks import FEW_UNITS
from pe_dense.results.item_evidence import ItemEvidence

METHOD = "centred percentile bootstrap, stretched to t"


@dataclass(frozen=True)
class Interval:
    """An interval of one score.

    Attributes:
        low, high: Bounds, in the unit of the score.
        standard_error: Standard deviation of the resampled scores.
        unit: What was drawn: 'image', 'video', 'object' or 'sequence'.
        num_units, num_items: How many of these, and of items, the evidence has.
        resamples: Number of draws.
        undefined: How many of them left the score undefined and are not counted, for example
            because no object of that size was drawn.
        few_units: True if there are fewer than 30 units.
        stretch: Factor that widened it for the number of units; see `bootstrap.stretch`.
        thin_classes: How many classes of the metric rest on fewer than 10 images; None where it
            has no classes. Few units and thin classes may leave an interval too narrow;
            `interval_marks` says so in words.
        method: `METHOD`.
    """

    low: float
    high: float
    standard_error: float
    unit: str
    num_units: int
    num_items: int
    resamples: int
    undefined: int
    few_units: bool
    stretch: float
    thin_classes: int | None
    method: str = METHOD


@dataclass(frozen=True)
class PairedDifference:
    """How much better the first of two scores is, on the same items.

    Attributes:
        difference: First minus second score.
        low, high, standard_error: Its interval, as in `Interval`.
        p_value: Two-sided, of no difference; below 0.05 where the 95 % interval leaves 0 out;
            never 0, at least 2 / (resamples + 1).
        unit, num_units, num_items, resamples, undefined, few_units, stretch, thin_classes: As in
            `Interval`.
    """

    difference: float
    low: float
    high: float
    standard_error: float
    p_value: float
    unit: str
    num_units: int
    num_items: int
    resamples: int
    undefined: int
    few_units: bool
    stretch: float
    thin_classes: int | None


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
class CombinedInterval:
    """An interval of the mean score over seeds, for other items and other seeds.

    Attributes:
        mean: Mean score over seeds.
        low, high: Bounds that cover both sources.
        item_standard_error: From the items: what another test set would change.
        seed_standard_error: From the seeds, of their mean; nan for one seed, and then left out.
        standard_error: Of both together.
        num_seeds, unit, num_units, num_items, resamples, undefined, few_units, stretch,
            thin_classes: As in `Interval`.
    """

    mean: float
    low: float
    high: float
    item_standard_error: float
    seed_standard_error: float
    standard_error: float
    num_seeds: int
    unit: str
    num_units: int
    num_items: int
    resamples: int
    undefined: int
    few_units: bool
    stretch: float
    thin_classes: int | None


# ---- one score -------------------------------------------------------------------------------


def interval(
    evidence: ItemEvidence,
    metric: str,
    resamples: int = 1000,
    seed: int = 0,
    unit: str | None = None,
    level: float = 0.95,
) -> Interval:
    """Centred percentile bootstrap interval of one metric; why so, see the module.

    Args:
        evidence: Any kind.
        metric: One of `evidence.metric_names`.
        resamples: Number of draws. At 1,000 a bound is uncertain by about a tenth of the
            standard error.
        seed: Seed of the draws.
        unit: What to draw; default: `evidence.unit`.
        level: Share of resamples inside, between 0 and 1.

    Raises:
        ValueError: If the metric or unit is unknown, there is only one unit, or the metric is
            undefined, on all items or in more than half of the resamples.
    """
    return intervals(evidence, [metric], resamples, seed, unit, level)[metric]


def intervals(
    evidence: ItemEvidence,
    metrics: Iterable[str] | None = None,
    resamples: int = 1000,
    seed: int = 0,
    unit: str | None = None,
    level: float = 0.95,
) -> dict[str, Interval]:
    """Intervals of several metrics on the same resamples; the other arguments are `interval`'s.

    Without `metrics` these are all that have an interval: one that is undefined, on all items or in
    more than half of the resamples, is left out.

    Raises:
        ValueError: As `interval`, for metrics that were named.
    """
    names = evidence.metric_names if metrics is None else tuple(metrics)
    draws = Draws(evidence, resamples, seed, unit, level)
    scores, drawn = evidence.metrics(None, names), evidence.metrics(draws.weights_RN, names)
    found = {}
    for name in names:
        if metrics is not None or draws.usable(scores[name], drawn[name]):
            kept_R = draws.defined(name, scores[name], drawn[name])
            low, high = draws.bounds(kept_R, scores[name])
            found[name] = Interval(low, high, sample_sd(kept_R), **draws.about(name, kept_R))
    return found


# ---- two scores ------------------------------------------------------------------------------


def paired_difference(
    evidence_a: ItemEvidence,
    evidence_b: ItemEvidence,
    metric: str,
    resamples: int = 1000,
    seed: int = 0,
    unit: str | None = None,
    level: float = 0.95,
) -> PairedDifference:
    """How much better `evidence_a` is than `evidence_b` on the same items, and how surely.

    Both are scored on the same resamples, so that what is hard for both cancels. The p-value
    belongs to the interval: it is 1 minus the level at which the interval begins to hold 0.

    `evidence_b` is of the same kind and the same items as `evidence_a`, in any order; the order of
    `evidence_a` decides about the draws. The other arguments are those of `interval`.

    Raises:
        ValueError: As `interval`, and if kinds, items or their units differ.
    """
    draws = Draws(evidence_a, resamples, seed, unit, level)
    drawn_R = drawn_scores(evidence_a, draws, metric, evidence_a)
    drawn_R = drawn_R - drawn_scores(evidence_b, draws, metric, evidence_a)
    score_a, score_b = score_of(evidence_a, metric), score_of(evidence_b, metric)
    difference = score_a - score_b
    kept_R = draws.defined(metric, difference, drawn_R)
    low, high = draws.bounds(kept_R, difference)
    # Differences that are equal but for rounding count as equal.
    rounding = 2 * ROUNDING * max(abs(score_a), abs(score_b))
    p_value = draws.p_value(kept_R, difference, rounding)
    about = draws.about(metric, kept_R)
    return PairedDifference(difference, low, high, sample_sd(kept_R), p_value, **about)


# ---- seeds -----------------------------------------------------------------------------------


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
    sd = sample_sd(values_S)
    return SeedSpread(
        mean=float(values_S.mean()),
        sd=sd,
        standard_error=sd / math.sqrt(len(values_S)),
        low=float(values_S.min()),
        high=float(values_S.max()),
        n=len(values_S),
    )


def combined_interval(
    evidences: Sequence[ItemEvidence],
    metric: str,
    resamples: int = 1000,
    seed: int = 0,
    unit: str | None = None,
    level: float = 0.95,
) -> CombinedInterval:
    """Interval of the mean score of several seeds, with both sources of chance told apart.

    Items: every resample scores all seeds on the same draw and averages. Seeds: the mean of S
    seeds is off by about sd / sqrt(S). Each resample adds a draw of that, from Student's t with
    S - 1 degrees of freedom, since three seeds say little about their own spread. What a seed
    does to single items is in both parts; the interval is a little too wide rather than too
    narrow. With one seed there is no second part, and `seed_standard_error` is nan.

    `evidences` holds one for each seed, on the same items; the other arguments are `interval`'s.

    Raises:
        ValueError: As `paired_difference`, and if there is no evidence.
    """
    if not evidences:
        raise ValueError("no evidence given; pass one for each seed")
    first = evidences[0]
    draws = Draws(first, resamples, seed, unit, level)
    drawn_R = np.mean([drawn_scores(one, draws, metric, first) for one in evidences], axis=0)
    scores = [score_of(one, metric) for one in evidences]
    kept_R = draws.defined(metric, float(np.mean(scores)), drawn_R)
    spread = seed_component(scores)
    item_error = sample_sd(kept_R)
    noise_R = _seed_noise(spread, len(kept_R), seed)
    low, high = draws.bounds(kept_R + noise_R, spread.mean)
    seed_error = 0.0 if spread.n == 1 else spread.standard_error
    return CombinedInterval(
        mean=spread.mean,
        low=low,
        high=high,
        item_standard_error=item_error,
        seed_standard_error=spread.standard_error,
        standard_error=math.hypot(item_error, seed_error),
        num_seeds=spread.n,
        **draws.about(metric, kept_R),
    )


def _seed_noise(spread: SeedSpread, resamples: int, seed: int, stream: int = 0) -> np.ndarray:
    """(R,) draws of how far the mean over seeds may be off; other streams are independent."""
    if spread.n == 1:
        return np.zeros(resamples)
    # A stream of its own, so that it does not follow the draws of items.
    rng = np.random.default_rng([seed, 1 + stream])
    return spread.standard_error * rng.standard_t(spread.n - 1, size=resamples)


@dataclass(frozen=True, eq=False)
class ResampledScores:
    """Scores of B encoders on the same resamples.

    Attributes:
        scores_B: Mean over seeds, on all items.
        drawn_BR: The same on each resample; those that leave any score undefined are left out.
        seed_noise_BR: How far each mean may be off because of its seeds; 0 for one seed.
        seed_error_B: Standard error of the mean over seeds; 0 for one seed.
        few_units: As in `Interval`.
    """

    scores_B: np.ndarray
    drawn_BR: np.ndarray
    seed_noise_BR: np.ndarray
    seed_error_B: np.ndarray
    few_units: bool


def resampled_scores(
    evidences: Mapping[str, Sequence[ItemEvidence]],
    metric: str,
    resamples: int = 1000,
    seed: int = 0,
    unit: str | None = None,
) -> ResampledScores:
    """Scores of several encoders on shared resamples, for comparing all of them.

    `evidences` maps a name to one evidence for each seed, all of the same items; the other
    arguments are those of `interval`.

    Raises:
        ValueError: As `combined_interval`.
    """
    first = next(iter(evidences.values()))[0]
    draws = Draws(first, resamples, seed, unit, level=0.95)
    stream = {name: n for n, name in enumerate(sorted(evidences))}  # whatever the order given
    spreads, drawn, noise = [], [], []
    for name, seeds in evidences.items():
        drawn.append(np.mean([drawn_scores(one, draws, metric, first) for one in seeds], axis=0))
        spreads.append(seed_component([_defined_score(one, metric, name) for one in seeds]))
        noise.append(_seed_noise(spreads[-1], resamples, seed, stream[name]))
    drawn_BR = np.stack(drawn)
    undefined_R = np.isnan(drawn_BR).any(axis=0)
    if 2 * undefined_R.sum() > resamples:
        raise ValueError(
            f"metric '{metric}' is undefined in {undefined_R.sum()} of {resamples} resamples; too "
            "few items have it, so rank by another metric"
        )
    return ResampledScores(
        scores_B=np.array([spread.mean for spread in spreads]),
        drawn_BR=drawn_BR[:, ~undefined_R],
        seed_noise_BR=np.stack(noise)[:, ~undefined_R],
        seed_error_B=np.array([0.0 if s.n == 1 else s.standard_error for s in spreads]),
        few_units=draws.num_units < FEW_UNITS,
    )


def _defined_score(evidence: ItemEvidence, metric: str, name: str) -> float:
    score = score_of(evidence, metric)
    if math.isnan(score):
        raise ValueError(f"metric '{metric}' of '{name}' is undefined; rank by another metric")
    return score
