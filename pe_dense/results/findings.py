"""What the evidence of a store shows beyond single records: ranks, and means over seeds."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence

from pe_dense.results.comparison import evidence_of, rank_records
from pe_dense.results.encoder_rows import Findings, row_key
from pe_dense.results.record import Record
from pe_dense.results.statistics import CombinedInterval, combined_intervals


def find(records: Sequence[Record], root: str | os.PathLike[str]) -> Findings:
    """Everything that pages say beside the records of a store.

    Raises:
        ValueError: If evidence is missing, is not that of its record, or does not fit the others
            of its protocol; it names the file.
    """
    return Findings(ranks=rank_records(records, root), means=mean_intervals(records, root))


def mean_intervals(
    records: Sequence[Record], root: str | os.PathLike[str]
) -> dict[str, CombinedInterval]:
    """`row_key` -> interval of the mean over seeds, for other items and other seeds.

    The spread between seeds is pooled over the rows of a protocol version, so that a row of one
    seed has an interval here too once another row has several; where none has, it is left to the
    interval of its record.

    Raises:
        ValueError: As `find`.
    """
    protocols: dict[tuple[str, int], dict[str, list[Record]]] = defaultdict(dict)
    for record in records:
        if record.origin == "measured" and record.evidence is not None:
            rows = protocols[record.protocol.id, record.protocol.version]
            rows.setdefault(row_key(record), []).append(record)
    found = {}
    for rows in protocols.values():
        if any(len(seeds) > 1 for seeds in rows.values()):
            evidences = {key: [evidence_of(r, root) for r in seeds] for key, seeds in rows.items()}
            metric = next(iter(rows.values()))[0].protocol.metric
            found.update(combined_intervals(evidences, metric))
    return found
