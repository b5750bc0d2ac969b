"""The numbers of a record against what its evidence gives.

A score and a bound agree if they differ by at most 1e-9, or 1e-9 of the larger one: sums of
floats in another order differ by 1e-12 or so, and no edit that anybody would make is as small.
All else, counts and names, must be equal. A gap between two layers is a difference of two numbers
of the record and may be off by twice as much.

What evidence cannot give, since it holds the one variant that was scored: masks of detections, AP
by frequency of a class in the training data, scores of other layers, and the bounds of the gap to
the last layer. These are only checked against the rest of the record, and counted.
"""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass

from pe_dense.results.recomputed import Recomputed
from pe_dense.results.record import IntervalInfo, Record
from pe_dense.results.record_intervals import interval_info
from pe_dense.results.statistics import Interval

TOLERANCE = 1e-9
RENEW = "python tools/leaderboard.py intervals makes it again"
# Metrics of an evaluation that its evidence has no parts of.
_BEYOND = {
    "detection": re.compile(r"mask_AP(|50|75|[smlrcf])|mask_AR[0-9]+|AP[rcf]"),
}


@dataclass(frozen=True)
class Verdict:
    """What was found on one record.

    Attributes:
        problems: One clause for each number that is wrong; without the record's name.
        not_recomputed: Numbers that no evidence gives, by name.
    """

    problems: tuple[str, ...] = ()
    not_recomputed: tuple[str, ...] = ()


def agree(a: float, b: float, times: float = 1.0) -> bool:
    """Whether two numbers are one but for rounding.

    Example:
        >>> agree(0.5, 0.5 + 1e-10), agree(0.5, 0.5001)
        (True, False)
    """
    return abs(a - b) <= times * TOLERANCE * max(1.0, abs(a), abs(b))


def check_numbers(record: Record, found: Recomputed | None) -> Verdict:
    """Every number of a measured record against its evidence, or None where it has none."""
    problems: list[str] = []
    missing: list[str] = []
    if found is None:
        missing += [f"scores.{name}" for name in record.scores]
        missing += [f"ci95.{name}" for name in record.ci95 or {}]
        for name, given in (record.ci95 or {}).items():
            for interval in given:
                _check_inside(f"scores.{name}", record.scores[name], interval, problems)
    else:
        _check_items(record, found, problems)
        _check_scores(record, found, problems, missing)
        _check_intervals(record, found, problems, missing)
    _check_layers(record, problems, missing)
    _check_gap(record, found, problems, missing)
    return Verdict(tuple(problems), tuple(missing))


def _check_items(record: Record, found: Recomputed, problems: list[str]) -> None:
    stated = record.dataset.num_items
    if stated != found.num_items:
        problems.append(
            f"field 'dataset.num_items' is {stated}, but the evidence holds {found.num_items} "
            f"{found.unit if record.task == 'tracking' else 'item'}s"
        )
    if record.dataset.sha256 != found.content_sha256:
        problems.append(
            f"field 'dataset.sha256' is {_shortened(record.dataset.sha256)}, but the evidence "
            f"gives {_shortened(found.content_sha256)}"
        )


def _shortened(sha256: str | None) -> str:
    return "null" if sha256 is None else f"{sha256[:12]}..."


def _check_scores(
    record: Record, found: Recomputed, problems: list[str], missing: list[str]
) -> None:
    beyond = _BEYOND.get(found.kind)
    for name, stated in record.scores.items():
        given = found.scores.get(name)
        if given is not None:
            if not agree(stated, given):
                problems.append(
                    f"field 'scores.{name}' is {stated:.6f}, but the evidence gives {given:.6f}"
                )
        elif beyond is not None and beyond.fullmatch(name):
            missing.append(f"scores.{name}")
        else:
            problems.append(
                f"field 'scores.{name}' is no metric that {found.kind} evidence of this protocol "
                "gives a value"
            )


def _check_intervals(
    record: Record, found: Recomputed, problems: list[str], missing: list[str]
) -> None:
    """One interval for each score that has one, over the unit and by the method of today."""
    stated, given = record.ci95 or {}, found.intervals
    for name, intervals in stated.items():
        again = given.get(name)
        if again is None and name not in found.scores:
            missing.append(f"ci95.{name}")
        elif again is None:
            problems.append(f"field 'ci95.{name}' is an interval, and the evidence gives none")
        else:
            problems += _wrong_interval(name, intervals, again, record.scores[name])
    written_now = record.training is not None
    for name in given:
        if name in record.scores and name not in stated and (stated or written_now):
            problems.append(f"field 'ci95.{name}' is missing, and the evidence gives one")


