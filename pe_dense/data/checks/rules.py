"""Rules of sound data, and what a check finds: which are broken, how often, where, what to do.

A check never raises for what it finds: findings are data. Whoever reads them prints all
(`tools/prepare_data.py`) or refuses at the first problem (`require_sound`, in training and
scoring), so that a problem is the same, in the same words, everywhere.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

MAX_EXAMPLES = 3


@dataclass(frozen=True)
class Rule:
    """One thing that sound data keep to.

    Attributes:
        name: Short name, which `--accept` takes: 'negative-boxes'.
        kind: What breaks it, as a heading: 'boxes of negative width or height'.
        remedy: What to do, as an order: 'put width and height right'.
        accepted: What happens to such data where they are accepted by name: 'left out of training
            and of scores'; '' where they cannot be used at all.
        is_problem: Whether training and scoring refuse it; otherwise it is a note.
    """

    name: str
    kind: str
    remedy: str = ""
    accepted: str = ""
    is_problem: bool = True


@dataclass(frozen=True)
class Fault:
    """One place that breaks a rule, read as a sentence: '<file>: <item> <value>'.

    Attributes:
        file: The file, as a person can open it.
        item: What in it: 'annotation 7'; '' for the file itself.
        value: What is wrong there: 'has bbox [3, 4, -5, 6]'.
    """

    file: str
    item: str
    value: str

    def __str__(self) -> str:
        return f"{self.file}: {' '.join(filter(None, (self.item, self.value)))}"


@dataclass(frozen=True)
class Finding:
    """One broken rule, however often it is broken.

    Attributes:
        rule: The rule.
        count: How often.
        examples: The first few places; a note may have none.
    """

    rule: Rule
    count: int
    examples: tuple[Fault, ...] = ()

    @property
    def is_problem(self) -> bool:
        """Whether it must be put right or accepted."""
        return self.rule.is_problem

    def brief(self) -> str:
        """For a record: 'negative-boxes (3 in annotations/val.json)'."""
        files = {example.file for example in self.examples}
        where = f" in {'/'.join(Path(*files).parts[-2:])}" if len(files) == 1 else ""
        return f"{self.rule.name} ({self.count:,}{where})"

    def lines(self, is_accepted: bool = False) -> list[str]:
        """For a list of all findings: the heading with the count, and the examples below.

        Args:
            is_accepted: Say what happens to such data instead of what to do.
        """
        more = self.count - len(self.examples)
        tail = [f"    ... and {more:,} more"] if self.examples and more > 0 else []
        last = f"accepted: {self.rule.accepted}" if is_accepted else self.rule.remedy
        remedy = [f"    {last}"] if last else []
        examples = [f"    {example}" for example in self.examples]
        return [f"{self.rule.kind}: {self.count:,}", *examples, *tail, *remedy]

    def sentence(self) -> str:
        """For an error: the first place, how many more there are, and what to do."""
        first = str(self.examples[0]) if self.examples else f"{self.rule.kind}: {self.count:,}"
        more = f" (and {self.count - 1:,} more of this kind)" if self.count > 1 else ""
        accept = f"accept them with --accept {self.rule.name}" if self.rule.accepted else ""
        remedy = ", or ".join(filter(None, (self.rule.remedy, accept)))
        return f"{first}{more}; {remedy}" if remedy else f"{first}{more}"


class UnsoundError(ValueError):
    """Something breaks a rule where it is read; says what a check says of it. See `broken`.

    Args:
        text: The sentence; it alone comes back from a loading worker.
        finding: What it was made from.
    """

    def __init__(self, text: str, finding: Finding | None = None) -> None:
        super().__init__(text)
        self.finding = finding


def broken(rule: Rule, file: object, value: str, item: str = "") -> UnsoundError:
    """The error of one place that breaks a rule."""
    finding = Finding(rule, 1, (Fault(str(file), item, value),))
    return UnsoundError(finding.sentence(), finding)


class FindingCollector:
    """Gathers faults into one finding per rule, in the order in which rules are first broken.

    Args:
        file: The file of all faults that name no other.
    """

    def __init__(self, file: object = "") -> None:
        self.file = str(file)
        self._found: dict[Rule, tuple[int, list[Fault]]] = {}

    def add(self, rule: Rule, item: str, value: str, file: object = None) -> None:
        """One more place that breaks a rule."""
        count, examples = self._found.get(rule, (0, []))
        if count < MAX_EXAMPLES:
            examples.append(Fault(self.file if file is None else str(file), item, value))
        self._found[rule] = (count + 1, examples)

    def add_marked(
        self, rule: Rule, marked: np.ndarray, example: Callable[[int], tuple[str, str]] | None
    ) -> None:
        """All places that are marked, or nothing if none is.

        Args:
            rule: The rule.
            marked: (N,) bool.
            example: Place -> item and value, asked for the first few; None gives no examples.
        """
        places = np.flatnonzero(marked)
        if len(places):
            count, examples = self._found.get(rule, (0, []))
            for place in places[: MAX_EXAMPLES - len(examples)] if example is not None else ():
                examples.append(Fault(self.file, *example(int(place))))
            self._found[rule] = (count + len(places), examples)

    def add_count(self, rule: Rule, count: int) -> None:
        """So many more without an example; nothing for 0."""
        if count:
            before, examples = self._found.get(rule, (0, []))
            self._found[rule] = (before + count, examples)

    def add_finding(self, finding: Finding) -> None:
        """What was found elsewhere."""
        count, examples = self._found.get(finding.rule, (0, []))
        examples.extend(finding.examples[: MAX_EXAMPLES - len(examples)])
        self._found[finding.rule] = (count + finding.count, examples)

    def findings(self) -> list[Finding]:
        """All of them."""
        return [
            Finding(rule, count, tuple(examples)) for rule, (count, examples) in self._found.items()
        ]


@dataclass(frozen=True)
class CheckedData:
    """What a check of a config's data returns.

    Attributes:
        table: What the data hold, for a person.
        findings: Notes and problems of all splits.
        rules: All rules that were looked at, broken or not.
    """

    table: str
    findings: Sequence[Finding] = field(default_factory=tuple)
    rules: Sequence[Rule] = field(default_factory=tuple)


def problems(findings: Iterable[Finding]) -> list[Finding]:
    """Those that must be put right, or accepted."""
    return [finding for finding in findings if finding.is_problem]


def require_sound(findings: Iterable[Finding], accepted: Sequence[str] = ()) -> list[Finding]:
    """Refuse data with a problem that was not accepted by name.

    Args:
        findings: Of a check.
        accepted: Names of rules that may be broken.

    Returns:
        The problems that were accepted.

    Raises:
        ValueError: With one sentence of the first other problem.
    """
    found = problems(findings)
    refused = [f for f in found if f.rule.name not in accepted or not f.rule.accepted]
    if refused:
        others = dict.fromkeys(f.rule.kind for f in refused[1:] if f.rule != refused[0].rule)
        tail = f" (besides: {', '.join(others)})" if others else ""
        raise ValueError(refused[0].sentence() + tail)
    return found


def require_known(accepted: Sequence[str], rules: Iterable[Rule]) -> None:
    """Refuse names to accept that no rule has, or that belong to a rule without exceptions.

    Raises:
        ValueError: Naming what can be accepted.
    """
    names = {rule.name: bool(rule.accepted) for rule in rules}
    for name in accepted:
        if names.get(name):
            continue
        can = sorted(key for key, is_acceptable in names.items() if is_acceptable)
        near = difflib.get_close_matches(name, can, n=1)
        known = (
            f"these data can be accepted with: {', '.join(can)}"
            if can
            else ("nothing can be accepted with these data")
        )
        hint = f" (near: {near[0]})" if near else ""
        raise ValueError(f"--accept {name} names no fault that can be accepted{hint}; {known}")


def to_plain(findings: Iterable[Finding]) -> list[dict[str, Any]]:
    """Findings as JSON can hold them."""
    return [asdict(finding) for finding in findings]


def from_plain(items: Iterable[Mapping[str, Any]]) -> list[Finding]:
    """What `to_plain` made."""
    return [
        Finding(
            Rule(**item["rule"]), item["count"], tuple(Fault(**place) for place in item["examples"])
        )
        for item in items
    ]
