"""From a finished evaluation to records with evidence, intervals and what was chosen.

A metric may have, besides what MMEngine asks of it:
    evidence(): the per-item evidence of its scores;
    by_layer(): scores of every layer, {metric: {block index: score}};
    selection(): how the scored variant was chosen, a `Selection`;
    evidence_by_seed(): {0: evidence, 1: ...} where one run holds several seeds.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pe_dense.results.evidence_file import evidence_bytes
from pe_dense.results.item_evidence import ItemEvidence
from pe_dense.results.record import IntervalInfo, Record
from pe_dense.results.statistics import intervals
from pe_dense.results.store import save_record


def save_with_evidence(
    record: Record, metrics: Sequence[Any], root: Path, supersede: bool
) -> list[Path]:
    """Complete a record with what the metrics kept, and write it; one for every seed of a run.

    Args:
        record: The record with the scores of the run.
        metrics: The metrics of the evaluation; the first that has evidence is asked.
        root: Root of the records.
        supersede: Replace existing records.

    Returns:
        The files of the records.
    """
    metric = next((m for m in metrics if hasattr(m, "evidence")), None)
    if metric is None:
        path = save_record(record, root, supersede, None)
        print(f"record: {path}")
        return [path]
    by_layer = metric.by_layer() if hasattr(metric, "by_layer") else record.by_layer
    selection = metric.selection() if hasattr(metric, "selection") else None
    record = dataclasses.replace(record, by_layer=by_layer, selection=selection)
    several = metric.evidence_by_seed() if hasattr(metric, "evidence_by_seed") else None
    print("95 % intervals ...", flush=True)
    paths = []
    for seed, evidence in (several or {0: metric.evidence()}).items():
        scores = record.scores if several is None else finite_scores(evidence, record.scores)
        dataset = record.dataset
        if record.task != "tracking":  # items are objects there, and the data set holds videos
            dataset = dataclasses.replace(dataset, num_items=evidence.num_items)
        of_seed = dataclasses.replace(
            record,
            scores=scores,
            seed=record.seed + seed,
            dataset=dataset,
            ci95=confidence_intervals(evidence, scores),
        )
        paths.append(save_record(of_seed, root, supersede, evidence_bytes(evidence)))
        print(f"record: {paths[-1]}")
    return paths


def finite_scores(evidence: ItemEvidence, like: Mapping[str, float]) -> dict[str, float]:
    """Scores of the evidence that the run reports too, undefined ones left out."""
    found = evidence.metrics()
    return {name: float(found[name]) for name in like if np.isfinite(found.get(name, np.nan))}


def confidence_intervals(
    evidence: ItemEvidence, scores: Mapping[str, float]
) -> dict[str, tuple[IntervalInfo, ...]] | None:
    """95 % intervals of all scores that the evidence knows, over each unit that it knows.

    The unit that belongs to the metric comes first. None where nothing can be resampled.
    """
    units = sorted(evidence.unit_labels, key=lambda unit: unit != evidence.unit)
    found: dict[str, tuple[IntervalInfo, ...]] = {}
    for unit in units:
        if len(set(evidence.unit_labels[unit])) < 2:
            continue
        for name, interval in intervals(evidence, unit=unit).items():
            info = IntervalInfo(
                interval.low, interval.high, unit, interval.num_units, interval.resamples
            )
            if name in scores:
                found[name] = (*found.get(name, ()), info)
    return found or None