def _wrong_interval(
    name: str, intervals: tuple[IntervalInfo, ...], again: Interval, score: float
) -> list[str]:
    first, wanted = intervals[0], interval_info(again, name)
    if len(intervals) > 1:
        return [
            f"field 'ci95.{name}' has {len(intervals)} intervals, but only that over "
            f"{again.unit}s holds what it says; {RENEW}"
        ]
    if first.method != wanted.method:
        return [
            f"field 'ci95.{name}' was made by the method {first.method or 'of old records'}, not "
            f"by {wanted.method}; {RENEW}"
        ]
    if _equal(first, wanted):
        return []
    told = [
        f"field 'ci95.{name}' is {_interval_text(first)}, but the evidence gives "
        f"{_interval_text(wanted)}"
    ]
    _check_inside(f"scores.{name}", score, first, told)
    return told


def _interval_text(interval: IntervalInfo) -> str:
    return f"{interval.low:.6f} to {interval.high:.6f} over {interval.num_units} {interval.unit}s"


def _equal(stated: IntervalInfo, wanted: IntervalInfo) -> bool:
    bounds = agree(stated.low, wanted.low) and agree(stated.high, wanted.high)
    return bounds and _made_alike(stated, wanted)


def _made_alike(stated: IntervalInfo, wanted: IntervalInfo) -> bool:
    """Equal but for the bounds: units, resamples, method, stretch and classes."""
    if stated.stretch is not None and wanted.stretch is not None:
        if not agree(stated.stretch, wanted.stretch):
            return False
        stated = dataclasses.replace(stated, stretch=wanted.stretch)
    return dataclasses.replace(stated, low=wanted.low, high=wanted.high) == wanted


def _check_inside(where: str, value: float, interval: IntervalInfo, problems: list[str]) -> None:
    low, high = interval.low, interval.high
    slack = TOLERANCE * max(1.0, abs(value))
    if not low - slack <= value <= high + slack:
        problems.append(
            f"field '{where}' is {value:.6f}, outside of its interval {low:.6f} to {high:.6f}"
        )


# ---- layers --------------------------------------------------------------------------------------


def _check_layers(record: Record, problems: list[str], missing: list[str]) -> None:
    """The scored layer stands in `by_layer` with the score; the others cannot be scored again."""
    for name, layers in (record.by_layer or {}).items():
        if name not in record.scores:
            problems.append(f"field 'by_layer.{name}' has no score of that name")
            continue
        chosen = _scored_layer(record, layers)
        missing += [f"by_layer.{name}.{layer}" for layer in layers if layer != chosen]
        if chosen in layers and not agree(layers[chosen], record.scores[name]):
            problems.append(
                f"field 'by_layer.{name}.{chosen}' is {layers[chosen]:.6f}, but that layer was "
                f"chosen and its score is {record.scores[name]:.6f}"
            )


def _scored_layer(record: Record, layers: dict[str, float]) -> str | None:
    if record.selection is not None:
        return record.selection.chosen.get("layer")
    return next(iter(layers)) if len(layers) == 1 else None


def _check_gap(
    record: Record, found: Recomputed | None, problems: list[str], missing: list[str]
) -> None:
    selection = record.selection
    if selection is None:
        return
    where = "selection.best_minus_last"
    gap, interval = selection.best_minus_last, selection.best_minus_last_ci95
    if gap is None:
        if interval is not None:
            problems.append(f"field '{where}_ci95' is the interval of no gap")
        return
    layers = (record.by_layer or {}).get(selection.metric, {})
    single = [int(layer) for layer in layers if layer.isdigit()]
    best = record.scores.get(selection.metric)
    if best is None or not single:
        missing.append(where)
    elif not agree(gap, best - layers[str(max(single))], times=2):
        problems.append(
            f"field '{where}' is {gap:.6f}, but the score less that of layer {max(single)} is "
            f"{best - layers[str(max(single))]:.6f}"
        )
    if interval is None:
        return
    missing.append(f"{where}_ci95")
    _check_inside(where, gap, interval, problems)
    given = {} if found is None else found.intervals
    own = given.get(selection.metric)
    if own is None:
        return
    wanted = interval_info(own, selection.metric)
    if interval.method != wanted.method:
        problems.append(
            f"field '{where}_ci95' was made by the method {interval.method or 'of old records'}, "
            f"not by {wanted.method}; {RENEW}"
        )
    elif not _made_alike(interval, wanted):
        problems.append(
            f"field '{where}_ci95' is over {interval.num_units} {interval.unit}s and "
            f"{interval.resamples} resamples, stretched by {interval.stretch}, but the evidence "
            f"gives {wanted.num_units} {wanted.unit}s, {wanted.resamples} and {wanted.stretch}"
        )
