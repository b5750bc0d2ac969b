"""The intervals that a record publishes, made from its evidence; and again, when methods change.

A score is measured, an interval is derived: whoever has the evidence can make it again, and must
get the same. So a better method changes the intervals of old records and nothing else in them.
"""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Mapping
from pathlib import Path

from pe_dense.results.bootstrap import stretch
from pe_dense.results.comparison import evidence_of
from pe_dense.results.interval_marks import thin_classes
from pe_dense.results.item_evidence import ItemEvidence
from pe_dense.results.metrics import metric_of
from pe_dense.results.record import IntervalInfo, Record
from pe_dense.results.statistics import METHOD, Interval, PairedDifference, intervals
from pe_dense.results.store import load_records, rewrite_record

_TAIL = 0.025
_ROUNDING = 1e-9


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
    """What a record keeps of an interval; a score's is cut where the metric ends."""
    low, high = interval.low, interval.high
    if isinstance(interval, Interval):
        low, high = metric_of(metric).cut(low, high)
    return IntervalInfo(
        low,
        high,
        interval.unit,
        interval.num_units,
        interval.resamples,
        method=METHOD,
        stretch=interval.stretch,
        thin_classes=interval.thin_classes,
    )


def with_intervals(record: Record, evidence: ItemEvidence) -> Record:
    """The record with the intervals that its evidence gives now; all else stays as it is.

    The evidence holds one variant, so that the interval of the gap between the best and the last
    layer cannot be drawn again; one of the time before the stretch to Student's t is stretched
    about its gap, which is the same.
    """
    selection = record.selection
    if selection is not None and selection.best_minus_last is not None:
        gap = selection.best_minus_last_ci95
        if gap is not None and gap.method is None and gap.num_units is not None:
            factor, middle = stretch(gap.num_units, _TAIL), selection.best_minus_last
            stretched = dataclasses.replace(
                gap,
                low=middle + factor * (gap.low - middle),
                high=middle + factor * (gap.high - middle),
                method=METHOD,
                stretch=factor,
                thin_classes=thin_classes(evidence, record.protocol.metric),
            )
            selection = dataclasses.replace(selection, best_minus_last_ci95=stretched)
    ci95 = confidence_intervals(evidence, record.scores)
    return dataclasses.replace(record, ci95=ci95, selection=selection)


def rewrite_intervals(root: str | os.PathLike[str]) -> list[Path]:
    """Make the intervals of all records of a store again from their evidence.

    Scores and provenance stay; the checksum of the content is made anew. Records without evidence,
    and those whose intervals are what the evidence gives but for rounding, are not touched.

    Returns:
        The files that were rewritten.

    Raises:
        ValueError: If a record is wrong or is not what its evidence says; files before it in the
            order of paths may have been rewritten, and running it again is safe.
    """
    rewritten = []
    for record in load_records(root):
        if record.evidence is None:
            continue
        new = with_intervals(record, evidence_of(record, root))
        if not _equal_but_for_rounding(record, new):
            rewritten.append(rewrite_record(record, new, root))
    return rewritten


def _equal_but_for_rounding(old: Record, new: Record) -> bool:
    """Whether the intervals differ by nothing but the order in which floats were added."""
    if _bounds_left_out(old) != _bounds_left_out(new):
        return False
    bounds = zip(_bounds(old), _bounds(new), strict=True)
    return all(math.isclose(a, b, rel_tol=_ROUNDING, abs_tol=_ROUNDING) for a, b in bounds)


def _all_intervals(record: Record) -> list[IntervalInfo]:
    gap = None if record.selection is None else record.selection.best_minus_last_ci95
    of_scores = [one for _, found in sorted((record.ci95 or {}).items()) for one in found]
    return of_scores + ([] if gap is None else [gap])


def _bounds(record: Record) -> list[float]:
    return [bound for one in _all_intervals(record) for bound in (one.low, one.high)]


def _bounds_left_out(record: Record) -> tuple:
    """What the intervals say besides their bounds, and which scores have one."""
    rest = [dataclasses.replace(one, low=0.0, high=0.0) for one in _all_intervals(record)]
    rest = [dataclasses.replace(one, stretch=round(one.stretch or 0.0, 9)) for one in rest]
    return {name: len(found) for name, found in (record.ci95 or {}).items()}, rest
