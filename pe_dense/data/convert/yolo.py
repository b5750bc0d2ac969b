"""YOLO label folders: a text file for every picture, a line for every object.

Lines are 'class x y w h', centre and size in shares of the picture, or 'class x1 y1 x2 y2 x3 y3
...', an outline in shares. Classes and splits come from data.yaml, or from classes.txt (obj.names)
and folders or lists called train, val, test.

Source: the documented layout of Ultralytics' detect and segment data sets, and of Darknet; labels
of a picture lie where its last folder 'images' is called 'labels', else beside it.
"""

from __future__ import annotations

import ast
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pe_dense.data.checks.rules import Rule
from pe_dense.data.convert.image_places import SUFFIXES, files_below
from pe_dense.data.convert.labelled_set import (
    EMPTY,
    NO_IMAGE,
    UNLABELLED,
    LabelledImage,
    LabelledSet,
    Shape,
    bounds,
    clean,
    split_in,
    split_of_path,
)

CLASS_FILES = ("classes.txt", "obj.names", "names.txt", "_darknet.labels", "labels/classes.txt")
# Text files that are no labels, wherever they lie.
NO_LABELS = {
    "classes.txt", "names.txt", "notes.txt", "readme.txt", "requirements.txt", "license.txt",
    "readme.dataset.txt", "readme.roboflow.txt", "predefined_classes.txt",
}  # fmt: skip
# Rounded shares may be a little above 1; the check of boxes sees what that is in pixels.
TOLERANCE = 0.01
OUTLINES_OF_FOUR = Rule(
    "outlines-of-four-points",
    "outlines of four points, which YOLO-OBB writes for rotated boxes as well (read as masks)",
    is_problem=False,
)


def data_yaml(root: Path) -> Path | None:
    """The YAML of a YOLO folder, which names classes; None if there is none.

    Raises:
        ValueError: If there are several.
    """
    found = [
        file
        for file in sorted([*root.glob("*.yaml"), *root.glob("*.yml")])
        if isinstance(_yaml(file), Mapping)
        and "names" in _yaml(file)
        and {"train", "val", "test", "path", "nc"} & set(_yaml(file))
    ]
    if len(found) > 1:
        raise ValueError(
            f"{root} has two descriptions of YOLO data, {found[0].name} and {found[1].name}; keep "
            "one"
        )
    return found[0] if found else None


def _yaml(file: Path) -> Any:
    import yaml

    try:
        return yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError):
        return None


def read_yolo(root: Path) -> LabelledSet:
    """A folder of YOLO labels.

    Raises:
        ValueError: If classes are not named, a line cannot be understood, a class is not in the
            list, or files contradict each other.
    """
    found = LabelledSet(root, "yolo")
    description = data_yaml(root)
    content = _yaml(description) if description else {}
    if description is not None:
        found.read.append(description)
        if content.get("kpt_shape"):
            raise ValueError(
                f"{description} has kpt_shape, so that its labels are keypoints; those are not read"
            )
    classes = _classes(found, description, content)
    splits = dict(_listed(found, description, content))
    labels_seen: dict[Path, Path] = {}
    for image in sorted(splits):
        labels = label_file(image)
        if labels in labels_seen:
            raise ValueError(
                f"{labels} belongs to both {labels_seen[labels].name} and {image.name}, which "
                "differ in the suffix alone; rename one of them and its label"
            )
        labels_seen[labels] = image
        entry = found.add_image(image, splits[image])
        if not labels.is_file():
            found.found.add(UNLABELLED, image.name, "has no label file", image.parent)
            continue
        found.read.append(labels)
        entry.shapes = list(_shapes(found, labels, entry, classes))
        if not entry.shapes:
            found.found.add(EMPTY, labels.name, "is empty", labels.parent)
    for labels in files_below(root, (".txt",)):
        if labels not in labels_seen and _looks_like_labels(labels, root):
            found.found.add(NO_IMAGE, "", "has no picture of this name", labels)
    return found.finish(classes)


