"""Records against each other: rank groups of a protocol, and the difference of two records.

Both rest on the evidence beside the records; a record without evidence has no rank.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from pe_dense.results.evidence_file import load_content, load_evidence
from pe_dense.results.item_evidence import ItemEvidence
from pe_dense.results.rank_groups import Rank, rank_groups
from pe_dense.results.record import BEST_ON_HELD_OUT, ProtocolInfo, Record
from pe_dense.results.scored_content import ScoredContent
from pe_dense.results.statistics import PairedDifference, encoder_difference, paired_difference
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
            another number of items, another score or hashes of other data than the record says.
    """
    path = evidence_path(record, root)
    if path is None or record.evidence is None:
        raise ValueError(
            f"{record_path(record)} has no per-item evidence, so it cannot be compared; evaluate "
            "its checkpoint again with python tools/test.py ... --supersede"
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
    content = load_content(path)
    found = None if content is None else content.sha256
    if found != record.dataset.sha256:
        raise ValueError(
            f"{path} gives {_shortened(found)} as the hash of what was scored but its record says "
            f"{_shortened(record.dataset.sha256)}; evaluate again"
        )
    return evidence


def _shortened(sha256: str | None) -> str:
    return "nothing" if sha256 is None else f"{sha256[:12]}..."


def require_same_data(records: Sequence[Record], root: str | os.PathLike[str]) -> None:
    """Refuse records that were scored on other labels or pictures than the rest.

    Records that do not know their data, older ones, are left to the comparison of items.

    Args:
        records: Of one protocol, in their store.
        root: Root of the store.

    Raises:
        ValueError: At the first that has other data than most (of equally many: than the first);
            it names both and says what differs.
    """
    known = [record for record in records if record.dataset.sha256 is not None]
    if not known:
        return
    (reference, _), *_ = Counter(record.dataset.sha256 for record in known).most_common(1)
    like = next(record for record in known if record.dataset.sha256 == reference)
    for record in known:
        if record.dataset.sha256 != reference:
            expected, found = _content(like, root), _content(record, root)
            difference = None if not (expected and found) else expected.difference(found)
            raise ValueError(
                f"{record_path(record)} was scored on other files of {record.dataset.name} "
                f"{record.dataset.split} than {record_path(like)}"
                f"{'' if difference is None else f': {difference}'}; evaluate both on the same data"
            )


def _content(record: Record, root: str | os.PathLike[str]) -> ScoredContent | None:
    path = evidence_path(record, root)
    return load_content(path) if path is not None and path.is_file() else None


def may_be_ranked(record: Record) -> bool:
    """Whether a record may stand in a ranking: nothing but what a protocol takes as result may.

    That is the end of its training, or, where its rule is that, the checkpoint of the best
    validation on held-out training images. An unfinished training is another, and a checkpoint that
    was chosen otherwise has a chance more. Records older than schema 4 say so in their protocol's
    id alone.
    """
    labels = record.protocol.id.split(".")[1:]
    other = ("unfinished-", "chosen-on-", "end-of-training")
    if any(label.startswith(other) for label in labels):
        return False
    if record.training is None:
        return True
    if record.training.chosen == "best on held-out":
        return record.training.rule == BEST_ON_HELD_OUT
    return record.training.chosen in ("end of training", "not trained here", "nothing to train")


@dataclass(frozen=True, eq=False)
class RankedRows:
    """The rows of one protocol version that may be ranked, with their evidence.

    Attributes:
        protocol: That of the first record.
        rows: Encoder and weights, as the folder of the store says them -> records of all seeds.
        evidences: The same -> their evidence.
    """

    protocol: ProtocolInfo
    rows: dict[str, list[Record]]
    evidences: dict[str, list[ItemEvidence]]


def ranked_rows(records: Sequence[Record], root: str | os.PathLike[str]) -> Iterator[RankedRows]:
    """Every protocol version with its rows, one at a time, as evidence may be large.

    Records without evidence and those that `may_be_ranked` refuses are left out.

    Raises:
        ValueError: As `evidence_of` and `require_same_data`.
    """
    protocols: dict[tuple[str, int], dict[str, list[Record]]] = defaultdict(dict)
    for record in records:
        if record.origin != "measured" or record.evidence is None:
            continue
        if may_be_ranked(record):
            rows = protocols[record.protocol.id, record.protocol.version]
            rows.setdefault(str(record_path(record).parent), []).append(record)
    for rows in protocols.values():
        require_same_data([record for seeds in rows.values() for record in seeds], root)
        yield RankedRows(
            protocol=next(iter(rows.values()))[0].protocol,
            rows=rows,
            evidences={row: [evidence_of(r, root) for r in seeds] for row, seeds in rows.items()},
        )


def rank_records(records: Sequence[Record], root: str | os.PathLike[str]) -> dict[str, Rank]:
    """Rank groups of every protocol version with evidence for two encoders or more.

    Seeds of one encoder and weights stand together; what `may_be_ranked` refuses has no rank.
    Records on other items than most are left out by the item check of `rank_groups`, which raises.

    Returns:
        Path of the record in the store -> its rank.

    Raises:
        ValueError: As `ranked_rows` and `rank_groups`.
    """
    ranks = {}
    for found in ranked_rows(records, root):
        if len(found.rows) < 2:
            continue
        protocol = found.protocol
        for rank in rank_groups(found.evidences, protocol.metric, protocol.higher_is_better):
            ranks.update({str(record_path(record)): rank for record in found.rows[rank.name]})
    return ranks


def compare_records(
    first: Record, second: Record, root: str | os.PathLike[str], metrics: Sequence[str] = ()
) -> list[Comparison]:
    """Paired differences of two records of one protocol, first minus second.

    Records are of one seed each, so that the difference is one of checkpoints; all seeds of two
    encoders against each other: `compare_encoders`.

    Args:
        first: A record.
        second: Another of the same protocol version.
        root: Root of their store.
        metrics: Names; by default the main metric.

    Raises:
        ValueError: If the protocols differ, evidence is missing, or the items or data differ.
    """
    _require_one_protocol(first, second)
    require_same_data([first, second], root)
    evidences = evidence_of(first, root), evidence_of(second, root)
    compared = []
    for metric in metrics or [first.protocol.metric]:
        paired = paired_difference(*evidences, metric)
        scores = [evidence.metrics(names=[metric])[metric] for evidence in evidences]
        compared.append(Comparison(metric, *scores, paired))
    return compared


def compare_encoders(
    first: Record,
    second: Record,
    records: Sequence[Record],
    root: str | os.PathLike[str],
    metrics: Sequence[str] = (),
) -> list[Comparison]:
    """Differences of the means over all seeds of two encoders, first minus second.

    Args:
        first: A record; all of its seeds that are among `records` count.
        second: Another of the same protocol version.
        records: Those of the store: the spread between seeds is pooled over all encoders that have
            this protocol.
        root: Root of the store.
        metrics: Names; by default the main metric.

    Raises:
        ValueError: As `compare_records`, and if a record is not ranked.
    """
    _require_one_protocol(first, second)
    key = (first.protocol.id, first.protocol.version)
    alike = [r for r in records if (r.protocol.id, r.protocol.version) == key]
    names = [str(record_path(record).parent) for record in (first, second)]
    evidences: dict[str, list[ItemEvidence]] = {}
    for one in ranked_rows(alike, root):  # one protocol, or none
        evidences = one.evidences
    for name in names:
        if name not in evidences:
            raise ValueError(
                f"{name} has no record of {key[0]}-v{key[1]} that may be ranked; compare two "
                "records, or evaluate the end of its training"
            )
    compared = []
    for metric in metrics or [first.protocol.metric]:
        paired = encoder_difference(evidences, *names, metric)
        scores = [
            float(np.mean([one.metrics(names=[metric])[metric] for one in evidences[name]]))
            for name in names
        ]
        compared.append(Comparison(metric, *scores, paired))
    return compared


def _require_one_protocol(first: Record, second: Record) -> None:
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
