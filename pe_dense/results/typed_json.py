"""JSON values as the declared types of a dataclass, or one sentence naming the field.

Strict both ways: an unknown, missing or doubled key, a number that is not finite, true where a
number is wanted, each is an error. The hints understood are those that records use: scalars,
'X | None', dict[str, X], tuple[X, ...], tuple[X, Y] and further dataclasses.

Why not a library: msgspec does not name the key of a dict ('scores[...]'), lets unknown keys of
dataclasses, doubled keys and infinity pass, and takes no NumPy numbers; pydantic takes 0.19 s to
import and a translator of its errors as long as this file.
"""

from __future__ import annotations

import dataclasses
import math
import numbers
import types
import typing
from typing import Any

_WORDS = {str: "a text", int: "a whole number", float: "a number", bool: "true or false"}


def parse(hint: Any, value: Any, where: str, optional: bool = False) -> Any:
    """The value as the declared type, or ValueError; `where` is the dotted name of the field."""
    args = typing.get_args(hint)
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        inner = [arg for arg in args if arg is not type(None)]
        assert len(inner) == 1, f"only 'X | None' is supported, not {hint}"
        return None if value is None else parse(inner[0], value, where, optional=True)
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        if isinstance(value, hint):
            value = {f.name: getattr(value, f.name) for f in dataclasses.fields(hint)}
        if not isinstance(value, dict):
            raise _wrong_type(where, value, "an object", optional)
        check_keys(hint, value, f"{where}.")
        hints = typing.get_type_hints(hint)
        return hint(**{k: parse(hints[k], v, f"{where}.{k}") for k, v in value.items()})
    if typing.get_origin(hint) is dict:
        if not isinstance(value, dict):
            raise _wrong_type(where, value, "an object", optional)
        return {
            parse(str, k, f"{where} (a key)"): parse(args[1], v, f"{where}.{k}")
            for k, v in value.items()
        }
    if typing.get_origin(hint) is tuple and args[1] is Ellipsis:
        if not isinstance(value, list | tuple):
            raise _wrong_type(where, value, "a list", optional)
        return tuple(parse(args[0], v, f"{where}[{i}]") for i, v in enumerate(value))
    if typing.get_origin(hint) is tuple:
        if not isinstance(value, list | tuple) or len(value) != len(args):
            raise _wrong_type(where, value, f"a list of {len(args)} numbers", optional)
        return tuple(parse(arg, v, where) for arg, v in zip(args, value, strict=True))
    return _parse_scalar(hint, value, where, optional)


def _parse_scalar(hint: Any, value: Any, where: str, optional: bool) -> Any:
    accepted: Any = {int: numbers.Integral, float: numbers.Real}.get(hint, hint)
    if not isinstance(value, accepted) or (hint is not bool and isinstance(value, bool)):
        raise _wrong_type(where, value, _WORDS[hint], optional)
    if hint is str:
        try:
            value.encode()
        except UnicodeEncodeError:
            raise _wrong_type(where, value, "a text of valid Unicode", optional) from None
    if hint is float:
        try:
            value = float(value)
        except OverflowError:
            value = math.inf
        if not math.isfinite(value):
            raise ValueError(f"field '{where}' is {value}; leave it out or give a finite number")
    return hint(value)


def check_keys(cls: type, data: dict[str, Any], prefix: str) -> None:
    """Raises ValueError unless the keys are exactly the fields of the dataclass."""
    names = [f.name for f in dataclasses.fields(cls)]
    for key in data:
        if key not in names:
            raise ValueError(
                f"unknown field '{prefix}{key}'; remove it (allowed here: {', '.join(names)})"
            )
    for name in names:
        if name not in data:
            raise ValueError(f"field '{prefix}{name}' is missing; add it")


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Hook for `json.loads` that refuses a key given twice, which JSON readers drop silently."""
    data: dict[str, Any] = {}
    for key, value in pairs:
        if key in data:
            raise ValueError(f"field '{key}' is given twice; keep one")
        data[key] = value
    return data


def _wrong_type(where: str, value: Any, wanted: str, optional: bool) -> ValueError:
    wanted += " or null" if optional else ""
    return ValueError(f"field '{where}' is {shown(value)} but must be {wanted}; correct it")


def shown(value: Any) -> str:
    """The value for an error message, at most 60 characters."""
    if value is None:
        return "null"
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
