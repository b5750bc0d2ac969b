"""What the numbers of a person's label maps mean, and dense maps made of them.

Any whole numbers are read: 8 and 16 bits, palettes (their index, not their colours), grey saved in
three equal channels, and colours where a table says what they mean. `class_mapping` decides which
numbers are classes; where these are 0, 1, 2 ... and 255 already, maps are used as they are, and are
written anew beside the data otherwise, 8 bits, classes counted from 0, 255 where nothing counts.

Shape legend: H, W pixels.
"""

from __future__ import annotations

import functools
import hashlib
import io
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pe_dense.data.checks.label_map_files import png_of
from pe_dense.data.checks.many_files import Tick, each_group
from pe_dense.data.checks.picture_findings import image_header
from pe_dense.data.checks.rules import UnsoundError
from pe_dense.data.class_names import ClassTable, is_void
from pe_dense.data.label_map import (
    COLOUR,
    DEEP,
    IGNORED,
    decode_labels,
    ranges,
    require_map_size,
    unreadable_map,
)
from pe_dense.files import atomic_write_bytes

MOST_CLASSES = 255  # 0 to 254
MOST_VALUES = 4096  # of a map; a photograph has more
IGNORED_16 = 65_535
_NAMED = 8  # so many are listed in a sentence


# ---- reading -------------------------------------------------------------------------------------


def decode_numbers(content: bytes, path: str | Path) -> tuple[NDArray[np.int64], str]:
    """Numbers of a label map (H, W), and how they were stored.

    Returns:
        The numbers, and 'plain' (8-bit labels), 'deep' (16 bits), 'grey' (equal channels) or
        'colour'; a colour is the number R * 65536 + G * 256 + B.

    Raises:
        UnsoundError: If the file is no picture, a JPEG, or holds what is no whole number.
    """
    try:
        return decode_labels(content, path).astype(np.int64), "plain"
    except UnsoundError as error:
        rule = error.finding.rule if error.finding else None
        if rule not in (COLOUR, DEEP):
            raise
        with Image.open(io.BytesIO(content)) as picture:
            values = np.asarray(picture)
        if rule is DEEP:
            if values.dtype.kind not in "iu" or values.min() < 0 or values.max() > IGNORED_16:
                raise
            return values.astype(np.int64), "deep"
    if values.dtype != np.uint8:
        raise ValueError(f"label map {path} has colours of {values.dtype}; write 8 bits a channel")
    if values.shape[2] == 2:  # grey with alpha
        return values[..., 0].astype(np.int64), "grey"
    channels_HW3 = values[..., :3].astype(np.int64)
    if (channels_HW3 == channels_HW3[..., :1]).all():
        return channels_HW3[..., 0], "grey"
    return channels_HW3 @ np.array([65_536, 256, 1]), "colour"


