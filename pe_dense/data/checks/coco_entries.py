"""What an entry of a COCO JSON must be, and its fields gathered into columns.

Shape legend: I images, A annotations, K categories; those with faults of form are left out.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from pe_dense.data.checks.coco_segmentations import MaskReader, short
from pe_dense.data.checks.rules import FindingCollector, Rule
from pe_dense.data.coco_categories import real_categories

PARTS = ("images", "annotations", "categories")
_LARGEST_ID = 2**63 - 1
_LARGEST_SIDE = 2**31 - 1  # pixels

LACKING = {part: Rule(f"incomplete-{part}", f"{part} that lack a key", "add it") for part in PARTS}
NO_INTEGER = {
    part: Rule(f"{part}-ids", f"ids of {part} that are no integers", "number them anew")
    for part in PARTS
}
TWICE = {
    part: Rule(f"repeated-{part}-ids", f"ids of {part} given twice", "number them anew")
    for part in PARTS
}
NOT_LISTED = {
    what: Rule(
        f"unlisted-{plural}",
        f"annotations of {plural} that are not listed",
        f"list the {what}, or take the annotation out",
    )
    for what, plural in (("image", "images"), ("category", "categories"))
}
NO_FILE_NAME = Rule(
    "file-names", "file names that are no text", "write the name of the image's file"
)
NO_SIZE = Rule(
    "image-sizes", "image sizes that are no whole numbers", "write width and height in pixels"
)
NO_BOX = Rule("box-numbers", "boxes that are not four numbers", "write x, y, w, h in pixels")
NO_AREA = Rule("areas", "areas that are no numbers", "write the area of box or mask in pixels")
NO_FLAG = Rule("flags", "iscrowd or ignore that is neither 0 nor 1", "write 0 or 1")
NO_CLASS_NAME = Rule("class-names", "category names that are no text", "name the class")
CLASS_TWICE = Rule(
    "repeated-classes", "names of categories given twice", "merge them, or rename one"
)

RULES = (
    *LACKING.values(), *NO_INTEGER.values(), *TWICE.values(), *NOT_LISTED.values(), NO_FILE_NAME,
    NO_SIZE, NO_BOX, NO_AREA, NO_FLAG, NO_CLASS_NAME, CLASS_TWICE,
)  # fmt: skip

# A rule that is broken, the item that breaks it, and what is wrong there.
_Broken = tuple[Rule, str, str]


class EntryReader:
    """Takes entries one by one and keeps their fields.

    Args:
        path: The file, for messages.
        name_key: The key that names an image.
        name_of: Image -> path of its file below the image folder.
    """

    def __init__(self, path: Path, name_key: str, name_of: Callable[[dict], str]) -> None:
        self.name_key, self.name_of = name_key, name_of
        self.faults, self.masks = FindingCollector(path), MaskReader(path)
        self.counts = dict.fromkeys(PARTS, 0)
        self.image_ids, self.sizes, self.file_names = array("q"), array("q"), []
        self.ids, self.images, self.classes = array("q"), array("q"), array("q")
        self.boxes, self.areas = array("d"), array("d")
        self.crowd, self.num_flagged = array("b"), 0
        self.categories: list[dict[str, Any]] = []
        # Places in the file, for messages: entries that were left out shift the columns.
        self.image_places, self.annotation_places = array("q"), array("q")

    def add(self, part: str, item: Any) -> None:
        """The next entry of a part."""
        place = self.counts[part]
        self.counts[part] += 1
        broken = getattr(self, f"_add_{part}")(item, place)
        if broken is not None:
            self.faults.add(*broken)

    def _add_images(self, item: Any, place: int) -> _Broken | None:
        broken = _broken_keys("images", item, place, ("id", self.name_key, "width", "height"))
        if broken:
            return broken
        where, name = f"images[{place}]", item[self.name_key]
        if not isinstance(name, str) or not name.strip() or "\0" in name:
            value = f"has a {self.name_key} {short(name)}, not the name of a file"
            return NO_FILE_NAME, where, value
        size = item["width"], item["height"]
        if not all(_is_number(v) and 1 <= v <= _LARGEST_SIDE and v == int(v) for v in size):
            value = (
                f"({name}) has a width and height of {short(size[0])} and {short(size[1])}, not "
                "two whole numbers of pixels"
            )
            return NO_SIZE, where, value
        self.image_ids.append(item["id"])
        self.sizes.extend(map(int, size))
        self.file_names.append(self.name_of(item))
        self.image_places.append(place)
        return None

    def _add_annotations(self, item: Any, place: int) -> _Broken | None:
        keys = ("id", "image_id", "category_id", "bbox", "area")
        broken = _broken_keys("annotations", item, place, keys)
        if broken:
            return broken
        where = f"annotation {item['id']}"
        for what, rule in NOT_LISTED.items():
            value = item[f"{what}_id"]
            if not _is_id(value):
                return rule, where, f"names {what} {short(value)}, which is not listed"
        box = item["bbox"]
        if not isinstance(box, list) or len(box) != 4 or not all(map(_is_number, box)):
            return NO_BOX, where, f"has a bbox {short(box)}, not four numbers x, y, w, h"
        if not _is_number(item["area"]):
            return NO_AREA, where, f"has an area {short(item['area'])}, not a number"
        crowd, flag = item.get("iscrowd", 0), item.get("ignore", 0)
        for name, value in (("iscrowd", crowd), ("ignore", flag)):
            if value not in (0, 1):
                return NO_FLAG, where, f"has {name} {short(value)}"
        self.ids.append(item["id"])
        self.images.append(item["image_id"])
        self.classes.append(item["category_id"])
        self.boxes.extend(box)
        self.areas.append(item["area"])
        self.crowd.append(int(crowd or flag))
        self.num_flagged += int(flag and not crowd)
        self.annotation_places.append(place)
        self.masks.add(item["id"], item.get("segmentation"))
        return None

    def _add_categories(self, item: Any, place: int) -> _Broken | None:
        broken = _broken_keys("categories", item, place, ("id", "name"))
        if broken:
            return broken
        if not isinstance(item["name"], str) or not item["name"].strip():
            value = f"has a name {short(item['name'])}, not a text"
            return NO_CLASS_NAME, f"categories[{place}]", value
        self.categories.append(item)
        return None

    def columns(self) -> dict[str, Any]:
        """The fields of a `CocoFile` but path and hash."""
        ids_I = np.array(self.image_ids, dtype=np.int64)
        ids_A = np.array(self.ids, dtype=np.int64)
        of_annotations = {
            "annotation_ids_A": ids_A,
            "image_ids_A": np.array(self.images, dtype=np.int64),
            "category_ids_A": np.array(self.classes, dtype=np.int64),
            "boxes_A4": np.array(self.boxes, dtype=np.float64).reshape(-1, 4),
            "areas_A": np.array(self.areas, dtype=np.float64),
            "is_crowd_A": np.array(self.crowd, dtype=bool),
        }
        self._add_repeated_ids("images", ids_I, self.image_places)
        self._add_repeated_ids("annotations", ids_A, self.annotation_places)
        self._add_repeated_category_ids()
        categories = real_categories(self.categories, set(self.classes))
        self._add_repeated_names(categories)
        listed = np.array([category["id"] for category in self.categories], dtype=np.int64)
        is_sound_A = np.ones(len(ids_A), dtype=bool)
        for what, known in (("image", ids_I), ("category", listed)):
            named_A = of_annotations[f"{what}_ids_A"]
            is_listed_A = np.isin(named_A, known)
            is_sound_A &= is_listed_A
            self.faults.add_marked(
                NOT_LISTED[what],
                ~is_listed_A,
                lambda a, what=what, named_A=named_A: (
                    f"annotation {ids_A[a]}",
                    f"names {what} {named_A[a]}, which is not listed",
                ),
            )
        return {
            "image_ids_I": ids_I,
            "sizes_I2": np.array(self.sizes, dtype=np.int64).reshape(-1, 2),
            "file_names": self.file_names,
            **{name: column[is_sound_A] for name, column in of_annotations.items()},
            "num_flagged": self.num_flagged,
            "categories": categories,
            "listed": [category["name"] for category in self.categories],
            "masks": self.masks.masks().of(is_sound_A),
            "findings": self.faults.findings(),
        }

    def _add_repeated_ids(self, part: str, ids: np.ndarray, places_in_file: array) -> None:
        is_repeat = np.ones(len(ids), dtype=bool)
        is_repeat[np.unique(ids, return_index=True)[1]] = False
        self.faults.add_marked(
            TWICE[part],
            is_repeat,
            lambda i: (f"{part}[{places_in_file[i]}]", f"repeats id {ids[i]}"),
        )

    def _add_repeated_category_ids(self) -> None:
        ids = [category["id"] for category in self.categories]
        for k, value in enumerate(ids):
            if value in ids[:k]:
                self.faults.add(TWICE["categories"], f"categories[{k}]", f"repeats id {value}")

    def _add_repeated_names(self, categories: list[dict[str, Any]]) -> None:
        """MMDetection finds a category by its name, and would mix up all that follow."""
        names = [category["name"] for category in categories]
        for k, name in enumerate(names):
            if name in names[:k]:
                place = self.categories.index(categories[k])
                self.faults.add(CLASS_TWICE, f"categories[{place}]", f"repeats name {name!r}")


def _broken_keys(part: str, item: Any, place: int, keys: tuple[str, ...]) -> _Broken | None:
    where = f"{part}[{place}]"
    for key in keys:
        if not isinstance(item, dict) or key not in item:
            return LACKING[part], where, f"has no {key!r}"
    if not _is_id(item["id"]):
        return NO_INTEGER[part], where, f"has an id {short(item['id'])}, not an integer"
    return None


def _is_id(value: Any) -> bool:
    return type(value) is int and abs(value) <= _LARGEST_ID


def _is_number(value: Any) -> bool:
    if type(value) is int:
        return abs(value) <= _LARGEST_ID
    return type(value) is float and math.isfinite(value)