def label_file(image: Path) -> Path:
    """Where the labels of a picture lie.

    Example:
        >>> label_file(Path("d/images/train/a.jpg")).as_posix()
        'd/labels/train/a.txt'
    """
    parts = list(image.parts)
    for k in range(len(parts) - 2, -1, -1):
        if parts[k] == "images":
            return Path(*parts[:k], "labels", *parts[k + 1 :]).with_suffix(".txt")
    return image.with_suffix(".txt")


def _classes(found: LabelledSet, description: Path | None, content: Mapping[str, Any]) -> list[str]:
    if description is not None:
        names, where = content["names"], description
        if isinstance(names, Mapping):
            keys = sorted(names, key=str if any(isinstance(k, str) for k in names) else None)
            if keys != list(range(len(keys))):
                raise ValueError(
                    f"{where} numbers its classes {keys[:10]}; number them 0, 1, 2, ..."
                )
            names = [names[key] for key in keys]
        if not isinstance(names, list):
            raise ValueError(f"{where} has names {names!r}; write a list of class names")
        if content.get("nc") not in (None, len(names)):
            raise ValueError(
                f"{where} says nc: {content['nc']} but names {len(names)} classes; make them agree"
            )
        return [clean(str(name)) for name in names]
    for name in CLASS_FILES:
        file = found.root / name
        if file.is_file():
            found.read.append(file)
            lines = file.read_text(encoding="utf-8-sig").splitlines()
            while lines and not lines[-1].strip():
                lines.pop()
            if not all(line.strip() for line in lines):
                raise ValueError(f"{file} has an empty line among its classes; name each of them")
            found.how.append(f"classes: {name}")
            return [clean(line) for line in lines]
    raise ValueError(
        f"{found.root} names no classes; write data.yaml (names: [first, second]) or classes.txt, "
        "one name a line"
    )


def _listed(
    found: LabelledSet, description: Path | None, content: Mapping[str, Any]
) -> Iterator[tuple[Path, str | None]]:
    """Pictures and their split."""
    root = found.root
    named = {split: content[key] for key in content if (split := split_in(str(key))) is not None}
    named = {split: value for split, value in named.items() if value}
    if named and description is not None:
        taken: dict[Path, str] = {}
        base = root / str(content.get("path") or "")
        for split in sorted(named):
            entries = named[split] if isinstance(named[split], list) else [named[split]]
            for entry in entries:
                for image in _entry(found, str(entry), base, description):
                    if taken.setdefault(image, split) != split:
                        raise ValueError(
                            f"{description} has {image} both in {taken[image]} and in {split}; "
                            "each picture belongs to one"
                        )
        found.how.append(f"splits: {description.name}")
        yield from taken.items()
        return
    lists = {
        split: file
        for file in sorted(root.glob("*.txt"))
        if (split := split_in(file.stem)) is not None
    }
    if lists:
        for split, file in lists.items():
            yield from ((image, split) for image in _entry(found, file.name, root, file))
        found.how.append(f"splits: {', '.join(sorted(file.name for file in lists.values()))}")
        return
    for image in files_below(root, SUFFIXES):
        yield image, split_of_path(image.relative_to(root).as_posix())


def _entry(found: LabelledSet, entry: str, base: Path, where: Path) -> Iterator[Path]:
    """Pictures of an entry: a folder, or a list of files."""
    root = found.root
    inner = entry.replace("\\", "/")
    while inner.startswith("../"):  # as Roboflow writes it, from a folder that nobody has
        inner = inner[3:]
    places = [base / entry, root / entry, root / inner]
    place = next((p for p in places if p.exists()), None)
    if place is None:
        raise ValueError(f"{where} names {entry}, which is not below {root}; correct the path")
    place = Path(os.path.normpath(place))
    if not place.is_relative_to(root):
        raise ValueError(f"{where} names {entry}, which lies outside {root}; move it there")
    if place.is_dir():
        yield from files_below(place, SUFFIXES)
        return
    found.read.append(place)
    for line in place.read_text(encoding="utf-8-sig").splitlines():
        line = line.strip()
        if not line:
            continue
        tails = [place.parent / line, root / line, root / line.removeprefix("./")]
        image = next((p for p in tails if p.is_file()), None)
        image = image or _tail_below(root, line)
        if image is None:
            raise ValueError(f"{place} lists {line}, which is not below {root}; correct the list")
        yield Path(os.path.normpath(image))


