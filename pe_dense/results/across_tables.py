"""What the records of a store show beyond the rows of one table: power lines, and one list of all.

Both rest on the evidence beside the records, as ranks do, and on the same records.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from pe_dense.results.comparison import ranked_rows
from pe_dense.results.mean_rank import MeanRanks, RankedTask, largest_block, mean_ranks_of
from pe_dense.results.power import Detectable, detectable_difference
from pe_dense.results.record import Record
from pe_dense.results.resampled import resampled_scores


def detectable_differences(
    records: Sequence[Record], root: str | os.PathLike[str]
) -> dict[tuple[str, int], Detectable]:
    """The power line of every protocol version: (id, version) -> what its test set can show.

    Protocols whose items are all of one unit, or whose scores no draw changes (all of them 0), have
    none: resampling tells nothing there.

    Raises:
        ValueError: As `comparison.ranked_rows`, and if the items of two records differ.
    """
    found = {}
    for one in ranked_rows(records, root):
        evidence = next(iter(one.evidences.values()))[0]
        if len(set(evidence.unit_labels[evidence.unit])) > 1:
            shown = detectable_difference(one.evidences, one.protocol.metric)
            if shown.is_known:
                found[one.protocol.id, one.protocol.version] = shown
    return found


def mean_ranks_of_records(
    records: Sequence[Record],
    root: str | os.PathLike[str],
    protocols: Sequence[tuple[str, int]] = (),
    least_protocols: int = 2,
) -> MeanRanks | None:
    """`mean_ranks_of_tables` of the records of a store.

    Raises:
        ValueError: As `comparison.ranked_rows` and `mean_ranks_of_tables`.
    """
    tables = {}
    for one in ranked_rows(records, root):
        evidence = next(iter(one.evidences.values()))[0]
        if len(set(evidence.unit_labels[evidence.unit])) > 1:
            protocol = one.protocol
            found = resampled_scores(one.evidences, protocol.metric)
            tables[protocol.id, protocol.version] = RankedTask(found, protocol.higher_is_better)
    return mean_ranks_of_tables(tables, protocols, least_protocols)


def mean_ranks_of_tables(
    tables: Mapping[tuple[str, int], RankedTask],
    protocols: Sequence[tuple[str, int]] = (),
    least_protocols: int = 2,
) -> MeanRanks | None:
    """Mean rank over protocols of all encoders that have them.

    Args:
        tables: (id, version) of each protocol -> its resampled scores.
        protocols: Those to average over; by default the newest versions of those that give most
            cells without a gap, as `mean_rank.largest_block` finds them.
        least_protocols: Fewer, by default, are no list.

    Returns:
        The list, its protocols as 'id-v1' and its encoders as the folders of the store, or None
        where no two encoders share so many protocols.

    Raises:
        ValueError: If a protocol is named that is not there, or fewer than two encoders have all.
    """
    chosen = list(protocols)
    if not chosen:
        newest = dict(sorted(tables))
        encoders = {f"{id_}-v{v}": tables[id_, v].found.names for id_, v in newest.items()}
        block, _ = largest_block(encoders, least_protocols)
        chosen = [(id_, v) for id_, v in newest.items() if f"{id_}-v{v}" in block]
        if not chosen:
            return None
    for id_, version in chosen:
        if (id_, version) not in tables:
            raise ValueError(f"no record of {id_}-v{version} may be ranked; name another protocol")
    return mean_ranks_of({f"{id_}-v{v}": tables[id_, v] for id_, v in chosen})
