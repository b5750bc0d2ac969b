"""In which steps two protocols differ: their settings side by side, where they are not the same.

A setting that a config names at the top ('lr = 1e-3') and uses elsewhere ('$lr') is told once, by
its name. Facts of the encoder ('$encoder.embed_dim') stay as they are: it is free in both.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from mmengine.config import Config

from pe_dense.run.config import load_template
from pe_dense.run.config_files import CONFIGS, config_files
from pe_dense.run.protocol import STORED, protocol_settings, stored_protocols
from pe_dense.run.protocol_steps import STEPS, step_of
from pe_dense.run.references import references, substitute, values_of

_ID = re.compile(r"^protocol = dict\(\s*id=['\"]([^'\"]+)['\"]", re.MULTILINE)


# Variables of config files that stand, copied, in a loader; nothing reads them where they are.
_COPIED = ("train_pipeline", "test_pipeline", "train_set")


class Absent:
    """In the place of a setting that one of two protocols does not have."""

    def __repr__(self) -> str:
        """How it is printed."""
        return "-"


ABSENT = Absent()


class Difference(NamedTuple):
    """One setting that differs.

    Attributes:
        step: One of `protocol_steps.STEPS`.
        setting: Its place, 'optim_wrapper.clip_grad.max_norm'.
        first, second: Values, `ABSENT` where a protocol has no such setting.
    """

    step: str
    setting: str
    first: Any
    second: Any


def find_protocol(name: str) -> tuple[str, Config]:
    """The config of a protocol and its template.

    Args:
        name: A config file; or an id, with '-v<version>' or without (the version of today).

    Raises:
        ValueError: If there is none, with near names; if that version's config is no more.
    """
    if name.endswith(".py"):
        template = load_template(name)
        if "protocol" not in template:
            raise ValueError(f"{name} defines no protocol; name one that does, or an id")
        return name, template
    ids = _ids_in_configs()
    bare = re.sub(r"-v[0-9]+$", "", name)
    for path in ids.get(name, ids.get(bare, [])):
        template = load_template(path)
        protocol = template.protocol
        if name in (protocol.id, f"{protocol.id}-v{protocol.version}"):
            return path.as_posix(), template
    if name in stored_protocols(STORED):
        raise ValueError(
            f"{name} is an older version, whose settings no config has today; check out the commit "
            f"that had it, or name today's {bare}"
        )
    near = difflib.get_close_matches(name, ids, 4, 0.5)
    hint = f"did you mean {', '.join(near)}?" if near else f"see {STORED}"
    raise ValueError(f"no protocol is called {name!r}; {hint}")


def _ids_in_configs() -> dict[str, list[Path]]:
    """Ids of protocols -> configs that write them, without loading one."""
    found: dict[str, list[Path]] = {}
    for path, file in config_files().items():
        inner = path.relative_to(CONFIGS).parts
        if inner[0] != "suites" and not any(part.startswith("_") for part in inner):
            for name in _ID.findall(file.read_text(encoding="utf-8")):
                found.setdefault(name, []).append(path)
    return found


def differences(first: Config, second: Config) -> list[Difference]:
    """Settings in which two protocols differ, by step and place.

    Args:
        first: Template of one, see `load_template`.
        second: Of the other.
    """
    sides = _Side(first), _Side(second)
    walk = _Walk(*sides)
    found = list(walk.rows("", sides[0].settings, sides[1].settings))
    used = sides[0].used | sides[1].used
    rows = {
        path: (a, b)
        for path, a, b in found
        # A name that is used is told where it stands alone only if both use it in one place.
        if path not in used or path in walk.shared
        if _top(path) not in _COPIED or _top(path) in used
    }
    rows = {path: pair for path, pair in rows.items() if rows.get(_as_test(path)) != pair}
    told = [Difference(step_of(path), path, a, b) for path, (a, b) in rows.items()]
    return sorted(told, key=lambda row: (STEPS.index(row.step), row.setting))


def _top(path: str) -> str:
    return re.split(r"[.\[]", path, maxsplit=1)[0]


def _as_test(path: str) -> str | None:
    """What is tested with, for what is validated with while training."""
    return "test_" + path.removeprefix("val_") if path.startswith("val_") else None


class _Side:
    """The settings of one protocol, its names and their values."""

    def __init__(self, template: Config) -> None:
        stated = template.get("protocol") or {}
        protocol = {k: v for k, v in stated.items() if k not in ("id", "version")}
        self.settings = {
            **protocol_settings(template),
            "processes": template.get("processes", 1),
            "protocol": protocol,
        }
        self.used = references(self.settings)
        names = {key: value for key, value in template.items() if not isinstance(value, dict)}
        asked = self.used | references(names)
        facts = {name: f"encoder's {name.partition('.')[2]}" for name in asked if "." in name}
        self.values: Mapping[str, Any] = values_of(names, facts, template.filename)

    def value(self, raw: Any) -> Any:
        """A setting with its references replaced."""
        return raw if raw is ABSENT else substitute(raw, self.values)


class _Walk:
    """Goes through two configs at once; notes names that both use in the same place."""

    def __init__(self, first: _Side, second: _Side) -> None:
        self.first, self.second = first, second
        self.shared: set[str] = set()

    def rows(self, path: str, a: Any, b: Any) -> Iterator[tuple[str, Any, Any]]:
        """Places below `path` where the values differ, with both values."""
        if a is not ABSENT and b is not ABSENT and _same(a, b):
            self.shared |= references(a)
            return
        if isinstance(a, str):
            a = self.first.value(a)
        if isinstance(b, str):
            b = self.second.value(b)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            for key in [*a, *(key for key in b if key not in a)]:
                inner = f"{path}.{key}" if path else str(key)
                yield from self.rows(inner, a.get(key, ABSENT), b.get(key, ABSENT))
            return
        keyed = _by_type(a), _by_type(b)
        if keyed[0] is not None and keyed[1] is not None:
            first, second = keyed
            for key in [*first, *(key for key in second if key not in first)]:
                yield from self.rows(
                    f"{path}[{key}]", first.get(key, ABSENT), second.get(key, ABSENT)
                )
            shared = [[key for key in one if key in first and key in second] for one in keyed]
            if shared[0] != shared[1]:
                yield f"{path}[order]", shared[0], shared[1]
            return
        first_value, second_value = self.first.value(a), self.second.value(b)
        if not _same(first_value, second_value):
            yield path, _lists(first_value), _lists(second_value)


def _same(a: Any, b: Any) -> bool:
    """Equal as the hash sees them: lists and tuples are one, 1 and 1.0 and True are not."""
    return _plain(a) == _plain(b)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return (type(value), value) if isinstance(value, bool | int | float) else value


def _lists(value: Any) -> Any:
    """The value with lists for tuples."""
    if isinstance(value, Mapping):
        return {key: _lists(item) for key, item in value.items()}
    return [_lists(item) for item in value] if isinstance(value, list | tuple) else value


def _by_type(value: Any) -> dict[str, Any] | None:
    """Entries of a list by their type, numbered where one comes again; None for other lists."""
    if not isinstance(value, list | tuple) or not value:
        return None
    found: dict[str, Any] = {}
    for item in value:
        if not isinstance(item, Mapping) or "type" not in item:
            return None
        name, count = str(item["type"]), 1
        while name in found:
            count += 1
            name = f"{item['type']} {count}"
        found[name] = item
    return found


def lines_of(found: list[Difference]) -> list[str]:
    """The differences as text: a line for every step, below it one for every setting."""
    lines = []
    for step in STEPS:
        mine = [row for row in found if row.step == step]
        if not mine:
            continue
        lines.append(step)
        width = max(len(row.setting) for row in mine)
        lines += [
            f"  {row.setting:<{width}}  {_text(row.first)} | {_text(row.second)}" for row in mine
        ]
    return lines


def _text(value: Any) -> str:
    """A value on one line; dicts as settings, their type first."""
    if isinstance(value, Mapping):
        rest = ", ".join(f"{key}={_text(item)}" for key, item in value.items() if key != "type")
        return f"{value.get('type', '')}({rest})"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_text, value))}]"
    return value if isinstance(value, str) else repr(value)