def read_numbers(path: Path) -> tuple[NDArray[np.int64], str, str]:
    """As `decode_numbers` of a file, and its sha256."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise unreadable_map(path, error) from error
    return (*decode_numbers(content, path), hashlib.sha256(content).hexdigest())


@dataclass(frozen=True)
class Numbers:
    """What the maps of a list hold.

    Attributes:
        pixels: Number -> pixels; a map of greys in three channels has its greys here, or its
            colours where another map of the list is coloured.
        first: Number -> the first file that holds it.
        kinds: How they are stored, see `decode_numbers`.
        sha256: Of every file.
    """

    pixels: Mapping[int, int]
    first: Mapping[int, str]
    kinds: frozenset[str]
    sha256: tuple[str, ...]

    @property
    def are_colours(self) -> bool:
        """Whether any map is coloured."""
        return "colour" in self.kinds


def scan(files: Sequence[tuple[Path, Path]], tick: Tick) -> Numbers:
    """Read all maps of (image, map) once.

    Raises:
        UnsoundError: For the first map that cannot be used, or has another size than its image.
        ValueError: If coloured maps stand beside maps of numbers.
    """
    pixels: dict[int, int] = {}
    grey: dict[int, int] = {}
    first: dict[int, str] = {}
    kinds: set[str] = set()
    digests: list[str] = []
    for part in each_group(_scan, files, tick):
        if isinstance(part, UnsoundError):
            raise part
        for path, kind, digest, values in part:
            kinds.add(kind)
            digests.append(digest)
            counts = grey if kind == "grey" else pixels
            for value, count in values.items():
                counts[value] = counts.get(value, 0) + count
                first.setdefault(value, path)
    if "colour" in kinds:
        if kinds - {"colour", "grey"}:
            raise ValueError("some label maps are coloured and others hold numbers; use one kind")
        for value, count in grey.items():  # a colour as well
            as_colour = value * 65_793
            pixels[as_colour] = pixels.get(as_colour, 0) + count
            first.setdefault(as_colour, first[value])
    else:
        for value, count in grey.items():
            pixels[value] = pixels.get(value, 0) + count
    return Numbers(pixels, first, frozenset(kinds), tuple(digests))


def _scan(
    files: Sequence[tuple[Path, Path]],
) -> list[tuple[str, str, str, dict[int, int]]] | UnsoundError:
    found = []
    for image, label in files:
        try:
            size = image_header(image).size[::-1]
            numbers_HW, kind, digest = read_numbers(label)
            require_map_size(label, numbers_HW, size)  # type: ignore[arg-type]
        except UnsoundError as error:
            return error
        values, counts = _counted(numbers_HW)
        pixels = dict(zip(values.tolist(), counts.tolist(), strict=True))
        found.append((str(label), kind, digest, pixels))
        if len(values) > MOST_VALUES:
            raise ValueError(
                f"label map {label} holds {len(values):,} different values, so it is a picture "
                "and no map of classes; check the folder of the maps"
            )
    return found


def _counted(numbers_HW: NDArray[np.int64]) -> tuple[NDArray, NDArray]:
    """Numbers that occur, and their pixels."""
    if numbers_HW.max(initial=0) > IGNORED_16:  # colours
        return np.unique(numbers_HW, return_counts=True)
    counts = np.bincount(numbers_HW.ravel())  # many times faster
    values = np.flatnonzero(counts)
    return values, counts[values]


# ---- what they mean ------------------------------------------------------------------------------


@dataclass(frozen=True)
class ClassMapping:
    """Number of a map -> class.

    Attributes:
        classes: Names.
        of_number: Number -> index of its class, or 255.
        notes: What a person should know, one sentence each.
    """

    classes: tuple[str, ...]
    of_number: Mapping[int, int]
    notes: tuple[str, ...]

    @property
    def is_dense(self) -> bool:
        """Whether maps can be used as they are."""
        return all(index == number for number, index in self.of_number.items())

    @property
    def numbers(self) -> list[int]:
        """The number of each class in the maps, the least where it has several."""
        found = sorted(self.of_number.items(), reverse=True)
        least = {index: number for number, index in found}
        return [least[index] for index in range(len(self.classes))]


def class_mapping(
    train: Numbers,
    val: Numbers,
    table: ClassTable | None,
    classes: Sequence[str] | None = None,
    unlabelled: Sequence[int | str] | None = None,
    split_is_given: bool = True,
) -> ClassMapping:
    """Which numbers are classes, and what they are called.

    The rules, each told in a note where it did something: 255 is no class (in 16 bits 65535), nor
    is a label that the names call unlabelled, void, ignore or unknown; `unlabelled` says it
    instead. Maps of nothing but 0 and 255 show background and one object. Names that are counted
    and not numbered begin at 0, or at 1 where one more label is used than there are names; 0 is no
    class then. Classes are the labels that training has. What only validation has is no class
    where names or a division by chance explain it, and is refused otherwise.

    Args:
        train: What the training maps hold.
        val: What the validation maps hold.
        table: Names, and colours, that were found; None: none.
        classes: Names that a person typed, of the labels in their order.
        unlabelled: Labels or names that are no class; None: by the rules.
        split_is_given: Whether a person divided the data.

    Raises:
        ValueError: If a number has no meaning, names do not fit, or fewer than two classes are
            left.
    """
    if classes is not None:
        _require_names(classes)
        table = ClassTable(dict(enumerate(classes)), table.colours if table else {}, "", True)
    if train.are_colours or val.are_colours:
        return _of_colours(train, val, table, unlabelled, split_is_given)
    numbers = set(train.pixels) | set(val.pixels)
    notes: list[str] = []
    if unlabelled is None and numbers == {0, IGNORED}:
        names = _binary_names(table)
        notes.append(f"maps of 0 and 255: 0 is {names[0]!r} and 255 is {names[1]!r}")
        return ClassMapping(names, {0: 0, IGNORED: 1}, tuple(notes))
    named = dict(table.names) if table else {}
    largest = IGNORED_16 if "deep" in train.kinds | val.kinds else IGNORED
    ignored = {largest} - set(named)
    if unlabelled is None:
        ignored |= {label for label, name in named.items() if is_void(name)}
    else:
        ignored = _said(unlabelled, named)
    used = numbers - ignored
    if table and table.counted and used - set(named) == {len(named)} and 0 in used:
        named = {label + 1: name for label, name in named.items()}
        if unlabelled is None:
            ignored.add(0)
        notes.append("label 0 has no name, so that names count from 1, and 0 is no class")
        if unlabelled is None:
            ignored |= {label for label, name in named.items() if is_void(name)}
        used = numbers - ignored
    if table:
        strange = sorted(used - set(named))
        if strange:
            where = train.first.get(strange[0]) or val.first[strange[0]]
            source = table.file or "classes"
            raise ValueError(
                f"label {strange[0]} of {where} has no name in {source}, which names "
                f"{ranges(set(named))}; add it, or give unlabelled=[{strange[0]}]"
            )
    return _numbered(train, val, used, ignored, named, bool(table) or not split_is_given, notes)


def _of_colours(
    train: Numbers,
    val: Numbers,
    table: ClassTable | None,
    unlabelled: Sequence[int | str] | None,
    split_is_given: bool,
) -> ClassMapping:
    if table is None or not table.colours:
        first = next(iter(train.first.values()))
        raise ValueError(
            f"label maps such as {first} are in colour, and nothing says what a colour means; give "
            "names_file=FILE with lines 'r g b name'"
        )
    known = {r * 65_536 + g * 256 + b: label for (r, g, b), label in table.colours.items()}
    for numbers in (train, val):
        strange = sorted(set(numbers.pixels) - set(known))
        if strange:
            raise ValueError(
                f"{numbers.first[strange[0]]} has the colour {_rgb(strange[0])}, which "
                f"{table.file or 'the names file'} does not name; add it, with the name "
                "unlabelled if it is no class"
            )
    if unlabelled is None:
        ignored = {label for label, name in table.names.items() if is_void(name)}
    else:
        ignored = _said(unlabelled, dict(table.names))
    ignored_colours = {number for number, label in known.items() if label in ignored}
    named = {number: table.names[label] for number, label in known.items()}
    used = (set(train.pixels) | set(val.pixels)) - ignored_colours
    return _numbered(
        train, val, used, ignored_colours, named, True, [], lambda n: str(_rgb(n)),
        lambda n: known[n],
    )  # fmt: skip


def _numbered(
    train: Numbers, val: Numbers, used: set[int], ignored: Collection[int],
    named: Mapping[int, str], is_explained: bool, notes: list[str],
    say: Callable[[int], str] = str, key: Callable[[int], int] = int,
) -> ClassMapping:  # fmt: skip
    """Classes counted from 0: the used labels that training has, in the order of `key`."""
    trained = sorted(used & set(train.pixels), key=key)
    absent = sorted(used - set(train.pixels), key=key)
    called = {number: named.get(number, f"class_{say(number)}") for number in used}
    if absent and not is_explained:
        raise ValueError(
            f"validation holds label {absent[0]} ({val.first[absent[0]]}) but training does not; "
            f"both must have the same classes, so add pictures, or give unlabelled=[{absent[0]}]"
        )
    if absent:
        notes.append(
            f"validation holds {_listed([called[n] for n in absent])}, which training does not: "
            "no class, not scored"
        )
    if len(trained) < 2:
        held = _listed([called[n] for n in trained]) if trained else "none"
        raise ValueError(
            f"training holds {len(trained)} class{'es' * (len(trained) != 1)} ({held}), and two "
            "are the least that can be told apart; check the maps, or give unlabelled=[]"
        )
    if len(trained) > MOST_CLASSES:
        raise ValueError(f"training holds {len(trained)} classes; {MOST_CLASSES} are the most")
    of_number = {number: index for index, number in enumerate(trained)}
    left = (set(train.pixels) | set(val.pixels)) - set(trained)
    lost = sorted(left & set(ignored), key=key)
    if lost and lost != [IGNORED]:
        words = [f"{say(n)} ({named[n]})" if n in named else say(n) for n in lost]
        notes.append(f"no class: label {_listed(words)}")
    of_number |= dict.fromkeys(left, IGNORED)
    moved = [n for n, index in of_number.items() if index not in (n, IGNORED)]
    if moved:
        pairs = [f"{say(n)} -> {of_number[n]}" for n in trained]
        notes.append(f"labels were counted anew: {_listed(pairs)}")
    unused = sorted(set(named.values()) - {called[n] for n in (*trained, *absent)}
                    - {named[n] for n in lost if n in named})  # fmt: skip
    unused = [name for name in unused if not is_void(name)]
    if unused:
        notes.append(f"names without a pixel, left out: {_listed(unused)}")
    return ClassMapping(tuple(called[n] for n in trained), of_number, tuple(notes))


def _binary_names(table: ClassTable | None) -> tuple[str, str]:
    names = list(table.names.values()) if table else ["background", "foreground"]
    if len(names) == 1:
        names = ["background", *names]
    if len(names) != 2:
        raise ValueError(
            f"the maps hold 0 and 255 alone, but {len(names)} classes are named; name one or two, "
            "or give unlabelled=[255] if 255 is none"
        )
    return names[0], names[1]


def _said(unlabelled: Sequence[int | str], named: Mapping[int, str]) -> set[int]:
    by_name = {name: label for label, name in named.items()}
    found = set()
    for item in unlabelled:
        if isinstance(item, str) and item not in by_name:
            raise ValueError(f"unlabelled names {item!r}, which is no class; give labels or names")
        found.add(by_name[item] if isinstance(item, str) else int(item))
    return found


def _require_names(classes: Sequence[str]) -> None:
    if not classes or not all(isinstance(name, str) and name for name in classes):
        raise ValueError(f"classes={classes!r} is no list of names; write classes=[cat,dog]")
    if len(set(classes)) < len(classes):
        raise ValueError(f"classes={list(classes)} has a name twice; names must differ")


def _rgb(number: int) -> tuple[int, int, int]:
    return number >> 16, number >> 8 & 255, number & 255


def _listed(words: Sequence[str]) -> str:
    shown = ", ".join(words[:_NAMED])
    return shown + (f" and {len(words) - _NAMED} more" if len(words) > _NAMED else "")


# ---- dense maps ----------------------------------------------------------------------------------


def dense(
    numbers_HW: NDArray[np.int64], of_number: Mapping[int, int], kind: str, in_colour: bool
) -> NDArray[np.uint8]:
    """A map of classes, (H, W), 255 where none counts."""
    if kind == "grey" and in_colour:
        numbers_HW = numbers_HW * 65_793
    if in_colour or numbers_HW.max(initial=0) > IGNORED_16:  # a map may be black alone
        values, inverse = np.unique(numbers_HW, return_inverse=True)
        table = np.array([of_number[value] for value in values.tolist()], np.uint8)
        return table[inverse].reshape(numbers_HW.shape)
    table = np.full(IGNORED_16 + 1, IGNORED, np.uint8)
    table[list(of_number)] = list(of_number.values())
    return table[numbers_HW]


def write_dense(
    labels: Sequence[Path],
    targets: Sequence[Path],
    of_number: Mapping[int, int],
    in_colour: bool,
    tick: Tick,
) -> None:
    """Write maps of classes; those that are there already stay, so a stopped run goes on."""
    for folder in sorted({target.parent for target in targets}):
        folder.mkdir(parents=True, exist_ok=True)
    todo = [(a, b) for a, b in zip(labels, targets, strict=True) if not b.is_file()]
    work = functools.partial(_write, of_number=dict(of_number), in_colour=in_colour)
    for _ in each_group(work, todo, tick):
        pass


def _write(
    files: Sequence[tuple[Path, Path]], of_number: Mapping[int, int], in_colour: bool
) -> None:
    for label, target in files:
        numbers_HW, kind, _ = read_numbers(label)
        atomic_write_bytes(target, png_of(dense(numbers_HW, of_number, kind, in_colour)))
