"""Work on many files in processes of this machine's cores, group by group."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from pe_dense.data.forked_workers import max_workers

GROUP = 64
FEW = 4 * GROUP  # starting processes would take longer

Tick = Callable[[int, int], None]  # (files done, files to do)
Progress = Callable[[str], Tick]  # makes one from the title of a piece of work


def silent(title: str) -> Tick:
    """Shows no progress."""
    del title
    return lambda done, total: None


def each_group(
    work: Callable[[Sequence[Any]], Any], files: Sequence[Any], tick: Tick
) -> Iterator[Any]:
    """`work(part)` of consecutive parts of a list, in order.

    Args:
        work: A function of a module, or a partial of one: takes and returns what can be pickled,
            and uses numpy and decoders only (torch and its threads do not survive a fork).
        files: What it is given in groups.
        tick: Called after each group.
    """
    groups = [files[at : at + GROUP] for at in range(0, len(files), GROUP)]
    cores = min(max_workers(), len(groups))
    if len(files) <= FEW or cores < 2:
        yield from _ticked(map(work, groups), len(files), tick)
        return
    context = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(cores, mp_context=context) as pool:
        yield from _ticked(pool.map(work, groups), len(files), tick)


def _ticked(results: Iterator[Any], total: int, tick: Tick) -> Iterator[Any]:
    for number, result in enumerate(results, start=1):
        tick(min(number * GROUP, total), total)
        yield result
