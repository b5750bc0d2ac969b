"""Records against each other: rank groups of a protocol, and the difference of two records.

Both rest on the evidence beside the records; a record without evidence has no rank.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from pe_dense.results.evidence_file import load_evidence
from pe_dense.results.item_evidence import ItemEvidence
from pe_dense.results.rank_groups import Rank, rank_groups
from pe_dense.results.record import Record
from pe_dense.results.statistics import PairedDifference, paired_difference
from pe_dense.results.store import evidence_path, record_path


@dataclass(frozen=True)
class Comparison:
    """How much better the first record is than the second, for one metric."""

    metric: str
    first: float
    second: float
    paired: PairedDifference


def evidence_of(record: Record, root: str | os.PathLike[str]) -> ItemEvidence:
    """The evidence of a record in a store.

    Raises:
        ValueError: If the record has none, the file is missing or is another one, or it holds
            another number of items or another score than the record says.
    """
    path = evidence_path(record, root)
    if path is None or record.evidence is None:
        raise ValueError(
            f"{record_path(record)} has no per-item evidence, so it cannot be compared; evaluate "
            "its checkpoint again with tools/test.py --supersede"
        )
    evidence = load_evidence(path, record.evidence.sha256)
    if record.task != "tracking" and evidence.num_items != record.dataset.num_items:
        raise ValueError(
            f"{path} holds {evidence.num_items} items but its record says "
            f"{record.dataset.num_items}; evaluate again"
        )
    metric = record.protocol.metric
    score = evidence.metrics(names=[metric])[metric]
    if abs(score - record.scores[metric]) > 1e-9 * max(1.0, abs(score)):
        raise ValueError(
            f"{path} gives {metric} {score:.6f} but its record says "
            f"{record.scores[metric]:.6f}; evaluate again"
        )
    return evidence


def rank_records(records: Sequence[Record], root: str | os.PathLike[str]) -> dict[str, Rank]:
    """Rank groups of every protocol version with evidence for two encoders or more.

    Seeds of one encoder and weights stand together. Records on other items than most are left
    out by the item check of `rank_groups`, which raises.

    Returns:
        Path of the record in the store -> its rank.

    Raises:
        ValueError: As `evidence_of` and `rank_groups`.
    """
    protocols: dict[tuple[str, int], dict[str, list[Record]]] = defaultdict(dict)
    for record in records:
        if record.origin == "measured" and record.evidence is not None:
            rows = protocols[record.protocol.id, record.protocol.version]
            rows.setdefault(str(record_path(record).parent), []).append(record)
    ranks = {}
    for rows in protocols.values():
        if len(rows) < 2:
            continue
        protocol = next(iter(rows.values()))[0].protocol
        evidences = {row: [evidence_of(r, root) for r in seeds] for row, seeds in rows.items()}
        for rank in rank_groups(evidences, protocol.metric, protocol.higher_is_better):
            ranks.update({str(record_path(record)): rank for record in rows[rank.name]})
    return ranks


def compare_records(
    first: Record, second: Record, root: str | os.PathLike[str], metrics: Sequence[str] = ()
) -> list[Comparison]:
    """Paired differences of two records of one protocol, first minus second.

    Args:
        first: A record.
        second: Another of the same protocol version.
        root: Root of their store.
        metrics: Names; by default the main metric.

    Raises:
        ValueError: If the protocols differ, evidence is missing, or the items differ.
    """
    keys = [(r.protocol.id, r.protocol.version, r.protocol.config_sha256) for r in (first, second)]
    if keys[0][:2] != keys[1][:2]:
        names = [f"{id_}-v{version}" for id_, version, _ in keys]
        raise ValueError(
            f"{names[0]} and {names[1]} are different protocols, so their scores cannot be "
            "compared; choose two records of one protocol"
        )
    if keys[0][2] != keys[1][2]:
        raise ValueError(
            f"{record_path(first)} and {record_path(second)} were made under other settings of "
            f"{keys[0][0]}-v{keys[0][1]}; evaluate both under one config"
        )
    evidences = evidence_of(first, root), evidence_of(second, root)
    compared = []
    for metric in metrics or [first.protocol.metric]:
        paired = paired_difference(*evidences, metric)
        scores = [evidence.metrics(names=[metric])[metric] for evidence in evidences]
        compared.append(Comparison(metric, *scores, paired))
    return compared
