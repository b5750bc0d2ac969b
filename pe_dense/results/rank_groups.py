"""Groups of encoders that the test set cannot tell apart.

Shape legend: B encoders, R resamples.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pe_dense.results.bootstrap import ROUNDING
from pe_dense.results.item_evidence import ItemEvidence
from pe_dense.results.resampled import Compares, ResampledScores, resampled_scores
from pe_dense.results.student_t import normal_equivalent, normal_tail, t_quantile

_LARGEST_Z = 30.0  # beyond, tails are too small for floats


@dataclass(frozen=True)
class Rank:
    """Where one encoder stands.

    Attributes:
        name: Name of the encoder.
        score: Its score, the mean over its seeds.
        group: 1 for the best and all that are not significantly worse, then 2, 3 ...
        p_adjusted: Probability of so large a gap to the best of all by chance, anywhere among the
            encoders; 1 for the best itself.
        num_seeds: Seeds behind the score.
        few_units: True if there are fewer than 30 units: then groups may be too fine.
        compares: 'encoders', or 'checkpoints' where no encoder of the ranking has two seeds: then
            the chance of training is not in the comparison, and groups are too fine for encoders.
    """

    name: str
    score: float
    group: int
    p_adjusted: float
    num_seeds: int
    few_units: bool
    compares: Compares = "encoders"


def rank_groups(
    evidences: Mapping[str, ItemEvidence | Sequence[ItemEvidence]],
    metric: str,
    higher_is_better: bool,
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
    unit: str | None = None,
) -> list[Rank]:
    """Encoders from best to worst, in groups that cannot be told apart on these items.

    Group 1 is the best and all that are not significantly worse; then the same among the rest
    for group 2, and so on. All pairs are compared on the same resamples. A gap is divided by its
    standard error, and is significant if few resamples show a gap as large between any pair, once
    the measured gaps are taken out (max-T, in the manner of Westfall and Young). All pairs count,
    not only those with the best, because who is the best was found on the same data; so the
    chance that group 1 leaves out any encoder that is truly as good as the best is at most
    1 - level. A later group starts over with fewer encoders and has that chance of its own.

    What differs between seeds is a second part of every standard error, pooled over all encoders
    (see `seeds`); an encoder with one seed has the spread of the others. Both parts are estimates,
    of as many degrees of freedom as there are units and seeds, and the gap has to be larger for it
    as in `statistics.encoder_difference`: resamples show a normal, so that the gap is moved to the
    normal value of the same tail before it is compared.
    How often equal encoders are told apart: benchmarks/experiments/interval_coverage.md.

    A group need not be a run of the ranking: a gap may be significant between two encoders that
    fail on the same items, while a larger gap to a third is not.

    Args:
        evidences: Name -> evidence, or one for each seed; all of the same items.
        metric: One of their metrics.
        higher_is_better: Its direction.
        level: 1 minus the chance of a wrong exclusion.
        resamples: Number of draws.
        seed: Seed of the draws.
        unit: What to draw; default: that of the evidence.

    Raises:
        ValueError: As `statistics.paired_difference`, and if no encoder is given.

    Source:
        Westfall and Young, Resampling-Based Multiple Testing (1993), chapter 2.
    """
    seeds_of = {
        name: [given] if isinstance(given, ItemEvidence) else list(given)
        for name, given in evidences.items()
    }
    if not seeds_of or not all(seeds_of.values()):
        raise ValueError("nothing to rank; pass one evidence or more for each encoder")
    found = resampled_scores(seeds_of, metric, resamples, seed, unit)
    return ranks_of(found, higher_is_better, level, seed)


def ranks_of(
    found: ResampledScores, higher_is_better: bool, level: float = 0.95, seed: int = 0
) -> list[Rank]:
    """`rank_groups` of scores that were resampled already."""
    if not 0 < level < 1:
        raise ValueError(f"level is {level}; use a share between 0 and 1, such as 0.95")
    names = found.names
    score_B = found.scores_B if higher_is_better else -found.scores_B
    order = sorted(range(len(names)), key=lambda b: (-score_B[b], names[b]))
    seed_noise_BR = _seed_noise(found, seed)
    p_adjusted = dict(zip(order, _p_values(found, seed_noise_BR, order), strict=True))
    group_of: dict[int, int] = {}
    rest, group = order, 0
    while rest:
        group += 1
        p_values = zip(rest, _p_values(found, seed_noise_BR, rest), strict=True)
        kept = [b for b, p in p_values if p > 1 - level]
        group_of.update(dict.fromkeys(kept, group))
        rest = [b for b in rest if b not in group_of]
    return [
        Rank(
            name=names[b],
            score=float(found.scores_B[b]),
            group=group_of[b],
            p_adjusted=p_adjusted[b],
            num_seeds=int(found.num_seeds_B[b]),
            few_units=found.draws.has_few_units,
            compares=found.compares,
        )
        for b in sorted(order, key=lambda b: (group_of[b], -score_B[b], names[b]))
    ]


def _seed_noise(found: ResampledScores, seed: int) -> np.ndarray:
    """(B, R) draws of how far each mean may be off because of its seeds; 0 where unknown."""
    place = {name: n for n, name in enumerate(sorted(found.names))}  # whatever the order given
    resamples = found.drawn_BR.shape[1]
    rows = []
    for b, name in enumerate(found.names):
        # A stream of its own, so that it follows neither the draws of items nor other encoders.
        rng = np.random.default_rng([seed, 1 + place[name]])
        rows.append(np.sqrt(found.seed_variance_of(b)) * rng.standard_normal(resamples))
    return np.stack(rows)


def _p_values(found: ResampledScores, seed_noise_BR: np.ndarray, chosen: list[int]) -> list[float]:
    """Adjusted p-value of the gap of each chosen encoder to the first; its own is 1."""
    score_B, drawn_BR = found.scores_B[chosen], found.drawn_BR[chosen]
    num_units, seed_freedom = found.draws.num_units, found.seeds.degrees_of_freedom
    lost = num_units / (num_units - 1)
    noise_BR = np.sqrt(lost) * (drawn_BR - drawn_BR.mean(axis=1, keepdims=True))
    seed_BR = seed_noise_BR[chosen]
    from_seeds_B = np.array([found.seed_variance_of(b) for b in chosen])
    rounding = 2 * ROUNDING * np.abs(score_B).max()
    largest_R = np.zeros(drawn_BR.shape[1])
    error_to_first_B = np.zeros(len(chosen))
    for b in range(len(chosen) - 1):
        later = slice(b + 1, None)
        gaps_BR = noise_BR[b] - noise_BR[later]
        error_B = np.sqrt(gaps_BR.var(axis=1) + from_seeds_B[b] + from_seeds_B[later])
        if b == 0:
            error_to_first_B[1:] = error_B
        varies_B = error_B > rounding
        gaps_BR += seed_BR[b] - seed_BR[later]
        z_BR = np.abs(gaps_BR[varies_B]) / error_B[varies_B, None]
        largest_R = np.maximum(largest_R, z_BR.max(axis=0, initial=0.0))
    p_values = [1.0]
    for b in range(1, len(chosen)):
        gap, error = abs(score_B[0] - score_B[b]), error_to_first_B[b]
        if gap <= rounding:
            p_values.append(1.0)
            continue
        z = np.inf  # a gap that is the same in every resample has no chance in it at all
        if error > rounding:
            from_seeds = from_seeds_B[0] + from_seeds_B[b]
            from_items = max(0.0, error**2 - from_seeds)
            z = _normal_value(gap, from_items, num_units - 1, from_seeds, seed_freedom)
        p_values.append((1 + int((largest_R >= z).sum())) / (1 + len(largest_R)))
    return p_values


def _normal_value(
    gap: float, item_variance: float, item_freedom: float, seed_variance: float, seed_freedom: float
) -> float:
    """The normal value that is as improbable as this gap, whose two variances are estimates.

    It is where an interval about the gap begins to hold 0, as in `Draws.bounds`.
    """
    if not seed_variance:
        return normal_equivalent(gap / math.sqrt(item_variance), item_freedom)
    low, high = 0.0, min(gap / math.sqrt(item_variance + seed_variance), _LARGEST_Z)
    while high - low > 1e-5:
        z = (low + high) / 2
        tail = normal_tail(z)
        reach = math.hypot(
            math.sqrt(item_variance) * t_quantile(tail, item_freedom),
            math.sqrt(seed_variance) * t_quantile(tail, seed_freedom),
        )
        low, high = (z, high) if reach < gap else (low, z)
    return low
