"""The intervals that a record publishes, made from its evidence.

A score is measured, an interval is derived: whoever has the evidence can make it again, and must
get the same.
"""

from __future__ import annotations

from collections.abc import Mapping

from pe_dense.results.item_evidence import ItemEvidence
from pe_dense.results.metrics import metric_of
from pe_dense.results.record import IntervalInfo
from pe_dense.results.statistics import Interval, PairedDifference, intervals


def confidence_intervals(
    evidence: ItemEvidence, scores: Mapping[str, float]
) -> dict[str, tuple[IntervalInfo, ...]] | None:
    """95 % intervals of all scores that the evidence knows; None where nothing can be resampled.

    One for each score, over the unit that belongs to the evidence. There is none over a finer unit:
    objects of one video are not independent, and an interval over them held the truth in 82 % of
    trials, not in 95.
    """
    if len(set(evidence.unit_labels[evidence.unit])) < 2:
        return None
    found = {
        name: (interval_info(interval, name),)
        for name, interval in intervals(evidence).items()
        if name in scores
    }
    return found or None


def interval_info(interval: Interval | PairedDifference, metric: str) -> IntervalInfo:
    """What a record keeps of an interval; a score's is cut where the metric ends.

    A fraction cannot leave 0 to 1, however wide the interval of few units is.
    """
    low, high = interval.low, interval.high
    if isinstance(interval, Interval) and metric_of(metric).is_fraction:
        high = min(high, 1.0)
        low = low if metric_of(metric).signed else max(low, 0.0)
    return IntervalInfo(low, high, interval.unit, interval.num_units, interval.resamples)
