"""'$name' in a config: which names a value refers to, and putting their values there.

References are what a config file wrote. Text that a person gives (`--encoder`, `--weights`,
`--cfg-options`) or that is found in the data goes in as it is, a '$' in a path or a class name
included.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# Only encoder and data have facts behind a dot, so that '$split.json' is a name and a suffix.
REFERENCE = re.compile(r"\$((?:encoder|data)\.\w+|[A-Za-z_]\w*)", re.ASCII)


class Given(str):
    """Text from a person: a '$' in it means nothing. In resolved configs it is plain text."""

    __slots__ = ()


def substitute(value: Any, names: Mapping[str, Any]) -> Any:
    """Replace '$name' everywhere in a nested config value, but not in what is `Given`.

    A string that is one reference takes the named value whatever its type; inside a longer
    string the value must be a string or a number. Values go in as they are: a '$' in them stays.

    Raises:
        ValueError: If a name is unknown.

    Example:
        >>> substitute({"end": "$n", "path": "$root/x.json"}, {"n": 3, "root": "data"})
        {'end': 3, 'path': 'data/x.json'}
    """
    if isinstance(value, dict):
        return type(value)({key: substitute(item, names) for key, item in value.items()})
    if isinstance(value, (list, tuple)):
        return type(value)(substitute(item, names) for item in value)
    if isinstance(value, Given):
        return str(value)
    if not isinstance(value, str) or "$" not in value:
        return value

    def lookup(match: re.Match) -> Any:
        if match.group(1) not in names:
            raise ValueError(
                f"config value {value!r} refers to {match.group(0)}, which the config does not "
                f"define; it has {', '.join(sorted(names))}"
            )
        return names[match.group(1)]

    whole = REFERENCE.fullmatch(value)
    return lookup(whole) if whole else REFERENCE.sub(lambda m: str(lookup(m)), value)


def references(value: Any) -> set[str]:
    """The names that `substitute` would look up."""
    if isinstance(value, (list, tuple)):
        return set().union(*map(references, value))
    if isinstance(value, dict):
        return references(list(value.values()))
    return set(REFERENCE.findall(value)) if type(value) is str else set()


def own_names(names: Mapping[str, Any]) -> dict[str, Any]:
    """The names whose values depend on no fact of encoder or data, directly or through others."""
    own = dict(names)
    while True:
        gone = names.keys() - own.keys()
        strange = {
            key
            for key, value in own.items()
            if any("." in name or name in gone for name in references(value))
        }
        if not strange:
            return own
        own = {key: value for key, value in own.items() if key not in strange}


def values_of(
    names: Mapping[str, Any], facts: Mapping[str, Any], path: str | Path
) -> dict[str, Any]:
    """Facts as they are, and names with the values of the names that they refer to."""
    values = dict(facts)
    left = dict(names)
    while left:
        ready = {k: v for k, v in left.items() if not references(v) & left.keys()}
        if not ready:
            circle = ", ".join(f"${key}" for key in sorted(left))
            raise ValueError(f"config {path}: {circle} refer to each other in a circle")
        known = {**names, **values}  # all, for errors; those that are looked up are in `values`
        values |= {key: substitute(value, known) for key, value in ready.items()}
        left = {key: value for key, value in left.items() if key not in ready}
    return values
