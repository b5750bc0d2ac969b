"""The rows of tables: all seeds of one encoder and its weights under one protocol version.

A row of several seeds shows their mean, with an interval for other items and other seeds; one of
a single seed says something of that checkpoint only.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from pe_dense.results.blind import BlindScore, best_blind, is_above, strictest
from pe_dense.results.mean_rank import MeanRanks
from pe_dense.results.metrics import metric_of
from pe_dense.results.power import Detectable
from pe_dense.results.rank_groups import Rank
from pe_dense.results.record import IntervalInfo, Record
from pe_dense.results.statistics import METHOD, CombinedInterval
from pe_dense.results.store import record_path


class Bounds(NamedTuple):
    """A 95 % interval of a row and what it rests on.

    Attributes:
        low, high: Its ends, in the unit of the score.
        unit: What was resampled.
        num_units: How many there are; None where that is unknown.
        thin_classes: How many classes rest on few images; None where there are none to count.
        method: How it was made; None before intervals were widened for few units.
    """

    low: float
    high: float
    unit: str
    num_units: int | None
    thin_classes: int | None
    method: str | None


@dataclass(frozen=True)
class Findings:
    """What the evidence of a store shows beyond single records; empty where nobody looked.

    Attributes:
        ranks: Path of a record in its store -> the rank of its row.
        means: `row_key` -> interval of the mean over seeds, where the spread between seeds is
            known; see `findings.find`.
        detectable: (id, version) of a protocol -> smallest difference that its test set shows.
        mean_ranks: Encoders over all protocols that they share; None where no two share two.
        blind: (id, version) of a protocol -> main metric of predictors without the picture, by
            name.
    """

    ranks: Mapping[str, Rank] = field(default_factory=dict)
    means: Mapping[str, CombinedInterval] = field(default_factory=dict)
    detectable: Mapping[tuple[str, int], Detectable] = field(default_factory=dict)
    mean_ranks: MeanRanks | None = None
    blind: Mapping[tuple[str, int], Mapping[str, float]] = field(default_factory=dict)


NOTHING_FOUND = Findings()


@dataclass(frozen=True)
class EncoderRow:
    """One row.

    Attributes:
        records: Those of all seeds, in the order of seeds; a reported number stands alone.
        mean: Interval for other items and other seeds; None where the spread between seeds is
            unknown.
        rank: Where the row stands; None where that is unknown.
        blind: The best predictor without the picture; None where none is known.
    """

    records: tuple[Record, ...]
    mean: CombinedInterval | None
    rank: Rank | None
    blind: BlindScore | None = None

    @property
    def first(self) -> Record:
        """The record of the first seed, for what all of them share."""
        return self.records[0]

    @property
    def is_measured(self) -> bool:
        """Whether this code measured it."""
        return self.first.origin == "measured"

    @property
    def num_seeds(self) -> int:
        """How many records there are."""
        return len(self.records)

    def score(self, metric: str) -> float | None:
        """Mean over seeds; None where one of them has none."""
        values = [record.scores.get(metric) for record in self.records]
        known = [value for value in values if value is not None]
        return sum(known) / len(known) if len(known) == len(values) else None

    @property
    def main(self) -> float:
        """The score that ranks: mean of the main metric."""
        score = self.score(self.first.protocol.metric)
        assert score is not None  # records have their main metric
        return score

    def bounds(self, metric: str) -> Bounds | None:
        """Interval of `score`, None if unknown: that of `mean`, or of the record of one seed.

        That of the record is of one checkpoint. Means have one for the main metric only.
        """
        if self.mean is not None and metric == self.first.protocol.metric:
            low, high = metric_of(metric).cut(self.mean.low, self.mean.high)
            return _bounds(self.mean, METHOD)._replace(low=low, high=high)
        if self.num_seeds > 1:
            return None
        found = (self.first.ci95 or {}).get(metric)
        return _bounds(found[0], found[0].method) if found else None

    @property
    def main_bounds(self) -> Bounds | None:
        """Interval of `main`."""
        return self.bounds(self.first.protocol.metric)

    @property
    def sees(self) -> bool | None:
        """Whether it is better than the best predictor without the picture by its interval.

        None where there is no such predictor; without an interval the score itself counts.
        """
        bounds = self.main_bounds
        ends = (self.main, self.main) if bounds is None else (bounds.low, bounds.high)
        return is_above(*ends, self.blind, self.first.protocol.higher_is_better)

    @property
    def curve_spread(self) -> float | None:
        """Largest range over seeds that a layer has in the main metric; None without curves."""
        metric = self.first.protocol.metric
        curves = [(record.by_layer or {}).get(metric, {}) for record in self.records]
        shared = functools.reduce(lambda a, b: a & b, (set(curve) for curve in curves))
        if len(curves) < 2 or not shared:
            return None
        of_layer = [[curve[layer] for curve in curves] for layer in shared]
        return max(max(scores) - min(scores) for scores in of_layer)


def _bounds(found: CombinedInterval | IntervalInfo, method: str | None) -> Bounds:
    about = found.unit, found.num_units, found.thin_classes
    return Bounds(found.low, found.high, *about, method)


def row_key(record: Record) -> str:
    """What seeds of one row share: where they lie, but for the seed."""
    protocol = record.protocol
    return str(record_path(record).parent / f"{protocol.id}-v{protocol.version}")


def encoder_rows(records: Sequence[Record], findings: Findings = NOTHING_FOUND) -> list[EncoderRow]:
    """Rows of one protocol version from best to worst; equal ones by their path.

    Args:
        records: Records of that version in any order.
        findings: What is known of them.
    """
    grouped: dict[str, list[Record]] = {}
    for record in sorted(records, key=_by_seed):
        grouped.setdefault(row_key(record), []).append(record)
    rows = []
    for key, seeds in grouped.items():
        mean = findings.means.get(key)
        if mean is not None and mean.num_seeds != len(seeds):  # some have no evidence
            mean = None
        rank = findings.ranks.get(str(record_path(seeds[0])))
        protocol = seeds[0].protocol
        known = findings.blind.get((protocol.id, protocol.version), {})
        lines = [*(record.blind or {} for record in records), known]
        better = protocol.higher_is_better
        blind = best_blind(strictest(lines, better), better)
        rows.append(EncoderRow(tuple(seeds), mean, rank, blind))

    def place(row: EncoderRow) -> tuple[float, str]:
        main = row.main
        path = str(record_path(row.first))
        return (-main if row.first.protocol.higher_is_better else main), path

    return sorted(rows, key=place)


def _by_seed(record: Record) -> tuple[str, int]:
    return row_key(record), -1 if record.seed is None else record.seed
