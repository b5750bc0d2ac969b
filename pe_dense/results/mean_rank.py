"""One list over several tasks: the mean rank of each encoder, with a bootstrap interval.

Scores of different tasks have no common unit, their ranks have. Each protocol ranks its encoders;
an encoder's mean rank is the mean over protocols, each counting once. The interval says how far it
could lie on other test sets (and with other seeds, where their spread is known): the items of every
protocol are drawn again, each on its own, and everything is ranked again. The protocols themselves
are not drawn: what is asked is the mean over these.

A rank depends on who else is ranked, so that means over different opponents cannot be compared.
Only encoders that have all the protocols are in the list, the others are named with what they
lack; `largest_block` chooses the protocols for which most is there.

Shape legend: B encoders, P protocols, R resamples.

Source: ranks in place of scores over tasks as in Demsar, Journal of Machine Learning Research 7
(2006), 1-30; intervals of ranks from resampled scores: Goldstein and Spiegelhalter, Journal of the
Royal Statistical Society A 159 (1996), 385-443.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pe_dense.results.bootstrap import ROUNDING, stretch
from pe_dense.results.item_evidence import ItemEvidence
from pe_dense.results.resampled import Compares, ResampledScores, resampled_scores

_LARGEST_SEARCH = 20_000  # sets of protocols that are looked at


@dataclass(frozen=True, eq=False)
class Task:
    """One protocol to rank by.

    Attributes:
        evidences: Encoder -> one evidence for each seed, all of the same items.
        metric: Ranks them.
        higher_is_better: Its direction.
    """

    evidences: Mapping[str, Sequence[ItemEvidence]]
    metric: str
    higher_is_better: bool


@dataclass(frozen=True, eq=False)
class RankedTask:
    """One protocol whose scores were resampled: what `Task` becomes.

    Attributes:
        found: Scores of its encoders.
        higher_is_better: Direction of their metric.
    """

    found: ResampledScores
    higher_is_better: bool


@dataclass(frozen=True)
class MeanRank:
    """Where one encoder stands over all tasks.

    Attributes:
        name: Name of the encoder.
        mean_rank: Mean over protocols, 1 for one that is first in all; equal scores share the mean
            of their places.
        low, high: 95 % interval, within 1 to the number of encoders.
        ranks: Protocol -> its rank there.
        few_units: True if some protocol has fewer than 30 units.
        compares: 'encoders', or 'checkpoints' where some protocol does not know the spread of
            seeds.
    """

    name: str
    mean_rank: float
    low: float
    high: float
    ranks: dict[str, float]
    few_units: bool
    compares: Compares


@dataclass(frozen=True)
class MeanRanks:
    """The list.

    Attributes:
        protocols: What was averaged over.
        rows: From best to worst.
        left_out: Encoder that lacks a protocol -> the protocols that it lacks.
    """

    protocols: tuple[str, ...]
    rows: tuple[MeanRank, ...]
    left_out: dict[str, tuple[str, ...]]


def mean_ranks(
    tasks: Mapping[str, Task], resamples: int = 1000, seed: int = 0, level: float = 0.95
) -> MeanRanks:
    """Mean rank of every encoder that has all of the tasks.

    Bounds are percentiles of the mean ranks in the resamples. Before ranking, scores are moved
    apart about their mean as bounds are stretched for few units (`bootstrap.stretch`), and get a
    draw of what seeds vary. Where encoders are truly equal, their intervals are wide and hold the
    middle of their places.

    Args:
        tasks: Protocol -> its evidence.
        resamples: Number of draws.
        seed: Seed of the draws.
        level: Share of resamples inside, between 0 and 1.

    Raises:
        ValueError: If there is no task, fewer than two encoders have all of them, or as
            `statistics.combined_intervals`.
    """
    found = {
        protocol: RankedTask(
            resampled_scores(task.evidences, task.metric, resamples, seed, level=level),
            task.higher_is_better,
        )
        for protocol, task in tasks.items()
    }
    return mean_ranks_of(found, seed, level)


def mean_ranks_of(tasks: Mapping[str, RankedTask], seed: int = 0, level: float = 0.95) -> MeanRanks:
    """`mean_ranks` of scores that were resampled already, all with as many draws.

    Raises:
        ValueError: If there is no task, or fewer than two encoders have all of them.
    """
    if not tasks:
        raise ValueError("no protocol to rank by; pass one or more")
    everybody = sorted({name for task in tasks.values() for name in task.found.names})
    lacking = {
        name: tuple(protocol for protocol in tasks if name not in tasks[protocol].found.names)
        for name in everybody
    }
    names = [name for name in everybody if not lacking[name]]
    if len(names) < 2:
        raise ValueError(
            f"{len(names)} of {len(everybody)} encoders have all of {', '.join(tasks)}; name "
            "protocols that two or more have"
        )
    measured, drawn, few, known = {}, [], False, True
    for place, (protocol, task) in enumerate(tasks.items()):
        found, sign = task.found, -1.0 if task.higher_is_better else 1.0
        chosen_B = np.array([found.names.index(name) for name in names])
        rng = np.random.default_rng([seed, 7, place])
        measured[protocol] = places(sign * found.scores_B[chosen_B, None])[:, 0]
        drawn.append(places(sign * _other_scores(found, chosen_B, rng, level)))
        few |= found.draws.has_few_units
        known &= found.compares == "encoders"
    mean_B = np.mean(list(measured.values()), axis=0)
    tail = (1 - level) / 2
    low_B, high_B = np.quantile(np.mean(drawn, axis=0), [tail, 1 - tail], axis=1)
    rows = [
        MeanRank(
            name=name,
            mean_rank=float(mean_B[b]),
            low=float(min(low_B[b], mean_B[b])),
            high=float(max(high_B[b], mean_B[b])),
            ranks={protocol: float(rank_B[b]) for protocol, rank_B in measured.items()},
            few_units=few,
            compares="encoders" if known else "checkpoints",
        )
        for b, name in enumerate(names)
    ]
    return MeanRanks(
        protocols=tuple(tasks),
        rows=tuple(sorted(rows, key=lambda row: (row.mean_rank, row.name))),
        left_out={name: missing for name, missing in lacking.items() if missing},
    )


def _other_scores(
    found: ResampledScores, chosen_B: np.ndarray, rng: np.random.Generator, level: float
) -> np.ndarray:
    """(B, resamples) scores that other items and seeds could give to the chosen encoders."""
    resamples, drawn_BR = found.draws.resamples, found.drawn_BR[chosen_B]
    # In an order of its own, since items of one protocol are not those of another. Where some
    # draws left a score undefined, others stand for them.
    order_R = np.arange(resamples) % drawn_BR.shape[1]
    drawn_BR = drawn_BR[:, rng.permutation(order_R)]
    factor = stretch(found.draws.num_units, (1 - level) / 2)
    scores_B1 = found.scores_B[chosen_B, None]
    spread_BR = scores_B1 + factor * (drawn_BR - drawn_BR.mean(axis=1, keepdims=True))
    for row, b in enumerate(chosen_B):
        deviation = np.sqrt(found.seed_variance_of(b))
        if deviation:
            spread_BR[row] += deviation * rng.standard_t(found.seeds.degrees_of_freedom, resamples)
    return spread_BR


def places(score_BR: np.ndarray) -> np.ndarray:
    """(B, R) place of each encoder in each column, 1 for the least; equal ones share the mean.

    Scores that differ by rounding only count as equal.

    Example:
        >>> places(np.array([[0.3], [0.1], [0.3]]))[:, 0].tolist()
        [2.5, 1.0, 2.5]
    """
    rounding_R = 2 * ROUNDING * np.abs(score_BR).max(axis=0)
    gap_BBR = score_BR[:, None] - score_BR[None]
    less_BR = (gap_BBR > rounding_R).sum(axis=1)
    equal_BR = (np.abs(gap_BBR) <= rounding_R).sum(axis=1)  # itself too
    return less_BR + (equal_BR + 1) / 2


def largest_block(
    encoders_of: Mapping[str, Collection[str]], least_protocols: int = 2
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Protocols and encoders of which every encoder has every protocol, most cells in all.

    Of blocks of as many cells the one with more protocols is taken, then the first by name.

    Args:
        encoders_of: Protocol -> encoders that have it.
        least_protocols: Smaller blocks are none.

    Returns:
        (protocols, encoders), in the order given and by name; both empty where no two encoders
        share so many protocols.

    Example:
        >>> largest_block({"depth": {"a", "b"}, "seg": {"a", "b", "c"}, "vos": {"c"}})
        (('depth', 'seg'), ('a', 'b'))
    """
    names = sorted({name for encoders in encoders_of.values() for name in encoders})
    of_encoder = {
        name: frozenset(p for p, encoders in encoders_of.items() if name in encoders)
        for name in names
    }
    sets = set(of_encoder.values())
    new = set(sets)
    while new and len(sets) < _LARGEST_SEARCH:  # everything that some encoders have in common
        new = {one & other for one in new for other in of_encoder.values()} - sets
        sets |= new
    best: tuple[tuple, frozenset[str], list[str]] | None = None
    for protocols in sorted(sets, key=sorted):
        encoders = [name for name in names if protocols <= of_encoder[name]]
        if len(protocols) < least_protocols or len(encoders) < 2:
            continue
        size = (len(protocols) * len(encoders), len(protocols))
        if best is None or size > best[0]:
            best = size, protocols, encoders
    if best is None:
        return (), ()
    return tuple(p for p in encoders_of if p in best[1]), tuple(best[2])
