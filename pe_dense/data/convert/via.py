"""VGG Image Annotator 2: a JSON of pictures with regions in pixels.

The class of a region is its only attribute, or the one called class, label, name or type.

Source: www.robots.ox.ac.uk/~vgg/software/via, project and annotation files of version 2.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pe_dense.data.convert.image_places import ImagePlaces, files_below
from pe_dense.data.convert.labelled_set import (
    EMPTY,
    NAMELESS,
    NO_AREA,
    NO_IMAGE,
    SHORT,
    UNLABELLED,
    LabelledSet,
    Shape,
    bounds,
    clean,
    split_of_path,
)
from pe_dense.data.convert.outlines import ellipse

_USUAL = ("class", "label", "name", "type")


def _pictures(content: Any) -> list[Mapping[str, Any]] | None:
    if isinstance(content, Mapping):
        content = content.get("_via_img_metadata", content)
    if not isinstance(content, Mapping) or not content:
        return None
    items = list(content.values())
    known = all(isinstance(i, Mapping) and {"filename", "regions"} <= set(i) for i in items)
    return items if known else None


def is_via(content: Any) -> bool:
    """Whether what a JSON holds is of VIA 2."""
    return _pictures(content) is not None


def read_via(root: Path) -> LabelledSet:
    """A folder with VIA's JSON files and their pictures.

    Raises:
        ValueError: If the class of a region is not clear, or a shape is not understood.
    """
    found = LabelledSet(root, "via")
    places = ImagePlaces(root)
    labelled: set[Path] = set()
    for file in files_below(root, (".json",)):
        pictures = _pictures(json.loads(file.read_text(encoding="utf-8-sig")))
        for item in pictures or ():
            found.read.append(file)
            image = places.named(item["filename"], [file.parent, file.parent / "images"], file)
            if image is None:
                found.found.add(NO_IMAGE, item["filename"], "is not there", file)
                continue
            if image in labelled:
                raise ValueError(f"{file} labels {image.name}, which is labelled already; keep one")
            labelled.add(image)
            entry = found.add_image(image, split_of_path(image.relative_to(root).as_posix()))
            regions = item["regions"]
            regions = list(regions.values()) if isinstance(regions, Mapping) else regions
            for k, region in enumerate(regions):
                shape = _shape(found, file, item["filename"], region, k)
                if shape is not None:
                    entry.shapes.append(shape)
            if not regions:
                found.found.add(EMPTY, item["filename"], "has no region", file)
    for image in places.files:
        if image not in labelled:
            found.add_image(image, split_of_path(image.relative_to(root).as_posix()))
            found.found.add(UNLABELLED, image.name, "is in no JSON", image.parent)
    return found.finish()


def _shape(
    found: LabelledSet, file: Path, where: str, region: Mapping[str, Any], k: int
) -> Shape | None:
    shape, attributes = region["shape_attributes"], region.get("region_attributes") or {}
    named = {key: v for key, v in attributes.items() if isinstance(v, str) and v.strip()}
    usual = [key for key in _USUAL if key in named]
    if len(named) > 1 and not usual:
        raise ValueError(
            f"{file}: {where} has a region with the attributes {', '.join(named)}; call the one "
            "that is its class 'class'"
        )
    if not named:
        found.found.add(NAMELESS, where, "has a region without a class", file)
        return None
    label = clean(named[usual[0]] if usual else next(iter(named.values())))
    kind = shape.get("name")
    if kind == "rect":
        x, y = shape["x"], shape["y"]
        return Shape(label, (x, y, x + shape["width"], y + shape["height"]), order=k)
    if kind == "polygon":
        pairs = zip(shape["all_points_x"], shape["all_points_y"], strict=True)
        outline = tuple(float(v) for pair in pairs for v in pair)
        if len(outline) < 6:
            found.found.add(SHORT, where, "has a polygon of fewer than three points", file)
            return None
    elif kind == "circle":
        outline = ellipse(shape["cx"], shape["cy"], shape["r"], shape["r"])
    elif kind == "ellipse":
        # Version 2 writes theta in radians.
        degrees = 57.29577951308232 * float(shape.get("theta") or 0)
        outline = ellipse(shape["cx"], shape["cy"], shape["rx"], shape["ry"], degrees)
    else:
        found.found.add(NO_AREA, where, f"has a {kind} of {label!r}", file)
        return None
    return Shape(label, bounds([outline]), (outline,), order=k)
