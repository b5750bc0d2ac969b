"""Names, and colours, of the classes of a person's label maps, from the file that has them.

Formats: a name per line (classes.txt; labelme's, whose first line __ignore__ is no class), lines
'0 name', '0: name' or '0,name', CVAT's labelmap.txt ('name:r,g,b:parts:actions'), CamVid's
label_colors.txt ('r g b name'), ADE's objectInfo150.txt; CSV with a heading of name, id or label,
and r, g, b; YAML and JSON with a list of names, id to name or name to id, or entries of id, name
and color, at the top or under classes, names, categories, labels or id2label.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Colour = tuple[int, int, int]
_STEMS = (
    "classes", "class_names", "labelmap", "label_map", "labels", "label_names", "names",
    "class_dict", "class_dict_seg", "label_colors", "colors", "id2label", "objectinfo150",
    "codes", "data",
)  # fmt: skip
_SUFFIXES = (".txt", ".yaml", ".yml", ".json", ".csv")
_KEYS = ("classes", "names", "categories", "labels", "id2label")
VOID = re.compile(
    r"_*(?:un-?label+ed|void|ignored?|unknown|no[ _-]?label|unannotated|unclassified)_*", re.I
)


@dataclass(frozen=True)
class ClassTable:
    """What labels mean.

    Attributes:
        names: Label -> name.
        colours: Colour -> label; empty where the file has none.
        file: Where it is from; '' for what a person typed.
        counted: Whether labels were counted and not written, so that they may start at 1 as well.
    """

    names: Mapping[int, str]
    colours: Mapping[Colour, int] = field(default_factory=dict)
    file: str = ""
    counted: bool = False


def is_void(name: str) -> bool:
    """Whether a name says that a label is no class.

    Example:
        >>> [is_void(name) for name in ("unlabelled", "VOID", "__ignore__", "background")]
        [True, True, True, False]
    """
    return VOID.fullmatch(name.strip()) is not None


def find_class_table(root: Path, folders: Iterable[Path]) -> ClassTable | None:
    """The table in the first of the folders, or of those above them up to `root`, that has one.

    Raises:
        ValueError: If a file of a known name cannot be read.
    """
    places: dict[Path, None] = {}
    for folder in folders:
        for place in (folder, *folder.parents):
            if not place.is_relative_to(root):
                break
            places[place] = None
    for place in sorted(places, key=lambda p: -len(p.parts)):
        by_name = {p.name.lower(): p for p in place.iterdir() if p.is_file()}
        for stem in _STEMS:
            for suffix in _SUFFIXES:
                file = by_name.get(stem + suffix)
                if file is None:
                    continue
                if stem == "data" and not _is_named(file):
                    continue
                return read_class_table(file)
    return None


def read_class_table(file: Path) -> ClassTable:
    """Names and colours of a file.

    Raises:
        ValueError: If it cannot be read, or says nothing about classes, or one thing twice.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ValueError(f"names file {file} cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"names file {file} is no text; write one name per line") from error
    suffix = file.suffix.lower()
    try:
        if suffix == ".csv":
            entries = _of_csv(text)
        elif suffix in (".yaml", ".yml", ".json"):
            entries = _of_data(_loaded(text, suffix))
        else:
            entries = _of_lines(text)
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(
            f"names file {file} is not understood ({error}); write one name per line"
        ) from error
    counted = all(label is None for label, _, _ in entries)
    names: dict[int, str] = {}
    colours: dict[Colour, int] = {}
    for index, (label, name, colour) in enumerate(entries):
        number = index if label is None else label
        if number in names:
            raise ValueError(f"names file {file} names label {number} twice; keep one")
        names[number] = name
        if colour is not None:
            if colour in colours:
                raise ValueError(f"names file {file} gives colour {colour} twice; keep one")
            colours[colour] = number
    if not names:
        raise ValueError(f"names file {file} names no class; write one name per line")
    twice = [n for n in names.values() if list(names.values()).count(n) > 1]
    if twice:
        raise ValueError(f"names file {file} gives the name {twice[0]!r} twice; names must differ")
    return ClassTable(dict(sorted(names.items())), colours, str(file), counted)


_Entry = tuple[int | None, str, Colour | None]


def _of_lines(text: str) -> list[_Entry]:
    lines = [line.strip() for line in text.splitlines()]
    lines = [line for line in lines if line and not line.startswith(("#", "//"))]
    if lines and re.match(r"idx\s", lines[0], re.I):  # objectInfo150.txt
        rows = [re.split(r"\t+", line) for line in lines[1:]]
        return [(int(row[0]), row[-1].split(",")[0].strip(), None) for row in rows]
    if all(re.fullmatch(r"[^:]+:(\d+,\d+,\d+)?:.*", line) for line in lines):
        rows = [line.split(":") for line in lines]
        return [(None, row[0].strip(), _colour(row[1].split(",")) if row[1] else None)
                for row in rows]  # fmt: skip
    by_colour = [re.fullmatch(r"(\d+)[ ,\t]+(\d+)[ ,\t]+(\d+)[ ,\t]+(\D.*)", x) for x in lines]
    if lines and all(by_colour):
        return [(None, m[4].strip(), _colour(m.groups()[:3])) for m in by_colour if m]
    by_id = [re.fullmatch(r"(\d+)\s*[:,;\s]\s*(\D.*)", line) for line in lines]
    if lines and all(by_id):
        return [(int(m[1]), m[2].strip().strip("'\""), None) for m in by_id if m]
    if lines and lines[0] == "__ignore__":  # labelme: its -1
        lines = lines[1:]
    return [(None, line, None) for line in lines]


def _of_csv(text: str) -> list[_Entry]:
    rows = list(csv.DictReader(text.splitlines(), skipinitialspace=True))
    if not rows:
        raise ValueError("it has no rows below a heading")
    by_low = {(key or "").strip().lower(): key for key in rows[0]}
    name_key = next((by_low[k] for k in ("name", "class", "label_name", "class_name", "label")
                     if k in by_low), None)  # fmt: skip
    id_key = next((by_low[k] for k in ("id", "index", "label_id", "value", "label")
                   if k in by_low and by_low[k] != name_key), None)  # fmt: skip
    if name_key is None:
        raise ValueError("its heading has no 'name'")
    channels = [by_low[k] for k in ("r", "g", "b") if k in by_low]
    return [
        (
            int(row[id_key]) if id_key is not None else None,
            str(row[name_key]).strip(),
            _colour([row[key] for key in channels]) if len(channels) == 3 else None,
        )
        for row in rows
    ]


def _of_data(value: Any) -> list[_Entry]:
    if isinstance(value, Mapping):
        inner = next((value[key] for key in _KEYS if key in value), None)
        if isinstance(inner, Mapping | list):
            return _of_data(inner)
        if all(_is_number(key) for key in value):
            return [(int(key), _text(name), _colour_of(name)) for key, name in value.items()]
        if all(_is_number(number) for number in value.values()):
            return [(int(number), str(name), None) for name, number in value.items()]
        raise ValueError("it holds neither a list of names nor numbers and names")
    if not isinstance(value, list):
        raise ValueError(f"it holds {type(value).__name__} where a list of names should be")
    return [
        (
            int(item["id"]) if isinstance(item, Mapping) and "id" in item else None,
            _text(item),
            _colour_of(item),
        )
        for item in value
    ]


def _loaded(text: str, suffix: str) -> Any:
    if suffix == ".json":
        return json.loads(text)
    import yaml

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"it is no YAML: {str(error).splitlines()[0]}") from error


