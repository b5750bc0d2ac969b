"""What the evidence of a store shows beyond single records: ranks, means over seeds, power.

The spread between seeds is pooled over the rows of a protocol version, so that a row of one seed
has an interval for other seeds too once another row has several; where none has, it is left to the
interval of its record. Rows that stand in no ranking (unfinished, chosen on the scored split) have
the interval of their own seeds only.
"""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from pe_dense.results.across_tables import mean_ranks_of_tables
from pe_dense.results.comparison import evidence_of, may_be_ranked, ranked_rows
from pe_dense.results.encoder_rows import Findings, row_key
from pe_dense.results.mean_rank import RankedTask
from pe_dense.results.power import Detectable, detectable_of
from pe_dense.results.rank_groups import Rank, ranks_of
from pe_dense.results.record import Record
from pe_dense.results.resampled import resampled_scores
from pe_dense.results.statistics import CombinedInterval, combined_interval, combined_of
from pe_dense.results.store import record_path

# Beside a store: predictors without the picture, for records that are older than their field.
BLIND_FILE = "blind.json"


def find(records: Sequence[Record], root: str | os.PathLike[str]) -> Findings:
    """Everything that pages say beside the records of a store.

    Protocols whose items are all of one unit, which no resampling tells anything of, have neither
    ranks nor intervals nor a power line.

    Raises:
        ValueError: If evidence is missing, is not that of its record, or does not fit the others
            of its protocol; it names the file.
    """
    ranks: dict[str, Rank] = {}
    means: dict[str, CombinedInterval] = {}
    detectable: dict[tuple[str, int], Detectable] = {}
    tables: dict[tuple[str, int], RankedTask] = {}
    for one in ranked_rows(records, root):
        first = next(iter(one.evidences.values()))[0]
        if len(set(first.unit_labels[first.unit])) < 2:
            continue
        protocol = one.protocol
        resampled = resampled_scores(one.evidences, protocol.metric)
        tables[protocol.id, protocol.version] = RankedTask(resampled, protocol.higher_is_better)
        shown = detectable_of(resampled)
        if shown.is_known:
            detectable[protocol.id, protocol.version] = shown
        if len(one.rows) > 1:
            for rank in ranks_of(resampled, protocol.higher_is_better):
                ranks.update({str(record_path(record)): rank for record in one.rows[rank.name]})
        if any(len(seeds) > 1 for seeds in one.rows.values()):
            combined = combined_of(resampled)
            means.update({row_key(one.rows[name][0]): found for name, found in combined.items()})
    means.update(_unranked_means(records, root))
    blind = published_blind(Path(root).parent / BLIND_FILE)
    return Findings(ranks, means, detectable, mean_ranks_of_tables(tables), blind)


def published_blind(path: Path) -> dict[tuple[str, int], Mapping[str, float]]:
    """(id, version) of a protocol -> what predictors without the picture score, of a file.

    Raises:
        ValueError: If the file is there and is not as `tools/protocols.py blind` writes it.
    """
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        found = {}
        for key, row in content.items():
            name, _, version = key.rpartition("-v")
            found[name, int(version)] = {k: float(v) for k, v in row["scores"].items()}
        return found
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ValueError(f"{path} is no list of blind scores; restore it") from None


def _unranked_means(
    records: Sequence[Record], root: str | os.PathLike[str]
) -> dict[str, CombinedInterval]:
    """Intervals of rows with several seeds that stand in no ranking, each by itself."""
    rows: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        measured = record.origin == "measured" and record.evidence is not None
        if measured and not may_be_ranked(record):
            rows[row_key(record)].append(record)
    found = {}
    for key, seeds in rows.items():
        evidences = [evidence_of(record, root) for record in seeds]
        if len(seeds) > 1 and len(set(evidences[0].unit_labels[evidences[0].unit])) > 1:
            found[key] = combined_interval(evidences, seeds[0].protocol.metric)
    return found
