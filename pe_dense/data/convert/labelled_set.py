"""Labelled pictures in one form, whatever file they came from.

Coordinates are pixels of the picture as it is shown, turned as its Exif entry says, with (0, 0) the
upper left corner of the first pixel and (1, 1) its lower right one.

Own readers rather than a library's (supervision, datumaro): those drop what they do not know, take
VOC's first pixel for 0, do not turn pictures, and cost hundreds of megabytes of dependencies.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pe_dense.data.checks.rules import FindingCollector, Rule
from pe_dense.data.picture_header import PictureHeader, picture_header

SPLITS = ("train", "val", "test")
_SPLIT_WORDS = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val",
    "test": "test", "testing": "test",
}  # fmt: skip

UNLABELLED = Rule(
    "images-without-labels", "images without a label file (kept, without objects)", is_problem=False
)
EMPTY = Rule("empty-labels", "images labelled as empty (kept, without objects)", is_problem=False)
NO_IMAGE = Rule(
    "labels-without-image",
    "labels without an image",
    "put the image there, or take the label out",
    "left out",
)
NO_AREA = Rule(
    "shapes-without-area",
    "points, lines, skeletons, cuboids and tags of whole images, which are no boxes or masks",
    "draw boxes or polygons",
    "left out",
)
ROTATED = Rule(
    "rotated-boxes",
    "rotated boxes",
    "draw upright boxes",
    "written as polygons, with the upright box around each",
)
SHORT = Rule(
    "outlines-of-two-points", "outlines of fewer than three points", "draw them anew", "left out"
)
NAMELESS = Rule("shapes-without-class", "shapes without a class", "name their class", "left out")
SEVERAL_NAMES = Rule(
    "several-classes",
    "shapes of several classes",
    "keep one class a shape",
    "the first class is taken",
)
OTHER_TAGS = Rule("other-tags", "entries that carry no label, not read", is_problem=False)
IGNORED = Rule(
    "ignored-objects", "objects to be ignored, not trained on nor scored", is_problem=False
)
RULES = (
    UNLABELLED, EMPTY, NO_IMAGE, NO_AREA, ROTATED, SHORT, NAMELESS, SEVERAL_NAMES, OTHER_TAGS,
    IGNORED,
)  # fmt: skip


@dataclass(frozen=True)
class Shape:
    """One object.

    Attributes:
        label: Its class.
        box_xyxy: Left, top, right, bottom edge in pixels.
        polygons: Outlines, x and y in turn, whose union is the mask; () where there is none.
        runs: COCO run lengths {'size': [height, width], 'counts': str} instead of outlines.
        ignore: Not to be trained on nor scored.
        order: Higher ones lie on top; of equal ones the later.
        is_crowd: A group, of which the mask says where it is.
    """

    label: str
    box_xyxy: tuple[float, float, float, float]
    polygons: tuple[tuple[float, ...], ...] = ()
    runs: Mapping[str, Any] | None = None
    ignore: bool = False
    order: float = 0.0
    is_crowd: bool = False

    @property
    def has_mask(self) -> bool:
        """Whether it is more than a box."""
        return bool(self.polygons) or self.runs is not None


@dataclass
class LabelledImage:
    """A picture with its objects.

    Attributes:
        file: The picture.
        name: Path below the folder of the set, with '/'.
        size: Width and height as shown.
        orientation: Exif entry, 1 to 8.
        split: 'train', 'val', 'test', or None where nothing says so.
        sequence: Video that it is a frame of; None where nothing says so.
        shapes: Its objects.
    """

    file: Path
    name: str
    size: tuple[int, int]
    orientation: int = 1
    split: str | None = None
    sequence: str | None = None
    shapes: list[Shape] = field(default_factory=list)


@dataclass
class LabelledSet:
    """A folder of labelled pictures.

    Attributes:
        root: The folder.
        form: Name of the format.
        classes: Names in order; those of shapes among them.
        images: Pictures, in the order of their names.
        found: What was noticed: notes, and what must be accepted.
        how: What was decided while reading, a line each, for a person.
        read: Files that were read besides pictures.
    """

    root: Path
    form: str
    classes: list[str] = field(default_factory=list)
    images: list[LabelledImage] = field(default_factory=list)
    found: FindingCollector = field(default_factory=FindingCollector)
    how: list[str] = field(default_factory=list)
    read: list[Path] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Findings without a file of their own are of the folder."""
        self.found.file = str(self.root)

    def add_image(
        self, file: Path, split: str | None, sequence: str | None = None
    ) -> LabelledImage:
        """A picture of the set, whose size is read from its head.

        Raises:
            ValueError: If it is no picture.
        """
        header: PictureHeader = picture_header(file)
        name = file.relative_to(self.root).as_posix()
        image = LabelledImage(file, name, header.turned_size, header.orientation, split, sequence)
        self.images.append(image)
        return image

    def finish(self, classes: Sequence[str] | None = None) -> LabelledSet:
        """Sort the pictures, and name the classes: those given, or those of shapes, sorted.

        Raises:
            ValueError: If there is no picture, a class is given twice, or one is not in the list.
        """
        if not self.images:
            raise ValueError(f"{self.root} has no picture with labels in the format {self.form}")
        self.images.sort(key=lambda image: image.name)
        used = Counter(shape.label for image in self.images for shape in image.shapes)
        self.classes = list(classes) if classes else sorted(used)
        twice = [name for name, count in Counter(self.classes).items() if count > 1]
        if twice:
            raise ValueError(f"{self.root} names the class {twice[0]!r} twice; give each one name")
        unknown = sorted(set(used) - set(self.classes))
        if unknown:
            raise ValueError(
                f"{self.root} has {used[unknown[0]]} objects of {unknown[0]!r}, which is not among "
                f"its classes ({', '.join(self.classes[:10])}); correct the name or the list"
            )
        ignored = sum(shape.ignore for image in self.images for shape in image.shapes)
        self.found.add_count(IGNORED, ignored)
        return self


def split_in(text: str) -> str | None:
    """The split that a folder or an entry is called by; None if it is none of the usual words.

    Example:
        >>> split_in("Valid"), split_in("images")
        ('val', None)
    """
    return _SPLIT_WORDS.get(text.lower())


def split_of_path(name: str) -> str | None:
    """The split that one of the folders of a path names, the innermost first."""
    return next((s for s in map(split_in, reversed(name.split("/")[:-1])) if s), None)


def clean(text: str) -> str:
    """A class name without spaces around it, accents composed (NFC), so that equal is equal."""
    return unicodedata.normalize("NFC", text).strip()


def bounds(parts: Iterable[Sequence[float]]) -> tuple[float, float, float, float]:
    """The upright box around outlines of x and y in turn."""
    parts = list(parts)
    xs = [x for part in parts for x in part[0::2]]
    ys = [y for part in parts for y in part[1::2]]
    return min(xs), min(ys), max(xs), max(ys)
