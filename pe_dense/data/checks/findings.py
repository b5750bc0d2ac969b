"""What a check of data finds: problems, which training or scoring cannot bear, and notes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

MAX_EXAMPLES = 3


@dataclass(frozen=True)
class Finding:
    """One kind of fault, however often it occurs.

    Attributes:
        kind: What is wrong, as a heading: 'boxes outside the image'.
        count: How often.
        examples: The first few, one sentence each.
        is_problem: Whether it must be put right; otherwise a note that training and scoring
            tolerate.
    """

    kind: str
    count: int
    examples: tuple[str, ...]
    is_problem: bool = True

    def lines(self) -> list[str]:
        """As text: the heading with the count, and the examples below."""
        more = self.count - len(self.examples)
        tail = [f"    ... and {more:,} more"] if self.examples and more > 0 else []
        return [f"{self.kind}: {self.count:,}", *(f"    {text}" for text in self.examples), *tail]


class FindingCollector:
    """Gathers faults into one finding per kind, in the order in which kinds first appear."""

    def __init__(self) -> None:
        self._kinds: dict[tuple[str, bool], tuple[int, list[str]]] = {}

    def add(self, kind: str, example: str, is_problem: bool = True) -> None:
        """One more of a kind."""
        count, examples = self._kinds.get((kind, is_problem), (0, []))
        if count < MAX_EXAMPLES:
            examples.append(example)
        self._kinds[kind, is_problem] = (count + 1, examples)

    def add_marked(
        self,
        kind: str,
        marked: np.ndarray,
        example: Callable[[int], str] | None = None,
        is_problem: bool = True,
    ) -> None:
        """All places that are marked, or nothing if none is.

        Args:
            kind: As in `Finding`.
            marked: (N,) bool.
            example: Place -> what is wrong there, of the first few; None gives no examples.
            is_problem: As in `Finding`.
        """
        places = np.flatnonzero(marked)
        if len(places):
            count, examples = self._kinds.get((kind, is_problem), (0, []))
            for place in places[: MAX_EXAMPLES - len(examples)] if example is not None else ():
                examples.append(example(int(place)))
            self._kinds[kind, is_problem] = (count + len(places), examples)

    def findings(self) -> list[Finding]:
        """All of them."""
        return [
            Finding(kind, count, tuple(examples), is_problem)
            for (kind, is_problem), (count, examples) in self._kinds.items()
        ]


def problems(findings: Iterable[Finding]) -> list[Finding]:
    """Those that must be put right."""
    return [finding for finding in findings if finding.is_problem]
