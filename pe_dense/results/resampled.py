"""Scores of several encoders and their seeds on the same resamples, for comparing all of them.

Shape legend: B encoders, S seeds of one encoder, R resamples.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from pe_dense.results.bootstrap import Draws, drawn_scores, score_of
from pe_dense.results.item_evidence import ItemEvidence
from pe_dense.results.seeds import (
    SeedVariance,
    item_part,
    seed_component,
    seed_variance,
)

Compares = Literal["encoders", "checkpoints"]


@dataclass(frozen=True, eq=False)
class ResampledScores:
    """Scores of B encoders on the same resamples.

    Attributes:
        names: Of the encoders.
        metric: What was scored.
        scores_B: Mean over seeds, on all items.
        drawn_BR: The same on each resample; those that leave any score undefined are left out.
        num_seeds_B: Seeds of each encoder.
        seeds: Variance of one seed, pooled over the encoders.
        draws: What was drawn.
    """

    names: tuple[str, ...]
    metric: str
    scores_B: np.ndarray
    drawn_BR: np.ndarray
    num_seeds_B: np.ndarray
    seeds: SeedVariance
    draws: Draws

    def seed_variance_of(self, b: int) -> float:
        """Variance of an encoder's mean because of its seeds; 0 where it is not known."""
        return self.seeds.of_mean(int(self.num_seeds_B[b]))

    @property
    def compares(self) -> Compares:
        """Whether differences are between encoders, or only between single checkpoints."""
        return "encoders" if self.seeds.is_known else "checkpoints"


def resampled_scores(
    evidences: Mapping[str, Sequence[ItemEvidence]],
    metric: str,
    resamples: int = 1000,
    seed: int = 0,
    unit: str | None = None,
    level: float = 0.95,
) -> ResampledScores:
    """Scores of several encoders on shared resamples.

    `evidences` maps a name to one evidence for each seed, all of the same items; the other
    arguments are those of `statistics.interval`.

    Raises:
        ValueError: As `statistics.paired_difference`, and if no evidence is given, or the metric is
            undefined for an encoder or in more than half of the resamples.
    """
    if not evidences or not all(evidences.values()):
        raise ValueError("no evidence given; pass one for each seed of each encoder")
    first = next(iter(evidences.values()))[0]
    draws = Draws(first, resamples, seed, unit, level)
    drawn, scores = [], []
    for name, seeds in evidences.items():
        drawn.append(np.stack([drawn_scores(one, draws, metric, first) for one in seeds]))
        scores.append([_defined_score(one, metric, name) for one in seeds])
    undefined_R = np.any([np.isnan(drawn_SR).any(axis=0) for drawn_SR in drawn], axis=0)
    if 2 * undefined_R.sum() > resamples:
        raise ValueError(
            f"metric '{metric}' is undefined in {undefined_R.sum()} of {resamples} resamples; too "
            "few items have it, so use another metric"
        )
    drawn = [drawn_SR[:, ~undefined_R] for drawn_SR in drawn]
    from_items = [item_part(drawn_SR, draws.num_units) for drawn_SR in drawn]
    return ResampledScores(
        names=tuple(evidences),
        metric=metric,
        scores_B=np.array([seed_component(scores_S).mean for scores_S in scores]),
        drawn_BR=np.stack([drawn_SR.mean(axis=0) for drawn_SR in drawn]),
        num_seeds_B=np.array([len(scores_S) for scores_S in scores]),
        seeds=seed_variance(scores, from_items),
        draws=draws,
    )


def _defined_score(evidence: ItemEvidence, metric: str, name: str) -> float:
    score = score_of(evidence, metric)
    if math.isnan(score):
        raise ValueError(f"metric '{metric}' of '{name}' is undefined; use another metric")
    return score
