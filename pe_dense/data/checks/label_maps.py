"""What label maps hold: pixels by label over a whole split, and whether that can be right.

Every map is read once, in all cores, and the counts are remembered until a file changes.
Shape legend: L = 256 labels.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pe_dense.data.checks.many_files import Tick, each_group
from pe_dense.data.checks.picture_findings import image_header, picture_findings
from pe_dense.data.checks.remembered import Answer, remembered
from pe_dense.data.checks.rules import (
    Finding,
    FindingCollector,
    Rule,
    UnsoundError,
    from_plain,
    to_plain,
)
from pe_dense.data.checks.text_table import text_table
from pe_dense.data.label_map import (
    IGNORED,
    RANGE,
    ranges,
    read_labels,
    require_map_size,
    strange_label,
)
from pe_dense.data.picture_header import PictureHeader

OBJECT_IGNORED = Rule(
    "object-is-ignored", "maps whose only label beside 0 is the ignored 255",
    "255 means no class, so write the object as 1", "255 is no class, in training and in scores",
)  # fmt: skip
NO_CLASS = Rule(
    "nothing-labelled", "splits without a pixel of any class",
    "check reduce_zero_label and the labels of the maps",
)  # fmt: skip
CLASS_ABSENT = Rule(
    "class-absent", "classes that occur nowhere",
    "check classes and reduce_zero_label, or take the class out",
    "never trained on; absent from the mean where no pixel has it",
)  # fmt: skip
ZERO_FILLS_HALF = Rule(
    "zero-fills-half", "splits where reduce_zero_label removes most pixels",
    "if 0 is a class of these maps, set reduce_zero_label=False and name it first in classes",
    "0 is ignored, in training and in scores",
)  # fmt: skip
ABSENT_HERE = Rule(
    "class-absent-here", "classes of train that this split lacks (absent from its mean)",
    is_problem=False,
)  # fmt: skip
CONTENT_RULES = (OBJECT_IGNORED, NO_CLASS, CLASS_ABSENT, ZERO_FILLS_HALF)
MOST_ROWS = 12
# Maps of only 0 and 255 are drawn as binary masks, rather than by chance without an object, where
# so many are and 255 fills more of them than a border does, and than it does in the other maps.
MANY_MAPS, MORE_THAN_BORDER, TIMES_THE_OTHERS = 0.05, 0.02, 3


@dataclass(frozen=True)
class LabelNames:
    """What the labels of a set's maps mean.

    Attributes:
        named: Label and class, in the order of classes.
        ignored: Other labels that a map may hold; 255 always may.
    """

    named: tuple[tuple[int, str], ...]
    ignored: frozenset[int] = frozenset()

    @property
    def classes(self) -> dict[int, str]:
        """Label -> class."""
        return dict(self.named)

    def called(self, label: int) -> str:
        """'label 7 (curtain)', or 'label 7' of a class that has no other name."""
        name = self.classes[label]
        return f"label {label}" if name == str(label) else f"label {label} ({name})"

    @property
    def allowed(self) -> frozenset[int]:
        """Every label that a map may hold."""
        return frozenset(self.classes) | self.ignored | {IGNORED}


@dataclass(frozen=True)
class LabelCounts:
    """What the maps of a split hold.

    Attributes:
        where: What the split is called in messages: its folder or list of maps.
        num_maps: Maps that could be read.
        pixels_L: Pixels of each label.
        maps_L: Maps that hold each label.
        first: Label -> the first map that holds it.
        binary: Maps that hold 0 and 255 alone, their pixels, and those of 255 in them.
        first_binary: The first of them; '' if there is none.
        findings: Files that cannot be used.
    """

    where: str
    num_maps: int
    pixels_L: np.ndarray
    maps_L: np.ndarray
    first: Mapping[int, str]
    binary: tuple[int, int, int]
    first_binary: str
    findings: tuple[Finding, ...]

    @property
    def labels(self) -> set[int]:
        """Those that occur."""
        return set(np.flatnonzero(self.pixels_L).tolist())


@dataclass(frozen=True)
class LabelledSplit:
    """The maps of a split, perhaps of several folders whose labels mean different things."""

    parts: Sequence[tuple[LabelCounts, LabelNames]]

    @property
    def where(self) -> str:
        """What it is called in messages."""
        return " and ".join(dict.fromkeys(counts.where for counts, _ in self.parts))

    @property
    def num_maps(self) -> int:
        """Maps that could be read."""
        return sum(counts.num_maps for counts, _ in self.parts)

    def count(self, name: str) -> tuple[float, int]:
        """Share of the pixels that a class has, 0 to 1, and maps that hold it."""
        pixels, maps = 0, 0
        for counts, names in self.parts:
            labels = [label for label, own in names.classes.items() if own == name]
            pixels += int(counts.pixels_L[labels].sum())
            maps += int(counts.maps_L[labels].sum())
        return pixels / max(1, self._num_pixels()), maps

    def ignored(self) -> float:
        """Share of the pixels that have no class, 0 to 1."""
        classed = sum(int(c.pixels_L[list(names.classes)].sum()) for c, names in self.parts)
        return 1 - classed / max(1, self._num_pixels())

    def _num_pixels(self) -> int:
        return sum(int(counts.pixels_L.sum()) for counts, _ in self.parts)


def count_labels(
    files: Sequence[tuple[Path, Path]],
    root: Path,
    where: object,
    tick: Tick,
    image_bits: int | None = None,
) -> LabelCounts:
    """Read all maps of a split, or recall what they held.

    Args:
        files: Image and map.
        root: Folder of the data set, where the counts are kept.
        where: See `LabelCounts`.
        tick: Called with (maps done, maps to do).
        image_bits: See `picture_findings`.
    """
    names = "\n".join(f"{image}\t{label}" for image, label in files)
    sha256 = hashlib.sha256(names.encode("utf-8", "surrogateescape")).hexdigest()
    question = dict(label_maps=sha256, image_bits=image_bits)
    found = remembered(root, question, functools.partial(_find_out, files, image_bits, tick))
    counts_L2 = np.array(found["counts"], np.int64)
    return LabelCounts(
        str(where),
        found["num_maps"],
        counts_L2[:, 0],
        counts_L2[:, 1],
        {int(label): file for label, file in found["first"].items()},
        tuple(found["binary"]),
        found["first_binary"],
        tuple(from_plain(found["findings"])),
    )


def _find_out(files: Sequence[tuple[Path, Path]], image_bits: int | None, tick: Tick) -> Answer:
    counts_L2, first = np.zeros((256, 2), np.int64), {}
    binary_3, first_binary = np.zeros(3, np.int64), ""
    found, headers = FindingCollector(), {}
    for part_L2, firsts, part_3, part_binary, part_headers, errors in each_group(
        _count, files, tick
    ):
        counts_L2 += part_L2
        binary_3 += part_3
        first_binary = first_binary or part_binary
        first = firsts | first
        headers |= part_headers
        for finding in errors:
            found.add_finding(finding)
    notes = picture_findings(list(headers), list(headers.values()), True, image_bits)
    value = dict(
        counts=counts_L2.tolist(),
        first=first,
        binary=binary_3.tolist(),
        first_binary=first_binary,
        num_maps=len(headers),
        findings=to_plain([*found.findings(), *notes]),
    )
    return Answer(value, {file.parent for pair in files for file in pair})


def _count(
    files: Sequence[tuple[Path, Path]],
) -> tuple[np.ndarray, dict[int, str], np.ndarray, str, dict[Path, PictureHeader], list[Finding]]:
    """What `LabelCounts` holds of a few maps, headers of images, and what is unusable.

    Pixels and maps of each label are (L, 2).
    """
    counts_L2, first, headers, errors = np.zeros((256, 2), np.int64), {}, {}, []
    binary_3, first_binary = np.zeros(3, np.int64), ""
    for image, label in files:
        try:
            header = image_header(image)
            labels_HW = read_labels(label)
            require_map_size(label, labels_HW, header.size[::-1])
        except UnsoundError as error:
            errors.append(error.finding)
            continue
        headers[image] = header
        pixels_L = np.bincount(labels_HW.ravel(), minlength=256)
        counts_L2[:, 0] += pixels_L
        counts_L2[:, 1] += pixels_L > 0
        first = {int(value): str(label) for value in np.flatnonzero(pixels_L)} | first
        if 0 < pixels_L[IGNORED] == labels_HW.size - pixels_L[0] < labels_HW.size:
            binary_3 += 1, labels_HW.size, pixels_L[IGNORED]
            first_binary = first_binary or str(label)
    return counts_L2, first, binary_3, first_binary, headers, errors


def split_findings(counts: LabelCounts, names: LabelNames) -> list[Finding]:
    """What maps say alone.

    Unusable files, strange labels, no class at all, a 0 that fills them, an object that is 255.
    """
    found = FindingCollector(counts.where)
    for label in sorted(counts.labels - names.allowed):
        found.add(RANGE, "", strange_label(label, names.allowed), counts.first[label])
    if counts.num_maps and not counts.labels & names.classes.keys():
        found.add(NO_CLASS, "", f"holds only the ignored {ranges(counts.labels)}")
    elif counts.labels == {0, IGNORED}:
        found.add(OBJECT_IGNORED, "", f"holds only 0 and 255, for {len(names.classes)} classes")
    elif _are_binary(counts):
        maps, pixels, ignored = counts.binary
        text = (
            f"holds only 0 and 255, as {maps:,} of {counts.num_maps:,} maps do, and 255 fills "
            f"{100 * ignored / pixels:.0f} % of them"
        )
        found.add(OBJECT_IGNORED, "", text, counts.first_binary)
    zero = counts.pixels_L[0] / max(1, counts.pixels_L.sum())
    if 0 in names.ignored and zero >= 0.5:
        text = f"is {100 * zero:.0f} % label 0, which reduce_zero_label removes"
        found.add(ZERO_FILLS_HALF, "", text)
    return [*counts.findings, *found.findings()]


def _are_binary(counts: LabelCounts) -> bool:
    """Whether the maps of 0 and 255 alone look as if 255 were their object."""
    maps, pixels, ignored = counts.binary
    if maps < MANY_MAPS * counts.num_maps or ignored <= MORE_THAN_BORDER * pixels:
        return False
    other_ignored = int(counts.pixels_L[IGNORED]) - ignored
    other_pixels = int(counts.pixels_L.sum()) - pixels
    return ignored * other_pixels > TIMES_THE_OTHERS * other_ignored * pixels


def class_findings(splits: Mapping[str, LabelledSplit]) -> list[Finding]:
    """Classes that occur nowhere.

    A class must occur where it is trained, or in the only split that there is; that another split
    lacks it is a note.

    Args:
        splits: 'train' and others -> what they hold.
    """
    base = splits.get("train") or next(iter(splits.values()))
    found = FindingCollector(base.where)
    _, names = base.parts[0]
    if base.ignored() == 1:
        return []  # told of each part
    for label, name in names.classes.items():
        is_here = base.count(name)[1] > 0
        if not is_here:
            found.add(CLASS_ABSENT, "", f"holds {names.called(label)} nowhere")
        for other in splits.values():
            if is_here and other.num_maps and not other.count(name)[1]:
                found.add(ABSENT_HERE, "", f"holds {names.called(label)} nowhere", other.where)
    return found.findings()


def label_table(splits: Mapping[str, LabelledSplit], most_rows: int = MOST_ROWS) -> str:
    """Share of the pixels, and maps, of every class and split, as text."""
    names = list(next(iter(splits.values())).parts[0][1].classes.values())
    shown = names
    if len(names) > most_rows:
        by_share = sorted(names, key=lambda n: -max(s.count(n)[0] for s in splits.values()))
        shown = [*by_share[: most_rows // 2], "", *by_share[-(most_rows // 2) :]]
    rows = [
        ["", *splits],
        ["label maps", *(f"{split.num_maps:,}" for split in splits.values())],
        ["  pixels ignored", *(f"{100 * split.ignored():.2f} %" for split in splits.values())],
        [f"{len(names)} classes: pixels (maps)", *("" for _ in splits)],
    ]
    for name in shown:
        cells = [split.count(name) for split in splits.values()]
        rows.append(
            [f"  {name}", *(f"{100 * share:.2f} % ({maps:,})" for share, maps in cells)]
            if name
            else [f"  ... {len(names) - len(shown) + 1} more", *("" for _ in splits)]
        )
    return text_table(rows)
