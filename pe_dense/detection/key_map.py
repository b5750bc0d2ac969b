"""Renaming of parameters by the beginnings of their names."""

from __future__ import annotations

from collections.abc import Mapping


def renamed(key: str, names: Mapping[str, str]) -> str:
    """`key` with its longest beginning that is in `names` replaced; whole parts only.

    Example:
        >>> renamed("conv1.norm.weight", {"conv1": "convs.0.conv", "conv1.norm": "convs.0.ln"})
        'convs.0.ln.weight'
        >>> renamed("conv10.weight", {"conv1": "convs.0"})
        'conv10.weight'
    """
    begin = key
    while begin:
        if begin in names:
            return names[begin] + key[len(begin) :]
        begin = begin.rpartition(".")[0]
    return key


def inverted(names: Mapping[str, str]) -> dict[str, str]:
    """The map back; two old names with one new name have none."""
    back = {new: old for old, new in names.items()}
    assert len(back) == len(names), "the map has no inverse"
    return back
