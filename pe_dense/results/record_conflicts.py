"""Records against each other: what must be one for a protocol, and what cannot be two encoders'.

Where records of a protocol disagree about a fact that is one for all of them, those that are not
with most are named; of as many on both sides, those that were made later. Where two records share
what only one can have, both are named, since nobody can tell the copy.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass

from pe_dense.results.recomputed import Recomputed
from pe_dense.results.record import Record, Selection
from pe_dense.results.store import record_path

COPIED = 0.5  # share of items on which two encoders did exactly the same
FEW_ITEMS = 5  # below, a share says nothing


@dataclass(frozen=True)
class Entry:
    """A record with what its evidence gives; None where it has none."""

    record: Record
    found: Recomputed | None

    @property
    def name(self) -> str:
        """Its path in the store."""
        return str(record_path(self.record))

    @property
    def weights(self) -> tuple[str, str | None]:
        """Encoder and weights."""
        return self.record.encoder.name, self.record.encoder.weights_sha256


def find_conflicts(entries: Sequence[Entry], others: Sequence[Record] = ()) -> dict[str, list[str]]:
    """Path of a record -> one clause for each conflict; records without one are left out.

    Args:
        entries: Measured records.
        others: Records of the same pages that are never named, such as those of papers.
    """
    conflicts: dict[str, list[str]] = defaultdict(list)
    for group in _grouped(entries, lambda e: (e.record.protocol.id, e.record.protocol.version)):
        papers = [r for r in others if _protocol(r) == _protocol(group[0].record)]
        for field, value_of in _ONE_FOR_A_PROTOCOL.items():
            _name_odd(group, papers, field, value_of, conflicts)
        for same in _grouped(group, lambda e: e.record.encoder.name):
            _name_odd(
                same, [], "field 'encoder.num_params'", lambda r, _: r.encoder.num_params, conflicts
            )
        _name_near_copies(group, conflicts)
    for group in _grouped(entries, lambda e: e.weights):
        _name_odd(group, [], _PUBLISHED, lambda r, _: r.encoder.published, conflicts)
    for group in _grouped(entries, _released):
        _name_odd(group, [], _SHA256, lambda r, _: r.encoder.weights_sha256, conflicts)
    for group in _grouped(entries, lambda e: e.record.evidence and e.record.evidence.sha256):
        _name_shared(group, "the same evidence", conflicts)
    for group in _grouped(entries, lambda e: e.record.checkpoint_sha256):
        _name_shared(group, "the same checkpoint", conflicts, seeds=False)
        _name_prints(group, "this checkpoint", conflicts)
    for group in _grouped(entries, _as_downloaded):
        _name_prints(group, "these weights", conflicts)
    return dict(conflicts)


_PUBLISHED = "field 'encoder.published'"
_SHA256 = "field 'encoder.weights_sha256'"


def _released(entry: Entry) -> str | None:
    """Encoder whose one released file was scored."""
    encoder = entry.record.encoder
    return encoder.name if encoder.published == "the released file" else None


def _grouped(
    entries: Iterable[Entry], key: Callable[[Entry], Hashable | None]
) -> list[list[Entry]]:
    """Entries with the same key, where several have it; None is no key."""
    groups: dict[Hashable, list[Entry]] = defaultdict(list)
    for entry in entries:
        if (found := key(entry)) is not None:
            groups[found].append(entry)
    return [group for group in groups.values() if group]


def _protocol(record: Record) -> tuple[str, int]:
    return record.protocol.id, record.protocol.version


def _choice(record: Record, of: Callable[[Selection], Hashable]) -> Hashable | None:
    """What is said of a choice; records from before it was kept say nothing."""
    if record.selection is None:
        return None if record.training is None else "nothing was chosen"
    return of(record.selection)


# ---- one for a protocol --------------------------------------------------------------------------

_ONE_FOR_A_PROTOCOL: dict[str, Callable[[Record, Recomputed | None], Hashable | None]] = {
    "field 'task'": lambda r, _: r.task,
    "field 'protocol.metric'": lambda r, _: r.protocol.metric,
    "field 'protocol.higher_is_better'": lambda r, _: r.protocol.higher_is_better,
    "field 'protocol.config_sha256'": lambda r, _: r.protocol.config_sha256,
    "field 'dataset.name'": lambda r, _: r.dataset.name,
    "field 'dataset.split'": lambda r, _: r.dataset.split,
    "field 'dataset.num_items'": lambda r, _: r.dataset.num_items,
    "field 'dataset.sha256'": lambda r, _: r.dataset.sha256,
    "field 'selection.on'": lambda r, _: _choice(r, lambda chosen: chosen.on),
    "field 'training.rule'": lambda r, _: r.training and r.training.rule,
    "the set of scored items": lambda _, found: found and found.items_sha256,
    "what is annotated on them": lambda _, found: found and found.truth_sha256,
}


def _name_odd(
    group: Sequence[Entry],
    papers: Sequence[Record],
    field: str,
    value_of: Callable[[Record, Recomputed | None], Hashable | None],
    conflicts: dict[str, list[str]],
) -> None:
    """Names the entries whose value is not that of most."""
    values = [(value_of(e.record, e.found), e.record.created, e) for e in group]
    known = [(value, created, e) for value, created, e in values if value is not None]
    of_papers = [value for r in papers if (value := value_of(r, None)) is not None]
    counts = Counter([*(value for value, *_ in known), *of_papers])
    if len(counts) < 2:
        return
    first: dict[Hashable, str] = {}
    for value, created, _ in known:
        first[value] = min(created, first.get(value, created))
    # Numbers of papers are in the repository and were read by somebody: they come first.
    usual = min(counts, key=lambda v: (v not in of_papers, -counts[v], first.get(v, ""), str(v)))
    for value, _, entry in known:
        if value != usual:
            same = "{}-v{}".format(*_protocol(entry.record))
            if field in (_PUBLISHED, _SHA256):
                same = f"{entry.record.encoder.name} with these weights"
            conflicts[entry.name].append(
                f"{field} is {_shown(value)}, but {_shown(usual)} in other records of {same}"
            )


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 30 else f"{text[:13]}...{text[:1]}"


# ---- what only one can have ----------------------------------------------------------------------


def _name_shared(
    group: Sequence[Entry], what: str, conflicts: dict[str, list[str]], seeds: bool = True
) -> None:
    """Names entries that share what belongs to one encoder, or to one seed of a training."""
    for entry in group:
        for other in group:
            if entry.weights != other.weights:
                why = "which is another encoder, or has other weights"
            elif not seeds or entry.name == other.name:
                continue
            elif entry.record.checkpoint_sha256 is not None:
                why = "which is another run"
            elif _protocol(entry.record) == _protocol(other.record):
                why = "which is another seed, though nothing is left to chance; keep one"
            else:
                continue
            conflicts[entry.name].append(f"has {what} as {other.name}, {why}")
            break


def _name_near_copies(group: Sequence[Entry], conflicts: dict[str, list[str]]) -> None:
    """Names entries that did the very same on most items as one that is not theirs."""
    with_sketch = [e for e in group if e.found is not None and len(e.found.sketch) >= FEW_ITEMS]
    owner: dict[tuple[str, str], list[Entry]] = defaultdict(list)
    for entry in with_sketch:
        assert entry.found is not None
        for item in entry.found.sketch.items():
            owner[item].append(entry)
    shared: Counter[tuple[str, str]] = Counter()
    for entries in owner.values():
        for a in entries:
            shared.update((a.name, b.name) for b in entries if a is not b)
    by_name = {entry.name: entry for entry in with_sketch}
    for (name, other), count in sorted(shared.items()):
        a, b = by_name[name], by_name[other]
        assert a.found is not None
        whole = a.record.evidence and b.record.evidence and (
            a.record.evidence.sha256 == b.record.evidence.sha256
        )  # fmt: skip
        trained = a.record.checkpoint_sha256 is not None
        if whole or (a.weights == b.weights and not trained):
            continue
        if count >= COPIED * len(a.found.sketch):
            conflicts[name].append(
                f"gave exactly the same on {count} of {len(a.found.sketch)} items as {other}, "
                "which is another run"
            )


# ---- prints of the encoder -----------------------------------------------------------------------


def _as_downloaded(entry: Entry) -> Hashable | None:
    """What fixes the features of an encoder that was not trained; None where it was."""
    record = entry.record
    nothing = record.training is not None and record.training.chosen == "nothing to train"
    if record.checkpoint_sha256 is not None and not nothing:
        return None
    seed = record.seed if record.encoder.weights == "random" else None
    return (*entry.weights, record.encoder.num_params, seed)


def _name_prints(group: Sequence[Entry], of_what: str, conflicts: dict[str, list[str]]) -> None:
    """Names entries whose fingerprint is not that of most with the same tensors."""
    prints = [str(entry.record.encoder.feature_fingerprint) for entry in group]
    support = [sum(prints_agree(mine, other) for other in prints) for mine in prints]
    usual = prints[min(range(len(group)), key=lambda i: (-support[i], group[i].record.created))]
    for entry, mine in zip(group, prints, strict=True):
        if not prints_agree(mine, usual):
            conflicts[entry.name].append(
                f"field 'encoder.feature_fingerprint' is {mine}, but {usual} in other records of "
                f"{of_what}"
            )


def prints_agree(first: str, second: str) -> bool:
    """Whether two fingerprints are of the same features; as `encoders.fingerprint` says it.

    Rounding moves a digit by 1, modulo 16; other features move most digits by more.
    """
    if len(first) != len(second):
        return False
    steps = [(int(a, 16) - int(b, 16)) % 16 for a, b in zip(first, second, strict=True)]
    return all(step in (0, 1, 15) for step in steps)