def _is_named(file: Path) -> bool:
    """Whether a file called data has names, as the YAML of a YOLO folder."""
    try:
        value = _loaded(file.read_text(encoding="utf-8-sig"), file.suffix.lower())
    except (OSError, ValueError):
        return False
    return isinstance(value, Mapping) and any(key in value for key in _KEYS)


def _is_number(value: Any) -> bool:
    return not isinstance(value, bool) and re.fullmatch(r"\d+", str(value)) is not None


def _text(item: Any) -> str:
    name = item.get("name", item.get("label")) if isinstance(item, Mapping) else item
    if not isinstance(name, str | int | float) or isinstance(name, bool) or str(name) == "":
        raise ValueError(f"{str(item)[:40]!r} is no name")
    return str(name)


def _colour_of(item: Any) -> Colour | None:
    if not isinstance(item, Mapping):
        return None
    value = item.get("color", item.get("colour"))
    if isinstance(value, str) and re.fullmatch(r"#[0-9a-fA-F]{6}", value):
        return _colour([int(value[i : i + 2], 16) for i in (1, 3, 5)])
    return _colour(value) if isinstance(value, list) else None


def _colour(values: Sequence[Any]) -> Colour:
    numbers = [int(value) for value in values]
    if len(numbers) != 3 or not all(0 <= number <= 255 for number in numbers):
        raise ValueError(f"{list(values)} is no colour; write three numbers of 0 to 255")
    return (numbers[0], numbers[1], numbers[2])
