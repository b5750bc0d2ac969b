"""Section 'data' of gpu.py."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from gpu_bench import Bench, Row


def parts(bench: Bench) -> Iterator[tuple[str, Callable[[], Row | list[Row]]]]:
    """The parts to measure."""
    yield from ()
