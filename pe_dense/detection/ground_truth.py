"""The objects that detections are scored on, under numbers instead of the ids of their file.

Ids are names. Evaluators of COCO take them for numbers: an annotation 0 reads as 'not matched',
and what is above 2^53 loses its last digits in float64. Here images, annotations and classes are
counted from 1; ids come back only where something is written.

Shape legend: K classes.
"""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pe_dense.data.coco_categories import categories_of
from pe_dense.data.coco_objects import is_ignored, is_trainable

# pycocotools' COCO, or faster-coco-eval's.
Coco = TypeVar("Coco")
# LVIS's lists of classes in an image.
_CLASS_LISTS = ("neg_category_ids", "not_exhaustive_category_ids")


@dataclass(frozen=True)
class GroundTruth:
    """A COCO object whose images, annotations and categories are numbered from 1.

    Images are numbered by rising id, which is the order in which COCO's evaluators break ties;
    annotations as in the file; class k of `classes` is category k + 1.

    Attributes:
        dataset: The object.
        image_ids: What the file calls image 1, 2 ...
        classes: K names, in the order of labels.
        num_scored: Objects that count.
        num_untrainable: Those of them that no detector here was trained on; see `is_trainable`.
        num_ignored: Crowds and other regions that do not count; see `is_ignored`.
        num_left_out: Objects of other classes, and untrainable ones where they are left out.
    """

    dataset: dict[str, Any]
    image_ids: tuple[int, ...]
    classes: tuple[str, ...]
    num_scored: int
    num_untrainable: int
    num_ignored: int
    num_left_out: int

    def numbers(self, image_ids: Iterable[Any]) -> list[int]:
        """Numbers of images by their ids.

        Raises:
            ValueError: If one is not in the file, or comes twice.
        """
        places = {image_id: place for place, image_id in enumerate(self.image_ids, start=1)}
        ids = list(image_ids)
        for image_id in ids:
            if type(image_id) is not int or image_id not in places:
                raise ValueError(
                    f"detections name image {image_id!r}, which is none of the {len(places)} of "
                    "the annotation file; score on the file that the data set reads"
                )
        if len(set(ids)) < len(ids):
            twice = next(image_id for image_id in ids if ids.count(image_id) > 1)
            raise ValueError(
                f"image {twice} was scored twice, and would count twice; let the test data set "
                "give each image once"
            )
        return [places[image_id] for image_id in ids]

    def coco(self, kind: type[Coco]) -> Coco:
        """For an evaluator, which writes into what it gets."""
        coco: Any = kind()
        coco.dataset = {
            key: [dict(item) for item in items] for key, items in self.dataset.items()
        } | {"info": {}}  # loadRes copies it
        with contextlib.redirect_stdout(io.StringIO()):
            coco.createIndex()
        return coco

    def summary(self) -> str:
        """How many objects count, in one line."""
        untrainable = (
            f" ({self.num_untrainable:,} of them too small or outside to be trained on)"
            if self.num_untrainable
            else ""
        )
        return (
            f"objects: {self.num_scored:,} scored{untrainable}, {self.num_ignored:,} ignored "
            f"(crowds, 'ignore'), {self.num_left_out:,} left out"
        )


def read_ground_truth(
    ann_file: str | Path, classes: Sequence[str], leave_out_untrainable: bool = False
) -> GroundTruth:
    """`ground_truth` of a COCO JSON."""
    content = json.loads(Path(ann_file).read_text(encoding="utf-8"))
    return ground_truth(content, classes, str(ann_file), leave_out_untrainable)


def ground_truth(
    content: Mapping[str, Any],
    classes: Sequence[str],
    name: str = "the annotations",
    leave_out_untrainable: bool = False,
) -> GroundTruth:
    """Number what a COCO object holds, and sort out what counts.

    Args:
        content: As in the file. LVIS's 'neg_category_ids' and 'not_exhaustive_category_ids' are
            numbered, too.
        classes: Names of the labels, K of them; categories are found by name, in any order, and
            some may be missing (`categories_of`).
        name: How errors call the object.
        leave_out_untrainable: Leave out the objects that a detector is never trained on, instead
            of counting them as COCO does. Detections there are mistakes.

    Raises:
        ValueError: If a class is missing or comes twice, an id is no integer or comes twice, or an
            annotation names an image or category that is not listed.
    """
    used = {annotation["category_id"] for annotation in content["annotations"]}
    _require_ids(content["categories"], "categories", name)
    found = categories_of(classes, content["categories"], used, name)
    class_numbers = {c["id"]: number for number, c in enumerate(found, start=1) if c is not None}
    categories = [
        {"name": own, **(category or {}), "id": number}
        for number, (own, category) in enumerate(zip(classes, found, strict=True), start=1)
    ]
    images, image_numbers = _numbered_images(content["images"], class_numbers, name)
    listed = {category["id"] for category in content["categories"]}
    _require_ids(content["annotations"], "annotations", name)
    annotations, num_left_out, num_untrainable = [], 0, 0
    for annotation in content["annotations"]:
        for key, known in (("image_id", image_numbers), ("category_id", listed)):
            if type(annotation[key]) is not int or annotation[key] not in known:
                raise ValueError(
                    f"annotation {annotation['id']} of {name} has {key} {annotation[key]!r}, "
                    "which is not listed; list it, or remove the annotation"
                )
        category = class_numbers.get(annotation["category_id"])
        number = image_numbers[annotation["image_id"]]
        image, ignored = images[number - 1], is_ignored(annotation)
        untrainable = not (ignored or is_trainable(annotation, image["width"], image["height"]))
        if category is None or (untrainable and leave_out_untrainable):
            num_left_out += 1
            continue
        num_untrainable += untrainable
        own = dict(id=len(annotations) + 1, image_id=number, category_id=category)
        annotations.append(annotation | own | dict(iscrowd=int(ignored)))
    num_ignored = sum(annotation["iscrowd"] for annotation in annotations)
    return GroundTruth(
        dataset=dict(images=images, annotations=annotations, categories=categories),
        image_ids=tuple(image_numbers),
        classes=tuple(classes),
        num_scored=len(annotations) - num_ignored,
        num_untrainable=num_untrainable,
        num_ignored=num_ignored,
        num_left_out=num_left_out,
    )


def _numbered_images(
    images: Sequence[dict], class_numbers: Mapping[int, int], name: str
) -> tuple[list[dict], dict[int, int]]:
    """By rising id, and their numbers by id, in that order."""
    _require_ids(images, "images", name)
    ordered = sorted(images, key=lambda image: image["id"])
    numbers = {image["id"]: number for number, image in enumerate(ordered, start=1)}
    numbered = [
        image
        | dict(id=numbers[image["id"]])
        | {
            key: [class_numbers[i] for i in image[key] if i in class_numbers]
            for key in _CLASS_LISTS
            if key in image
        }
        for image in ordered
    ]
    return numbered, numbers


def _require_ids(items: Sequence[dict], part: str, name: str) -> None:
    seen: set[int] = set()
    for value in (item["id"] for item in items):
        if type(value) is not int or value in seen:
            fault = "comes twice" if type(value) is int else "is no integer"
            raise ValueError(f"id {value!r} of {part} in {name} {fault}; number them anew")
        seen.add(value)
