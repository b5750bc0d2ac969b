"""A COCO JSON as columns: one array per field instead of one object per annotation.

Measured: 2 million annotations in a file of 400 MB take 0.4 GB while they are read. Objects365 has
about 27 million.

Shape legend: I images, A annotations, K categories; those with faults of form are left out.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from pe_dense.data.checks.findings import Finding, FindingCollector, problems
from pe_dense.data.checks.json_stream import NotJsonError, ObjectReader

PARTS = ("images", "annotations", "categories")
_LARGEST_ID = 2**63 - 1
_COCO_URL = "http://images.cocodataset.org/"


def plain_name(image: dict[str, Any]) -> str:
    """Name of an image's file below the image folder, as COCO states it."""
    return image["file_name"]


def lvis_name(image: dict[str, Any]) -> str:
    """The same for LVIS v1: the end of the address, which names the COCO folder too.

    Example:
        >>> lvis_name({"coco_url": "http://images.cocodataset.org/train2017/000000391895.jpg"})
        'train2017/000000391895.jpg'
    """
    return image["coco_url"].replace(_COCO_URL, "")


def objects365_name(image: dict[str, Any]) -> str:
    """The same for Objects365 v2: the last folder (the patch) and the file.

    Example:
        >>> objects365_name({"file_name": "images/v1/patch8/objects365_v1_00420917.jpg"})
        'patch8/objects365_v1_00420917.jpg'
    """
    return "/".join(PurePosixPath(image["file_name"]).parts[-2:])


# Form of a file -> the key that names an image, and the function that makes a path of it.
NAMING: dict[str, tuple[str, Callable[[dict[str, Any]], str]]] = {
    "coco": ("file_name", plain_name),
    "lvis": ("coco_url", lvis_name),
    "objects365": ("file_name", objects365_name),
}


