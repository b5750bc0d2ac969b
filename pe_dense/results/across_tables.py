"""What the records of a store show beyond the rows of one table: power lines, and one list of all.

Both rest on the evidence beside the records, as ranks do, and on the same records.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from pe_dense.results.comparison import ranked_rows
from pe_dense.results.mean_rank import MeanRanks, Task, largest_block, mean_ranks
from pe_dense.results.power import Detectable, detectable_difference
from pe_dense.results.record import Record


def detectable_differences(
    records: Sequence[Record], root: str | os.PathLike[str]
) -> dict[tuple[str, int], Detectable]:
    """The power line of every protocol version: (id, version) -> what its test set can show.

    Protocols whose items are all of one unit, which no resampling tells anything of, have none.

    Raises:
        ValueError: As `comparison.ranked_rows`, and if the items of two records differ.
    """
    found = {}
    for one in ranked_rows(records, root):
        evidence = next(iter(one.evidences.values()))[0]
        if len(set(evidence.unit_labels[evidence.unit])) > 1:
            key = one.protocol.id, one.protocol.version
            found[key] = detectable_difference(one.evidences, one.protocol.metric)
    return found


def mean_ranks_of_records(
    records: Sequence[Record],
    root: str | os.PathLike[str],
    protocols: Sequence[tuple[str, int]] = (),
    least_protocols: int = 2,
) -> MeanRanks | None:
    """Mean rank over protocols of all encoders that have them.

    Args:
        records: Those of a store.
        root: Its root.
        protocols: (id, version) of those to average over; by default the newest versions of those
            that give most cells without a gap, as `mean_rank.largest_block` finds them.
        least_protocols: Fewer, by default, are no list.

    Returns:
        The list, its protocols as 'id-v1' and its encoders as the folders of the store, or None
        where no two encoders share so many protocols.

    Raises:
        ValueError: As `comparison.ranked_rows` and `mean_rank.mean_ranks`.
    """
    tasks = {}
    for one in ranked_rows(records, root):
        evidence = next(iter(one.evidences.values()))[0]
        if len(set(evidence.unit_labels[evidence.unit])) > 1:
            protocol = one.protocol
            tasks[protocol.id, protocol.version] = Task(
                one.evidences, protocol.metric, protocol.higher_is_better
            )
    chosen = list(protocols)
    if not chosen:
        newest = dict(sorted(tasks))
        encoders = {f"{id_}-v{v}": tasks[id_, v].evidences for id_, v in newest.items()}
        block, _ = largest_block(encoders, least_protocols)
        chosen = [(id_, v) for id_, v in newest.items() if f"{id_}-v{v}" in block]
        if not chosen:
            return None
    for id_, version in chosen:
        if (id_, version) not in tasks:
            raise ValueError(f"no record of {id_}-v{version} may be ranked; name another protocol")
    return mean_ranks({f"{id_}-v{v}": tasks[id_, v] for id_, v in chosen})
