"""labelme's JSON: a file for every picture, shapes in pixels.

Shapes of one label and one group_id are the parts of one object. A circle is its middle and a point
of its border; a mask lies in the rectangle of its two points, the last pixel inside. Later shapes
lie on top. '__ignore__' marks what is to be left alone, '_background_' is no object.

Source: labelme 5 (wkentaro/labelme), label files and utils/shape.py, read as documentation.
"""

from __future__ import annotations

import base64
import binascii
import io
import json
import math
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from pe_dense.data.convert.image_places import ImagePlaces, files_below
from pe_dense.data.convert.labelled_set import (
    EMPTY,
    NAMELESS,
    NO_AREA,
    NO_IMAGE,
    ROTATED,
    SHORT,
    UNLABELLED,
    LabelledImage,
    LabelledSet,
    Shape,
    bounds,
    clean,
    split_of_path,
)
from pe_dense.data.convert.outlines import box_of_mask, drawn, ellipse, runs_of

_NO_AREAS = ("line", "linestrip", "point", "points")
_IGNORED, _BACKGROUND = "__ignore__", "_background_"


def is_labelme(content: Any) -> bool:
    """Whether what a JSON holds is a label file of labelme."""
    return isinstance(content, Mapping) and {"shapes", "imagePath"} <= set(content)


def read_labelme(root: Path) -> LabelledSet:
    """A folder of labelme's files and their pictures.

    Raises:
        ValueError: If a file cannot be understood, or is for a picture of another size.
    """
    found = LabelledSet(root, "labelme")
    places = ImagePlaces(root)
    labelled: dict[Path, Path] = {}
    for file in files_below(root, (".json",)):
        content = json.loads(file.read_text(encoding="utf-8-sig"))
        if not is_labelme(content):
            continue
        found.read.append(file)
        near = [file.parent, file.parent.parent / "images"]
        named = places.named(str(content["imagePath"]), near, file)
        image = named or places.of_stem(file.stem, near, file)
        if image is None:
            found.found.add(NO_IMAGE, "", f"is of {content['imagePath']!r}", file)
            continue
        if image in labelled:
            raise ValueError(f"{labelled[image]} and {file} both label {image.name}; keep one")
        labelled[image] = file
        name = image.relative_to(root).as_posix()
        entry = found.add_image(image, split_of_path(name))
        said = content.get("imageWidth"), content.get("imageHeight")
        if None not in said and said != entry.size:
            raise ValueError(
                f"{file} is for a picture of {said[0]} x {said[1]}, but {image} has "
                f"{entry.size[0]} x {entry.size[1]}; put the right picture there"
            )
        entry.shapes = _objects(found, file, content["shapes"], entry)
        if not content["shapes"]:
            found.found.add(EMPTY, "", "has no shape", file)
    for image in places.files:
        if image not in labelled:
            found.add_image(image, split_of_path(image.relative_to(root).as_posix()))
            found.found.add(UNLABELLED, image.name, "has no label file", image.parent)
    names = {s.label for image in found.images for s in image.shapes} - {_IGNORED}
    for image in found.images:  # what is ignored needs some class, as COCO's files have it
        image.shapes = [
            Shape(sorted(names)[0], s.box_xyxy, s.polygons, s.runs, True, s.order)
            if s.label == _IGNORED and names
            else s
            for s in image.shapes
        ]
    return found.finish()


def _objects(
    found: LabelledSet, file: Path, shapes: list[Mapping[str, Any]], entry: LabelledImage
) -> list[Shape]:
    """Shapes of a file, those of one group together."""
    parts: dict[tuple[str, Any], list[tuple[int, Shape]]] = defaultdict(list)
    for k, item in enumerate(shapes):
        shape = _shape(found, file, k, item, entry)
        if shape is not None:
            group = item.get("group_id")
            parts[shape.label, f"alone {k}" if group is None else group].append((k, shape))
    return [_together(group, entry.size) for group in parts.values()]


