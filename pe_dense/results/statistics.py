"""How sure a score is: bootstrap intervals, paired comparisons, and what seeds add.

All of it draws items again: a resample takes as many units (images, videos, sequences) as there
are, with replacement, and the score is computed from the evidence with the multiplicities as
weights. Whole units are drawn, since items of one video are not independent. The same seed gives
the same resamples, so that two scores of the same items are compared on the same draws.

Why percentiles of the resampled scores, moved so that their mean is the score: what is asked is
how far the score of another test set of this size may lie from its mean over such test sets, and
AP is biased at a given size, upwards, because its precision is a running maximum. A resample
repeats images, so that it shows the bias twice, and plain percentiles lie too high. For a mean
there is no bias and no difference. BCa would also correct the skew, but needs one more evaluation
per item (5,000 for COCO), and its correction is itself noisy for few units. The bounds are then
stretched as a normal is to a Student's t of the number of units; see `bootstrap`. What may stay too
narrow is marked; see `interval_marks`. How often the truth is held is measured by
benchmarks/experiments/interval_coverage.py; docs/intervals.md explains all of it.

What is covered is the mean over test sets of this size, drawn as this one was. For a mean over
items that is the score on endless data; for AP and mIoU it is not, since both depend on the size
of the set.

Shape legend: R resamples, B scores compared.

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
from pe_dense.results.item_evidence import ItemEvidence
from pe_dense.results.resampled import Compares, ResampledScores, resampled_scores

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
        unit, num_units, num_items, resamples, undefined, few_units, thin_classes: As in `Interval`.
        seed_standard_error: The part of the standard error that comes from seeds; 0 if left out.
        seed_freedom: Degrees of freedom of that part; 0 if left out.
        compares: 'checkpoints' if the chance of training is left out, 'encoders' if it is in.
        stretch: As in `Interval`; nan where seeds are part of it.
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
    thin_classes: int | None
    seed_standard_error: float
    seed_freedom: int
    compares: Compares
    stretch: float


@dataclass(frozen=True)
class CombinedInterval:
    """An interval of the mean score over seeds, for other items and other seeds.

    Attributes:
        mean: Mean score over seeds.
        low, high: Bounds that cover both sources, as far as both are known.
        item_standard_error: From the items: what another test set would change.
        seed_standard_error: From the seeds, of their mean, beyond what the items explain; nan where
            no encoder has two seeds, and then left out.
        standard_error: Of both together.
        seed_freedom: Degrees of freedom of the spread between seeds; 0 where it is left out.
        num_seeds: Seeds of this encoder.
        compares: 'encoders', or 'checkpoints' where the seeds are left out.
        unit, num_units, num_items, resamples, undefined, few_units, thin_classes: As in `Interval`.
    """

    mean: float
    low: float
    high: float
    item_standard_error: float
    seed_standard_error: float
    standard_error: float
    seed_freedom: int
    num_seeds: int
    compares: Compares
    unit: str
    num_units: int
    num_items: int
    resamples: int
    undefined: int
    few_units: bool
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
    return PairedDifference(
        difference,
        low,
        high,
        sample_sd(kept_R),
        p_value,
        seed_standard_error=0.0,
        seed_freedom=0,
        compares="checkpoints",
        **draws.about(metric, kept_R),
    )


def encoder_difference(
    evidences: Mapping[str, Sequence[ItemEvidence]],
    first: str,
    second: str,
    metric: str,
    resamples: int = 1000,
    seed: int = 0,
    unit: str | None = None,
    level: float = 0.95,
) -> PairedDifference:
    """How much better the mean of one encoder's seeds is than that of another's, and how surely.

    The spread between seeds is pooled over all encoders given, as in `combined_intervals`, so that
    it is known for an encoder of one seed too; where none has two seeds it is left out, and the
    difference is one of checkpoints.

    Args:
        evidences: Encoder -> one evidence for each seed; all encoders of one protocol.
        first: One of them.
        second: Another; first minus second is told.
        metric: One of their metrics.
        resamples: Number of draws.
        seed: Seed of the draws.
        unit: What to draw; default: that of the evidence.
        level: As in `interval`.

    Raises:
        ValueError: As `combined_intervals`, and if an encoder is not there.
    """
    for name in (first, second):
        if name not in evidences:
            raise ValueError(f"no evidence of '{name}'; it is there of {', '.join(evidences)}")
    found = resampled_scores(evidences, metric, resamples, seed, unit, level)
    a, b = found.names.index(first), found.names.index(second)
    difference = float(found.scores_B[a] - found.scores_B[b])
    drawn_R = found.drawn_BR[a] - found.drawn_BR[b]
    from_seeds = found.seed_variance_of(a) + found.seed_variance_of(b) if a != b else 0.0
    freedom = found.seeds.degrees_of_freedom
    rounding = 2 * ROUNDING * float(np.abs(found.scores_B[[a, b]]).max())
    about = found.draws.about(metric, drawn_R)
    if from_seeds:
        about["stretch"] = math.nan
    low, high = found.draws.bounds(drawn_R, difference, from_seeds, freedom)
    return PairedDifference(
        difference,
        low,
        high,
        math.hypot(sample_sd(drawn_R), math.sqrt(from_seeds)),
        found.draws.p_value(drawn_R, difference, rounding, from_seeds, freedom),
        seed_standard_error=math.sqrt(from_seeds),
        seed_freedom=freedom,
        compares=found.compares,
        **about,
    )


# ---- seeds -----------------------------------------------------------------------------------


def combined_interval(
    evidences: Sequence[ItemEvidence],
    metric: str,
    resamples: int = 1000,
    seed: int = 0,
    unit: str | None = None,
    level: float = 0.95,
) -> CombinedInterval:
    """`combined_intervals` of one encoder that stands alone; `evidences` holds one for each seed.

    Raises:
        ValueError: As `combined_intervals`.
    """
    return combined_intervals({"": evidences}, metric, resamples, seed, unit, level)[""]


def combined_intervals(
    evidences: Mapping[str, Sequence[ItemEvidence]],
    metric: str,
    resamples: int = 1000,
    seed: int = 0,
    unit: str | None = None,
    level: float = 0.95,
) -> dict[str, CombinedInterval]:
    """Interval of the mean over seeds of each encoder, with both sources of chance told apart.

    Items: every resample scores all seeds on the same draw and averages. Seeds: the mean of S
    seeds varies by 1 / S of the variance of one, which is pooled over all the encoders given; see
    `seeds`. The distance of each bound from the mean is the root of the sum of squares of both. An
    encoder with one seed has the variance of the others; where no encoder has two, seeds are left
    out and `compares` says so. Two seeds of a single encoder (one degree of freedom) give an
    interval that is wide, and holds the truth more often than it says.

    Args:
        evidences: Encoder -> one evidence for each seed; all encoders of one protocol, on the same
            items.
        metric: One of their metrics.
        resamples: Number of draws.
        seed: Seed of the draws.
        unit: What to draw; default: that of the evidence.
        level: As in `interval`.

    Raises:
        ValueError: As `paired_difference`, and if there is no evidence.
    """
    return combined_of(resampled_scores(evidences, metric, resamples, seed, unit, level))


def combined_of(found: ResampledScores) -> dict[str, CombinedInterval]:
    """`combined_intervals` of scores that were resampled already."""
    combined = {}
    for b, name in enumerate(found.names):
        mean, drawn_R = float(found.scores_B[b]), found.drawn_BR[b]
        item_error, from_seeds = sample_sd(drawn_R), found.seed_variance_of(b)
        freedom = found.seeds.degrees_of_freedom
        low, high = found.draws.bounds(drawn_R, mean, from_seeds, freedom)
        about = found.draws.about(found.metric, drawn_R)
        del about["stretch"]  # one factor says nothing where two sources add up
        combined[name] = CombinedInterval(
            mean=mean,
            low=low,
            high=high,
            item_standard_error=item_error,
            seed_standard_error=math.sqrt(from_seeds) if found.seeds.is_known else math.nan,
            standard_error=math.hypot(item_error, math.sqrt(from_seeds)),
            seed_freedom=freedom,
            num_seeds=int(found.num_seeds_B[b]),
            compares=found.compares,
            **about,
        )
    return combined
