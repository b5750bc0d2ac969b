"""Numbers of one paper that stand, digit for digit, in another one under another protocol.

Baselines are often taken over from a table whose recipe was another one. One equal number is chance
(they have three digits); two or more between two papers are not, and each has to be marked.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from pe_dense.results.record import Record

MARK = "the same digits"
# Fewer equal numbers between two papers prove nothing.
FEWEST = 2


def unmarked_repeats(found: Sequence[tuple[str, Record]]) -> list[str]:
    """Reported numbers that repeat those of another paper under another protocol, without a mark.

    Numbers are compared that are of one encoder on one data set in one metric; the mark may stand
    at either of the two.

    Args:
        found: Places, for messages, and reported records.

    Returns:
        A sentence for each.
    """
    cells: dict[tuple[str, str, str, str, float], list[tuple[str, Record]]] = defaultdict(list)
    for place, record in found:
        metric, dataset = record.protocol.metric, record.dataset
        cell = (record.encoder.name, dataset.name, dataset.split, metric, record.scores[metric])
        cells[cell].append((place, record))
    pairs = defaultdict(list)
    for same in cells.values():
        for i, first in enumerate(same):
            for second in same[:i]:
                papers = sorted({_paper(first[1]), _paper(second[1])})
                if len(papers) == 2 and first[1].protocol.id != second[1].protocol.id:
                    pairs[tuple(papers)].append((first, second))
    return [
        f"{place}: its number is that of {other}, which is of another protocol, and {len(equal)} "
        f"numbers of the two papers are equal so; begin or end its mark with '{MARK} as in ...'"
        for equal in pairs.values()
        if len(equal) >= FEWEST
        for (place, record), (other, other_record) in equal
        if not (_is_marked(record) or _is_marked(other_record))
    ]


def _paper(record: Record) -> str:
    assert record.source is not None
    return record.source.paper


def _is_marked(record: Record) -> bool:
    return record.source is not None and MARK in record.source.mark