def _shape(
    found: LabelledSet, file: Path, k: int, item: Mapping[str, Any], entry: LabelledImage
) -> Shape | None:
    where, label = f"shape {k + 1}", clean(str(item.get("label") or ""))
    if not label:
        found.found.add(NAMELESS, where, "has no label", file)
        return None
    if label == _BACKGROUND:
        return None
    kind = item.get("shape_type") or "polygon"
    if kind in _NO_AREAS:
        found.found.add(NO_AREA, where, f"is a {kind} of {label!r}", file)
        return None
    points = item.get("points") or []
    numbers = [v for point in points for v in point]
    if any(not isinstance(v, int | float) or not math.isfinite(v) for v in numbers):
        raise ValueError(f"{file}: {where} has points {str(points)[:60]}, not numbers; correct it")
    needed = {"rectangle": 2, "circle": 2, "mask": 2, "polygon": 3, "oriented_rectangle": 4}
    if kind not in needed:
        raise ValueError(f"{file}: {where} is a {kind!r}, which is not known; use polygons")
    if len(points) < needed[kind]:
        found.found.add(SHORT, where, f"is a {kind} of {len(points)} points", file)
        return None
    if kind == "rectangle":
        (x1, y1), (x2, y2) = points[:2]
        return Shape(label, (min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)), order=k)
    if kind == "circle":
        (cx, cy), (x, y) = points[:2]
        radius = math.hypot(x - cx, y - cy)
        outline = ellipse(cx, cy, radius, radius)
    elif kind == "mask":
        mask = _mask(file, where, item, points, entry.size)
        box = box_of_mask(mask)
        if box is None:
            found.found.add(SHORT, where, "is an empty mask", file)
            return None
        return Shape(label, box, runs=runs_of(mask), order=k)
    else:
        outline = tuple(float(v) for v in numbers)
        if kind == "oriented_rectangle":
            found.found.add(ROTATED, where, f"is a turned rectangle of {label!r}", file)
    return Shape(label, bounds([outline]), (outline,), order=k)


def _mask(
    file: Path, where: str, item: Mapping[str, Any], points: list[list[float]],
    size: tuple[int, int],
) -> np.ndarray:  # fmt: skip
    try:
        content = base64.b64decode(item["mask"], validate=True)
        inner = np.asarray(Image.open(io.BytesIO(content)).convert("L")) > 0
    except (KeyError, TypeError, binascii.Error, UnidentifiedImageError, OSError):
        raise ValueError(f"{file}: {where} has a mask that is no PNG; draw it anew") from None
    (x1, y1), (x2, y2) = ((round(v) for v in point) for point in points[:2])
    mask = np.zeros((size[1], size[0]), dtype=bool)
    if (
        inner.shape != (y2 - y1 + 1, x2 - x1 + 1)
        or min(x1, y1) < 0
        or (x2 >= size[0] or y2 >= size[1])
    ):
        raise ValueError(
            f"{file}: {where} has a mask of {inner.shape[1]} x {inner.shape[0]} px for the pixels "
            f"({x1}, {y1}) to ({x2}, {y2}); draw it anew"
        )
    mask[y1 : y2 + 1, x1 : x2 + 1] = inner
    return mask


def _together(group: list[tuple[int, Shape]], size: tuple[int, int]) -> Shape:
    """One object of the parts of a group, on the place of its first part."""
    first_place, first = group[0]
    if len(group) == 1:
        return first
    shapes = [shape for _, shape in group]
    box = bounds(shape.box_xyxy for shape in shapes)
    if all(shape.polygons for shape in shapes):
        outlines = tuple(part for shape in shapes for part in shape.polygons)
        return Shape(first.label, box, outlines, order=first_place)
    if not any(shape.has_mask for shape in shapes):
        return Shape(first.label, box, order=first_place)
    mask = np.zeros((size[1], size[0]), dtype=bool)
    for shape in shapes:
        if shape.has_mask:
            mask |= drawn(shape.polygons, shape.runs, size)
        else:
            x1, y1, x2, y2 = shape.box_xyxy
            mask |= drawn(((x1, y1, x2, y1, x2, y2, x1, y2),), None, size)
    return Shape(first.label, box, runs=runs_of(mask), order=first_place)
