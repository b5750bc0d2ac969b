"""What a checkpoint says of folders of its machine, taken out before it is published.

A stored run knows where its data lay: that is nobody's business, and of no use elsewhere.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pe_dense.run.checkpoint import RunFacts

SHOWN = "/path/to/"  # what a stored command has in the place of a folder
# A path that begins at the root, the home, or a drive; not the slashes of an address or a rule.
_FROM_ROOT = re.compile(r"(?:^|(?<=[\s='\"\[(,]))(?:~?/(?!path/to/)[\w.~-]+/|~/|[A-Za-z]:[\\/])")


def without_folders(facts: RunFacts, file: Path) -> RunFacts:
    """The same facts, in which options and weights that are whole paths have only their last name.

    Args:
        facts: Of the run.
        file: How errors call the checkpoint.

    Raises:
        ValueError: If another text names a folder of the machine; it says which.
    """
    recipe = dict(facts.recipe or {})
    if recipe:
        names = {
            value: _last_name(value)
            for value in _texts({key: recipe.get(key) for key in ("options", "texts")})
            if _FROM_ROOT.match(value)
        }
        if recipe.get("folder"):  # what relative paths of messages began with
            names[str(Path(recipe["folder"]).expanduser())] = "."
        recipe = _replaced(recipe, dict(sorted(names.items(), key=lambda n: -len(n[0]))))
        recipe["folder"] = ""
        facts = dataclasses.replace(facts, recipe=recipe)
    typed = facts.requested_weights
    if typed and _FROM_ROOT.match(typed):
        facts = dataclasses.replace(facts, requested_weights=_last_name(typed))
    for where, text in _places(facts.to_meta()):
        if _FROM_ROOT.search(text):
            raise ValueError(
                f"checkpoint {file} names a folder of your machine in {where}, which everybody "
                "could read; train with a path relative to the current folder"
            )
    return facts


def _last_name(path: str) -> str:
    """Example: '/data/street/' -> 'street'."""
    return re.split(r"[\\/]", path.rstrip("\\/"))[-1] or "data"


def _replaced(value: Any, names: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        for path, name in names.items():
            value = value.replace(path, name)
        return value
    if isinstance(value, Mapping):
        return {key: _replaced(item, names) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_replaced(item, names) for item in value)
    return value


def _places(value: Any, where: str = "") -> Iterator[tuple[str, str]]:
    """Every text of nested values with its place."""
    if isinstance(value, str):
        yield where, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _places(item, f"{where}.{key}".lstrip("."))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _places(item, where)


def _texts(value: Any) -> list[str]:
    return [text for _, text in _places(value)]