@dataclass
class CocoFile:
    """The content of a COCO JSON.

    Attributes:
        path: Where it lies.
        sha256: Hash of the file, hex.
        image_ids_I: int64.
        sizes_I2: int64, width and height in pixels as the file states them.
        file_names: I paths below the image folder.
        annotation_ids_A, image_ids_A, category_ids_A: int64.
        boxes_A4: float64, x, y, w, h in pixels.
        areas_A: float64, pixels.
        is_crowd_A: bool.
        categories: K objects as in the file, in its order.
        findings: Faults of form, and of references between the lists.
    """

    path: Path
    sha256: str
    image_ids_I: np.ndarray
    sizes_I2: np.ndarray
    file_names: list[str]
    annotation_ids_A: np.ndarray
    image_ids_A: np.ndarray
    category_ids_A: np.ndarray
    boxes_A4: np.ndarray
    areas_A: np.ndarray
    is_crowd_A: np.ndarray
    categories: list[dict[str, Any]]
    findings: list[Finding]

    @property
    def category_ids(self) -> np.ndarray:
        """(K,) int64, in the order of the file."""
        return np.array([category["id"] for category in self.categories], dtype=np.int64)

    @property
    def num_images(self) -> int:
        """Number of images, I."""
        return len(self.image_ids_I)

    @property
    def num_annotations(self) -> int:
        """Number of annotations, A."""
        return len(self.annotation_ids_A)

    def image_index(self) -> np.ndarray:
        """(A,) place of each annotation's image; every reference must be sound."""
        return places(self.image_ids_I, self.image_ids_A)

    def is_usable(self) -> np.ndarray:
        """(A,) whether mmdet trains on the box: an area, a side of 1 px, part of it inside.

        Source: mmdet 3.5.1, CocoDataset.parse_data_info.
        """
        sizes_A2 = self.sizes_I2[self.image_index()]
        low_A2, side_A2 = self.boxes_A4[:, :2], self.boxes_A4[:, 2:]
        inside_A2 = np.minimum(low_A2 + side_A2, sizes_A2) - np.maximum(low_A2, 0)
        return (inside_A2 > 0).all(1) & (side_A2 >= 1).all(1) & (self.areas_A > 0)

    def class_names(self) -> list[str]:
        """Names of the categories, in the order of the file, without a placeholder.

        Roboflow writes a category for the project itself, which no annotation has: its
        supercategory is 'none', and it is that of all others.
        """
        used = set(self.category_ids_A.tolist())
        parents = {category.get("supercategory") for category in self.categories}
        return [
            category["name"]
            for category in self.categories
            if not (
                category.get("supercategory") == "none"
                and category["id"] not in used
                and category["name"] in parents
            )
        ]

    def class_counts(self) -> dict[str, tuple[int, int]]:
        """Name -> (images that show it, annotations), of every category, in the file's order."""
        class_A = places(self.category_ids, self.category_ids_A)
        pairs = np.unique(class_A * max(self.num_images, 1) + self.image_index())
        images_K = np.bincount(pairs // max(self.num_images, 1), minlength=len(self.categories))
        boxes_K = np.bincount(class_A, minlength=len(self.categories))
        return {
            category["name"]: (int(images), int(boxes))
            for category, images, boxes in zip(self.categories, images_K, boxes_K, strict=True)
        }

    def num_empty_images(self) -> int:
        """Images without any annotation."""
        return self.num_images - len(np.unique(self.image_ids_A))


def places(ids: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Index into `ids` of each wanted id; -1 where it is not there.

    Example:
        >>> places(np.array([7, 3, 5]), np.array([5, 7, 9])).tolist()
        [2, 0, -1]
    """
    if not len(ids):
        return np.full(len(wanted), -1)
    order = np.argsort(ids, kind="stable")
    found = order[np.searchsorted(ids, wanted, sorter=order).clip(max=len(ids) - 1)]
    return np.where(ids[found] == wanted, found, -1)


def read_coco_file(
    path: Path,
    naming: str = "coco",
    on_progress: Callable[[int, int], None] | None = None,
) -> CocoFile:
    """Read a COCO JSON once, entry by entry.

    Entries with a fault of form (a key is missing, an id is no integer, a box is not four finite
    numbers) are left out and reported in `findings`, as are repeated ids and names, and
    annotations that name an image or category that is not listed.

    Args:
        path: The file.
        naming: 'coco', 'lvis' or 'objects365': where the name of an image's file stands.
        on_progress: Called with (bytes read, bytes in all).

    Raises:
        ValueError: If the file is missing, no JSON, or not COCO.
    """
    if not path.is_file():
        raise ValueError(f"annotation file {path} does not exist; check data_root")
    columns = _Columns(naming)
    reader = ObjectReader(path, on_progress)
    seen: set[str] = set()
    try:
        for kind, key, value, _ in reader:
            if kind == "list":
                if key in seen:
                    raise ValueError(f"{path} is not COCO: it has the list {key!r} twice")
                seen.add(key)
            elif kind == "entry" and key in PARTS:
                columns.add(key, value)
    except NotJsonError as error:
        raise ValueError(f"{path} is not JSON ({error}); a COCO file is needed") from error
    except TypeError as error:
        if str(error) not in ("list", "str", "number", "bool", "NoneType"):
            raise
        raise ValueError(f"{path} is a {error}, not a COCO object") from error
    for part in PARTS:
        if part not in seen:
            raise ValueError(f"{path} is not COCO: it has no list {part!r}")
    return columns.coco_file(path, reader.sha256)


def require_sound(coco: CocoFile) -> None:
    """Refuse a file that has a fault of form or reference.

    Raises:
        ValueError: With the first of them.
    """
    for finding in problems(coco.findings):
        more = f" (and {finding.count - 1} more of this kind)" if finding.count > 1 else ""
        raise ValueError(f"{coco.path}: {finding.examples[0]}{more}")


class _Columns:
    """Takes entries one by one and keeps their fields."""

    def __init__(self, naming: str) -> None:
        self.name_key, self.name_of = NAMING[naming]
        self.faults = FindingCollector()
        self.counts = dict.fromkeys(PARTS, 0)
        self.image_ids, self.sizes, self.file_names = array("q"), array("q"), []
        self.ids, self.images, self.classes = array("q"), array("q"), array("q")
        self.boxes, self.areas = array("d"), array("d")
        self.crowd = array("b")
        self.categories: list[dict[str, Any]] = []
        # Places in the file, for messages: entries that were left out shift the columns.
        self.image_places, self.annotation_places = array("q"), array("q")

    def add(self, part: str, item: Any) -> None:
        place = self.counts[part]
        self.counts[part] += 1
        fault = getattr(self, f"_add_{part}")(item, place)
        if fault is not None:
            self.faults.add(*fault)

    def _add_images(self, item: Any, place: int) -> tuple[str, str] | None:
        fault = _fault_of_keys("images", item, place, ("id", self.name_key, "width", "height"))
        if fault:
            return fault
        name = item[self.name_key]
        if not isinstance(name, str) or not name.strip():
            where = f"images[{place}] has a {self.name_key} {_short(name)}"
            return "file names that are no text", f"{where}, not the name of a file"
        size = item["width"], item["height"]
        if not all(_is_number(v) and v >= 1 and v == int(v) for v in size):
            return (
                "image sizes that are no whole numbers",
                f"images[{place}] ({name}) has a width and height of {_short(size[0])} and "
                f"{_short(size[1])}, not two whole numbers of pixels",
            )
        self.image_ids.append(item["id"])
        self.sizes.extend(map(int, size))
        self.file_names.append(self.name_of(item))
        self.image_places.append(place)
        return None

    def _add_annotations(self, item: Any, place: int) -> tuple[str, str] | None:
        keys = ("id", "image_id", "category_id", "bbox", "area")
        fault = _fault_of_keys("annotations", item, place, keys)
        if fault:
            return fault
        where = f"annotation {item['id']}"
        for what in ("image", "category"):
            value = item[f"{what}_id"]
            if not _is_id(value):
                return (
                    f"annotations of {_plural(what)} that are not listed",
                    f"{where} names {what} {_short(value)}, which is not listed",
                )
        box = item["bbox"]
        if not isinstance(box, list) or len(box) != 4 or not all(map(_is_number, box)):
            return (
                "boxes that are not four numbers",
                f"{where} has a bbox {_short(box)}, not four numbers x, y, w, h",
            )
        if not _is_number(item["area"]):
            return (
                "areas that are no numbers",
                f"{where} has an area {_short(item['area'])}, not a number",
            )
        crowd = item.get("iscrowd", 0)
        if crowd not in (0, 1):
            return "iscrowd that is neither 0 nor 1", f"{where} has iscrowd {_short(crowd)}"
        self.ids.append(item["id"])
        self.images.append(item["image_id"])
        self.classes.append(item["category_id"])
        self.boxes.extend(box)
        self.areas.append(item["area"])
        self.crowd.append(int(crowd))
        self.annotation_places.append(place)
        return None

    def _add_categories(self, item: Any, place: int) -> tuple[str, str] | None:
        fault = _fault_of_keys("categories", item, place, ("id", "name"))
        if fault:
            return fault
        if not isinstance(item["name"], str) or not item["name"].strip():
            return (
                "category names that are no text",
                f"categories[{place}] has a name {_short(item['name'])}, not a text",
            )
        self.categories.append(item)
        return None

    def coco_file(self, path: Path, sha256: str) -> CocoFile:
        coco = CocoFile(
            path=path,
            sha256=sha256,
            image_ids_I=np.array(self.image_ids, dtype=np.int64),
            sizes_I2=np.array(self.sizes, dtype=np.int64).reshape(-1, 2),
            file_names=self.file_names,
            annotation_ids_A=np.array(self.ids, dtype=np.int64),
            image_ids_A=np.array(self.images, dtype=np.int64),
            category_ids_A=np.array(self.classes, dtype=np.int64),
            boxes_A4=np.array(self.boxes, dtype=np.float64).reshape(-1, 4),
            areas_A=np.array(self.areas, dtype=np.float64),
            is_crowd_A=np.array(self.crowd, dtype=bool),
            categories=self.categories,
            findings=[],
        )
        self._add_repeated_ids("images", coco.image_ids_I, self.image_places)
        self._add_repeated_ids("annotations", coco.annotation_ids_A, self.annotation_places)
        self._add_repeated_categories()
        is_sound_A = np.ones(coco.num_annotations, dtype=bool)
        for what, ids, listed in (
            ("image", coco.image_ids_A, coco.image_ids_I),
            ("category", coco.category_ids_A, coco.category_ids),
        ):
            is_listed_A = np.isin(ids, listed)
            is_sound_A &= is_listed_A
            self.faults.add_marked(
                f"annotations of {_plural(what)} that are not listed",
                ~is_listed_A,
                lambda a, what=what, ids=ids: (
                    f"annotation {coco.annotation_ids_A[a]} names {what} {ids[a]}, which is not "
                    "listed"
                ),
            )
        for name in ("annotation_ids_A", "image_ids_A", "category_ids_A", "boxes_A4", "areas_A",
                     "is_crowd_A"):  # fmt: skip
            setattr(coco, name, getattr(coco, name)[is_sound_A])
        coco.findings = self.faults.findings()
        return coco

    def _add_repeated_ids(self, part: str, ids: np.ndarray, places_in_file: array) -> None:
        is_repeat = np.ones(len(ids), dtype=bool)
        is_repeat[np.unique(ids, return_index=True)[1]] = False
        self.faults.add_marked(
            f"ids of {part} given twice",
            is_repeat,
            lambda i: f"{part}[{places_in_file[i]}] repeats id {ids[i]}",
        )

    def _add_repeated_categories(self) -> None:
        """Ids and names: mmdet finds a category by its name, and would mix up all that follow."""
        for key in ("id", "name"):
            values = [category[key] for category in self.categories]
            self.faults.add_marked(
                f"{key}s of categories given twice",
                np.array([value in values[:k] for k, value in enumerate(values)], dtype=bool),
                lambda k, key=key, values=values: f"categories[{k}] repeats {key} {values[k]!r}",
            )


def _fault_of_keys(
    part: str, item: Any, place: int, keys: tuple[str, ...]
) -> tuple[str, str] | None:
    for key in keys:
        if not isinstance(item, dict) or key not in item:
            return f"{part} that lack a key", f"is not COCO: {part}[{place}] has no {key!r}"
    if not _is_id(item["id"]):
        return (
            f"ids of {part} that are no integers",
            f"id {_short(item['id'])} of {part}[{place}] is no integer",
        )
    return None


def _is_id(value: Any) -> bool:
    return type(value) is int and abs(value) <= _LARGEST_ID


def _is_number(value: Any) -> bool:
    if type(value) is int:
        return abs(value) <= _LARGEST_ID
    return type(value) is float and math.isfinite(value)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:40]}..."


def _plural(what: str) -> str:
    return {"image": "images", "category": "categories"}[what]