def _tail_below(root: Path, line: str) -> Path | None:
    """The picture that a path of another machine means: the longest tail that is below the root."""
    parts = line.replace("\\", "/").split("/")
    tails = (root.joinpath(*parts[k:]) for k in range(1, len(parts)))
    return next((tail for tail in tails if tail.is_file()), None)


def _shapes(
    found: LabelledSet, file: Path, image: LabelledImage, classes: list[str]
) -> Iterator[Shape]:
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise ValueError(f"{file} is no text; write a line 'class x y w h' an object") from None
    width, height = image.size
    for number, line in enumerate(lines, start=1):
        words = line.split()
        if not words:
            continue
        where = f"{file}: line {number}"
        try:
            values = [float(word) for word in words]
        except ValueError:
            raise ValueError(
                f"{where} is {line.strip()[:60]!r}; write 'class x y w h' in numbers"
            ) from None
        if not all(map(math.isfinite, values)):
            raise ValueError(f"{where} has a value that is no finite number; correct it")
        if len(words) == 6:
            raise ValueError(
                f"{where} has a sixth number, as predictions have for their score; give labels of "
                "'class x y w h'"
            )
        if len(words) != 5 and (len(words) < 7 or len(words) % 2 == 0):
            raise ValueError(
                f"{where} has {len(words)} numbers; a box is 'class x y w h', an outline the class "
                "and at least three points x y"
            )
        k = int(values[0])
        if k != values[0] or not 0 <= k < len(classes):
            raise ValueError(
                f"{where} has class {words[0]}, but there are {len(classes)} classes, 0 to "
                f"{len(classes) - 1}; correct the label or the list of classes"
            )
        shares = values[1:]
        if min(shares) < -TOLERANCE or max(shares) > 1 + TOLERANCE:
            value = next(v for v in shares if not -TOLERANCE <= v <= 1 + TOLERANCE)
            raise ValueError(
                f"{where} has {value:g}, outside 0 to 1; coordinates are shares of the picture, so "
                "divide x and w by its width, y and h by its height"
            )
        if len(shares) == 4:
            x, y, w, h = shares
            left, top, right, bottom = x - w / 2, y - h / 2, x + w / 2, y + h / 2
            box = left * width, top * height, right * width, bottom * height
            yield Shape(classes[k], box, order=number)
            continue
        if len(shares) == 8:
            found.found.add_count(OUTLINES_OF_FOUR, 1)
        points = tuple(v * (height if i % 2 else width) for i, v in enumerate(shares))
        yield Shape(classes[k], bounds([points]), (points,), order=number)


def _looks_like_labels(file: Path, root: Path) -> bool:
    """Whether a text file without a picture is a label file rather than notes or a list."""
    if file.name.lower() in NO_LABELS or (file.parent == root and split_in(file.stem)):
        return False
    try:
        with file.open(encoding="utf-8-sig") as stream:
            words = stream.readline(10_000).split()
        numbers = [ast.literal_eval(word) for word in words]
    except (ValueError, SyntaxError, UnicodeDecodeError, OSError):
        return False
    return "labels" in file.relative_to(root).parts or len(numbers) >= 5


def is_yolo(root: Path) -> bool:
    """Whether a folder has YOLO labels: a description, or label files of pictures."""
    if data_yaml(root) is not None:
        return True
    for image in files_below(root, SUFFIXES)[:200]:
        labels = label_file(image)
        if labels.is_file() and labels.name.lower() not in NO_LABELS:
            return True
    return False
