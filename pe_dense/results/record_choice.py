"""Which two records a person means who names two encoders."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from pe_dense.results.record import Record
from pe_dense.results.store import find_record, load_records, weights_tag


def two_records(
    first: str, second: str, root: str | os.PathLike[str], protocol: str | None = None
) -> tuple[Record, Record]:
    """The records that two words name: files of records, or encoders.

    Args:
        first: A record's file, its path below the root, or 'ENCODER' or 'ENCODER/WEIGHTS', with the
            weights as the leaderboard shows them.
        second: The same.
        root: Root of the store.
        protocol: Id, or 'id-v1'; needed where both encoders have records of several.

    Raises:
        ValueError: If a name is unknown (near ones are named), or fits several records (all are).
    """
    words = (first, second)
    if names_file(first, root) or names_file(second, root):
        if protocol is not None:
            raise ValueError("--protocol chooses among records of encoders; leave it out for files")
        return find_record(first, root), find_record(second, root)
    records = [record for record in load_records(root) if record.origin == "measured"]
    if not records:
        raise ValueError(f"{os.fspath(root)} holds no measured record to compare")
    groups = [_of_encoder(word, records) for word in words]
    shared = sorted(set(map(_protocol, groups[0])) & set(map(_protocol, groups[1])))
    if not shared:
        has = "; ".join(
            f"{word} has {', '.join(sorted(set(map(_protocol, group))))}"
            for word, group in zip(words, groups, strict=True)
        )
        raise ValueError(f"no protocol has records of both: {has}")
    if protocol is not None:
        shared = [_named(protocol, shared)]
    if len(shared) > 1:
        raise ValueError(
            f"{first} and {second} have records of {len(shared)} protocols; add --protocol with "
            f"one of: {', '.join(shared)}"
        )
    kept = [[record for record in group if _protocol(record) == shared[0]] for group in groups]
    for word, group in zip(words, kept, strict=True):
        tags = sorted({weights_tag(record) for record in group})
        if len(tags) > 1:
            name = group[0].encoder.name
            raise ValueError(
                f"{word} has records with several weights; name one of: "
                f"{', '.join(f'{name}/{tag}' for tag in tags)}"
            )
    by_seed = [{record.seed: record for record in group} for group in kept]
    both = sorted(by_seed[0].keys() & by_seed[1].keys())
    seeds = (both[0], both[0]) if both else (min(by_seed[0]), min(by_seed[1]))
    return by_seed[0][seeds[0]], by_seed[1][seeds[1]]


def names_file(word: str, root: str | os.PathLike[str]) -> bool:
    """Whether a word is the file of a record rather than an encoder."""
    places = (Path(word), Path(root) / word, Path(root) / f"{word}.json")
    return any(place.is_file() for place in places)


def _protocol(record: Record) -> str:
    return f"{record.protocol.id}-v{record.protocol.version}"


def _of_encoder(word: str, records: Sequence[Record]) -> list[Record]:
    name, _, weights = word.partition("/")
    found = [record for record in records if record.encoder.name == name]
    if not found:
        names = sorted({record.encoder.name for record in records})
        near = near_or_all(name, names)
        raise ValueError(
            f"{word}: no such record, and no encoder of that name has one; "
            + (
                f"did you mean {', '.join(near)}?"
                if near != names
                else f"there are {', '.join(names)}"
            )
        )
    kept = [record for record in found if weights_tag(record).startswith(weights)]
    if not kept:
        tags = sorted({weights_tag(record) for record in found})
        raise ValueError(f"{word}: no record has these weights; {name} has {', '.join(tags)}")
    return kept


def near_or_all(name: str, known: Iterable[str]) -> list[str]:
    """Names that begin so or resemble it; all where none does.

    Example:
        >>> near_or_all("pe_spatial_t16", ["pe_core_t16_384", "pe_spatial_t16_512"])
        ['pe_spatial_t16_512']
        >>> near_or_all("xyz", ["b", "a"])
        ['a', 'b']
    """
    names = sorted(known)
    plain = name.lower().replace("-", "_")
    begun = [item for item in names if plain and item.startswith(plain)]
    alike = difflib.get_close_matches(plain, names, 3, 0.6)
    return list(dict.fromkeys([*begun, *alike])) or names


def _named(protocol: str, shared: Sequence[str]) -> str:
    """The one of some 'id-v1' that a person named, with the version or without."""
    fits = [key for key in shared if protocol in (key, key.rpartition("-v")[0])]
    if len(fits) == 1:
        return fits[0]
    if fits:
        raise ValueError(f"--protocol {protocol} has several versions: {', '.join(fits)}")
    near = near_or_all(protocol, shared)
    raise ValueError(
        f"--protocol {protocol} is none that both have records of; did you mean {', '.join(near)}?"
    )
