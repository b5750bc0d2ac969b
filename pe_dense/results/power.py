"""What a test set can show: the smallest difference that it would find in four of five trials.

A table whose rows differ by less than this says nothing by their order, however many digits it has.
It follows from the errors of the paired differences that the records have, so that it is known
before anything is trained: a test set that cannot show what one hopes for is the wrong one.

Shape legend: B encoders.

Source: Miller, Adding Error Bars to Evals (arXiv:2411.00640), section 5, with Student's t for the
normal, since units and seeds are few.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from pe_dense.results.item_evidence import ItemEvidence
from pe_dense.results.resampled import Compares, ResampledScores, resampled_scores
from pe_dense.results.student_t import t_quantile


@dataclass(frozen=True)
class Detectable:
    """The smallest difference of two rows that a protocol's test set can show.

    Attributes:
        difference: In the unit of the metric: found with probability `power` at the 5 % level. Of
            one pair; a group compares all pairs at once and needs somewhat more.
        pairs: Pairs of encoders whose errors it comes from (their median); 0 where there is one
            encoder only: then it is that of another with the same error and nothing in common,
            which is too pessimistic, since encoders fail on the same items.
        unit, num_units: What was resampled.
        compares: 'encoders', or 'checkpoints' where the chance of training is not known.
        power: Probability of finding it.
    """

    difference: float
    pairs: int
    unit: str
    num_units: int
    compares: Compares
    power: float

    @property
    def is_known(self) -> bool:
        """Whether draws change the scores at all, more than rounding does.

        Where every item has the same, as in a model that finds nothing, they tell nothing of rows
        that differ.
        """
        return self.difference > 1e-9


def smallest_detectable_difference(
    item_error: float,
    num_units: int,
    seed_error: float = 0.0,
    seed_freedom: int = 0,
    power: float = 0.8,
    level: float = 0.95,
) -> float:
    """Difference that a two-sided test finds with probability `power`.

    The interval of a difference has to leave 0 out; it reaches (t of the level) errors, and the
    measured difference falls short of the true one by (t of the power) errors in the rest of the
    trials. Without seeds that is (t + t) times the error.

    Args:
        item_error: Standard error of the paired difference over items, 0 or more.
        num_units: Units that were resampled, 2 or more.
        seed_error: Standard error of the difference because of seeds.
        seed_freedom: Degrees of freedom of that, 1 or more if there is an error.
        power: Above 0.5 and below 1.
        level: 1 minus the level of the test.

    Returns:
        The difference, in the unit of the errors.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> round(smallest_detectable_difference(0.01, 5000), 4)  # (1.96 + 0.84) errors
        0.028
    """
    if not (item_error >= 0 and seed_error >= 0):
        raise ValueError(f"errors are {item_error} and {seed_error}; give 0 or more")
    if num_units < 2:
        raise ValueError(f"there are {num_units} units; a difference needs two or more")
    if seed_error and seed_freedom < 1:
        raise ValueError("an error of seeds needs its degrees of freedom; give 1 or more")
    if not 0.5 < power < 1 or not 0 < level < 1:
        raise ValueError(f"power is {power}, level {level}; give shares, power above one half")

    def reach(tail: float) -> float:
        of_items = item_error * t_quantile(tail, num_units - 1)
        of_seeds = seed_error * t_quantile(tail, seed_freedom) if seed_error else 0.0
        return math.hypot(of_items, of_seeds)

    return reach((1 - level) / 2) + reach(1 - power)


def detectable_difference(
    evidences: Mapping[str, Sequence[ItemEvidence]],
    metric: str,
    resamples: int = 1000,
    seed: int = 0,
    power: float = 0.8,
) -> Detectable:
    """The smallest difference that these test items and so many seeds can show.

    Args:
        evidences: Encoder -> one evidence for each seed; all encoders of one protocol.
        metric: One of their metrics.
        resamples: Number of draws.
        seed: Seed of the draws.
        power: As in `smallest_detectable_difference`.

    Raises:
        ValueError: As `statistics.combined_intervals`.
    """
    return detectable_of(resampled_scores(evidences, metric, resamples, seed), power)


def detectable_of(found: ResampledScores, power: float = 0.8) -> Detectable:
    """`detectable_difference` of scores that were resampled already."""
    units = found.draws.num_units
    lost = units / (units - 1)
    rows = range(len(found.names))
    pairs = list(combinations(rows, 2))
    differences = []
    for a, b in pairs or [(0, 0)]:
        if pairs:
            variance = float((found.drawn_BR[a] - found.drawn_BR[b]).var(ddof=1))
        else:
            variance = 2 * float(found.drawn_BR[0].var(ddof=1))
        from_seeds = found.seed_variance_of(a) + found.seed_variance_of(b)
        differences.append(
            smallest_detectable_difference(
                math.sqrt(lost * variance),
                units,
                math.sqrt(from_seeds),
                found.seeds.degrees_of_freedom,
                power,
            )
        )
    return Detectable(
        difference=float(np.median(differences)),
        pairs=len(pairs),
        unit=found.draws.unit,
        num_units=units,
        compares=found.compares,
        power=power,
    )
