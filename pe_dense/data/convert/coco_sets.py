"""COCO's own JSON files as a source: masks of objects, and panoptic PNG with their JSON.

A panoptic segment is the pixels whose R + 256 G + 65536 B is its id. Segments of stuff have no
instances; as label maps they count like all others. Objects of COCO overlap without an order: the
smaller one lies on top.

Source: cocodataset.org, data format, panoptic segmentation; panopticapi @ 7bb4655, README.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from pe_dense.data.checks.rules import Rule
from pe_dense.data.convert.image_places import ImagePlaces, files_below
from pe_dense.data.convert.labelled_set import (
    EMPTY,
    NO_IMAGE,
    SHORT,
    UNLABELLED,
    LabelledSet,
    Shape,
    bounds,
    clean,
    split_in,
    split_of_path,
)
from pe_dense.data.convert.outlines import area_of, box_of_mask, runs_of

STUFF = Rule(
    "stuff-segments",
    "segments of stuff (sky, grass ...), which are no objects",
    "write label maps of them, --to semantic",
    "left out",
)
CROWDS = Rule("crowds", "crowds (not trained on, ignored in scores)", is_problem=False)
_SPLIT_IN_NAME = ("train", "val", "test")


def is_panoptic(content: Any) -> bool:
    """Whether what a JSON holds is of the panoptic format."""
    return _is_coco(content) and any("segments_info" in a for a in content["annotations"][:5])


def is_masks(content: Any) -> bool:
    """Whether what a JSON holds is COCO with segmentations."""
    return _is_coco(content) and any(a.get("segmentation") for a in content["annotations"])


def _is_coco(content: Any) -> bool:
    return isinstance(content, Mapping) and {"images", "annotations", "categories"} <= set(content)


def read_coco_masks(root: Path) -> LabelledSet:
    """A folder of COCO JSON files with masks.

    Raises:
        ValueError: If files name other classes or the same picture, or an object has no mask.
    """
    found = LabelledSet(root, "coco-masks")
    places = ImagePlaces(root)
    found.how.append("of overlapping objects the smaller one lies on top")
    for file, content, split in _files(found, is_masks):
        names = _names(found, file, content)
        by_image: dict[int, list[Mapping[str, Any]]] = {}
        for annotation in content["annotations"]:
            by_image.setdefault(annotation["image_id"], []).append(annotation)
        for image in content["images"]:
            entry = _image(found, file, image, split, places)
            if entry is None:
                continue
            for annotation in by_image.get(image["id"], []):
                shape = _object(found, file, annotation, names, entry.size)
                if shape is not None:
                    entry.shapes.append(shape)
            if not entry.shapes:
                found.found.add(EMPTY, image["file_name"], "has no object", file)
    return found.finish(found.classes)


def _object(
    found: LabelledSet, file: Path, annotation: Mapping[str, Any], names: Mapping[int, str],
    size: tuple[int, int],
) -> Shape | None:  # fmt: skip
    where = f"annotation {annotation.get('id')}"
    label = names.get(annotation["category_id"])
    if label is None:
        raise ValueError(f"{file}: {where} has category {annotation['category_id']}, not listed")
    segmentation = annotation.get("segmentation")
    if not segmentation:
        raise ValueError(f"{file}: {where} has no segmentation; draw it, or use the boxes as COCO")
    crowd = bool(annotation.get("iscrowd"))
    found.found.add_count(CROWDS, int(crowd))
    if isinstance(segmentation, Mapping):
        counts = segmentation.get("counts")
        if segmentation.get("size") != [size[1], size[0]] or not isinstance(counts, str | list):
            raise ValueError(f"{file}: {where} has run lengths for another size than its picture")
        x, y, w, h = annotation["bbox"]
        runs = {"size": segmentation["size"], "counts": counts}
        order = -float(annotation.get("area", w * h))
        return Shape(label, (x, y, x + w, y + h), runs=runs, is_crowd=crowd, order=order)
    parts = [tuple(map(float, part)) for part in segmentation if len(part) >= 6]
    if len(parts) < len(segmentation):
        found.found.add(SHORT, where, "has a polygon of fewer than three points", file)
    if not parts:
        return None
    order = -sum(map(area_of, parts))
    return Shape(label, bounds(parts), tuple(parts), is_crowd=crowd, order=order)


def read_panoptic(root: Path, things_only: bool) -> LabelledSet:
    """A folder of panoptic JSON files, their PNG and their pictures.

    Args:
        root: The folder.
        things_only: Whether segments of stuff are no objects, for instances.

    Raises:
        ValueError: If a PNG is missing, or its segments are not those of the JSON.
    """
    found = LabelledSet(root, "coco-panoptic")
    maps = [f.with_suffix("") for f in files_below(root, (".json",)) if f.with_suffix("").is_dir()]
    places = ImagePlaces(root, without=maps)
    classes: list[str] | None = None
    for file, content, split in _files(found, is_panoptic):
        names = _names(found, file, content)
        things = {c["id"] for c in content["categories"] if c.get("isthing", 1)}
        if things_only:
            classes = [n for key, n in names.items() if key in things]
        images = {image["id"]: image for image in content["images"]}
        for annotation in content["annotations"]:
            image = images.pop(annotation["image_id"], None)
            if image is None:
                raise ValueError(
                    f"{file} has two maps, or none of its images, for {annotation['image_id']}"
                )
            segments = _segments(file, annotation["file_name"])
            entry = _image(found, file, image, split, places)
            if entry is None:
                continue
            if segments.shape != entry.size[::-1]:
                raise ValueError(
                    f"{file}: {annotation['file_name']} is of another size than {entry.file}"
                )
            for segment in annotation["segments_info"]:
                if things_only and segment["category_id"] not in things:
                    found.found.add(STUFF, annotation["file_name"], "has stuff", file)
                    continue
                mask = segments == segment["id"]
                box = box_of_mask(mask)
                if box is None or segment["category_id"] not in names:
                    raise ValueError(
                        f"{file}: {annotation['file_name']} lacks segment {segment['id']}, or its "
                        "category is not listed"
                    )
                crowd = bool(segment.get("iscrowd"))
                found.found.add_count(CROWDS, int(crowd))
                label = names[segment["category_id"]]
                entry.shapes.append(Shape(label, box, runs=runs_of(mask), is_crowd=crowd))
        for image in images.values():
            if _image(found, file, image, split, places) is not None:
                found.found.add(UNLABELLED, image["file_name"], "has no map", file)
    return found.finish(classes or found.classes)


def _segments(file: Path, name: str) -> np.ndarray:
    """(H, W) ids of segments."""
    near = [file.parent / file.stem, file.parent, file.parent.parent / file.stem]
    png = next((folder / name for folder in near if (folder / name).is_file()), None)
    if png is None:
        raise ValueError(
            f"{file} names the map {name}, which is not in {file.stem}/ beside it; put it there"
        )
    bgr = cv2.imread(str(png), cv2.IMREAD_COLOR)
    if bgr is None:
        raise ValueError(f"{png} cannot be decoded; copy it anew")
    blue, green, red = bgr.astype(np.int64).transpose(2, 0, 1)
    return red + 256 * green + 65536 * blue


def _files(found: LabelledSet, is_one: Any) -> Iterator[tuple[Path, dict[str, Any], str | None]]:
    for file in files_below(found.root, (".json",)):
        content = json.loads(file.read_text(encoding="utf-8-sig"))
        if not is_one(content):
            continue
        found.read.append(file)
        word = next((w for w in _SPLIT_IN_NAME if w in file.stem.lower()), "")
        yield (
            file,
            content,
            split_in(word) or split_of_path(file.relative_to(found.root).as_posix()),
        )


def _names(found: LabelledSet, file: Path, content: Mapping[str, Any]) -> dict[int, str]:
    names = {c["id"]: clean(str(c["name"])) for c in content["categories"]}
    if found.classes and found.classes != list(names.values()):
        raise ValueError(
            f"{file} names the classes {', '.join(list(names.values())[:5])}, but another JSON "
            f"{', '.join(found.classes[:5])}; name the same ones in each"
        )
    found.classes = list(names.values())
    return names


def _image(
    found: LabelledSet, file: Path, image: Mapping[str, Any], split: str | None,
    places: ImagePlaces,
) -> Any:  # fmt: skip
    near = [file.parent, file.parent.parent / "images"]
    if split is not None:
        near.insert(0, file.parent.parent / "images" / split)
    path = places.named(image["file_name"], near, file)
    if path is None:
        found.found.add(NO_IMAGE, image["file_name"], "is not there", file)
        return None
    if any(other.file == path for other in found.images):
        raise ValueError(f"{file} has {image['file_name']}, which another JSON has, too; keep one")
    entry = found.add_image(path, split)
    if (image["width"], image["height"]) != entry.size:
        raise ValueError(
            f"{file} has {image['file_name']} with {image['width']} x {image['height']} px, but it "
            f"has {entry.size[0]} x {entry.size[1]}; put the right picture there"
        )
    return entry
