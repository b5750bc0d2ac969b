"""What the evidence of a store shows beyond single records: ranks, and means over seeds."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence

from pe_dense.results.comparison import evidence_of, rank_records
from pe_dense.results.encoder_rows import Findings, row_key
from pe_dense.results.record import Record
from pe_dense.results.statistics import CombinedInterval, combined_interval


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
    """`row_key` -> interval of the mean over seeds, of rows with several seeds and evidence.

    Raises:
        ValueError: As `find`.
    """
    rows: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        if record.origin == "measured":
            rows[row_key(record)].append(record)
    found = {}
    for key, seeds in rows.items():
        if len(seeds) > 1 and all(record.evidence is not None for record in seeds):
            evidences = [evidence_of(record, root) for record in seeds]
            found[key] = combined_interval(evidences, seeds[0].protocol.metric)
    return found
