"""What a predictor that never sees the picture scores: the line that every row has to be above.

A protocol whose rows do not clear its blind line measures position, or the frequency of classes,
and not what an encoder saw.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class BlindScore:
    """One predictor without the picture, on the scored data.

    Attributes:
        name: What it predicts, such as 'mean map of the training labels'.
        score: Its main metric, in the unit of the protocol's scores.
    """

    name: str
    score: float


def best_blind(scores: Mapping[str, float], higher_is_better: bool) -> BlindScore | None:
    """The best of several predictors by name; None without any.

    Example:
        >>> best_blind({"constant": 2.9, "mean map": 0.8}, higher_is_better=False)
        BlindScore(name='mean map', score=0.8)
    """
    if not scores:
        return None
    sign = 1 if higher_is_better else -1
    name = max(sorted(scores), key=lambda key: sign * scores[key])
    return BlindScore(name, scores[name])


def strictest(lines: Iterable[Mapping[str, float]], higher_is_better: bool) -> dict[str, float]:
    """The best that any of several records says of each predictor.

    What records say of their own line is not in their evidence: none is let below the others'.

    Example:
        >>> strictest([{"a map": 0.01}, {"a map": 0.2, "constant": 0.1}], higher_is_better=True)
        {'a map': 0.2, 'constant': 0.1}
    """
    found: dict[str, float] = {}
    for line in lines:
        for name, score in line.items():
            better = max if higher_is_better else min
            found[name] = better(score, found.get(name, score))
    return found


def is_above(
    low: float, high: float, blind: BlindScore | None, higher_is_better: bool
) -> bool | None:
    """Whether an interval lies wholly on the better side of the blind line; None without a line.

    Example:
        >>> is_above(0.19, 0.22, BlindScore("mean map", 0.2), higher_is_better=True)
        False
        >>> is_above(0.7, 0.8, BlindScore("mean map", 0.81), higher_is_better=False)
        True
    """
    if blind is None:
        return None
    return low > blind.score if higher_is_better else high < blind.score
