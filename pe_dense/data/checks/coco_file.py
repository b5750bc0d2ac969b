"""A COCO JSON as columns: one array per field instead of one object per annotation.

Measured: 2 million annotations in a file of 400 MB take 0.4 GB while they are read. Objects365 has
about 27 million.

Shape legend: I images, A annotations, K categories; those with faults of form are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from pe_dense.data.checks.coco_entries import PARTS, EntryReader
from pe_dense.data.checks.coco_segmentations import CocoMasks
from pe_dense.data.checks.json_stream import Event, NotJsonError, ObjectReader
from pe_dense.data.checks.rules import Finding, Rule, broken

NO_JSON = Rule("missing-json", "annotation files that do not exist", "check data_root")
NO_COCO = Rule("no-coco-file", "files that are no COCO annotations", "a COCO file is needed")
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
        is_crowd_A: bool, crowds and what has the flag 'ignore': neither trained on nor scored.
        num_flagged: How many of these have the flag 'ignore' and are no crowds.
        categories: K objects as in the file, in its order, without a placeholder.
        listed: Names of all, with a placeholder.
        masks: Of the A annotations.
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
    num_flagged: int
    categories: list[dict[str, Any]]
    listed: list[str]
    masks: CocoMasks
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

    def annotation(self, a: int) -> str:
        """How messages call an annotation by its place."""
        return f"annotation {self.annotation_ids_A[a]}"

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
        """Names of the categories, in the order of the file."""
        return [category["name"] for category in self.categories]

    def class_counts(self) -> dict[str, tuple[int, int, int]]:
        """Name -> (images that show it, annotations, objects), of every category, in its order.

        Objects are the annotations that can be trained on: usable and no crowds.
        """
        class_A = places(self.category_ids, self.category_ids_A)
        is_object_A = self.is_usable() & ~self.is_crowd_A
        num_images, num_classes = max(self.num_images, 1), len(self.categories)
        pairs = np.unique(class_A * num_images + self.image_index())
        columns = (pairs // num_images, class_A, class_A[is_object_A])
        counts_K3 = np.stack([np.bincount(c, minlength=num_classes) for c in columns], axis=1)
        return dict(zip(self.class_names(), map(tuple, counts_K3.tolist()), strict=True))

    def num_empty_images(self) -> int:
        """Images without any annotation."""
        return self.num_images - len(np.unique(self.image_ids_A))


def scored_objects(coco: CocoFile) -> tuple[np.ndarray, np.ndarray]:
    """Places of image and class of every annotation that scores count; references must be sound."""
    class_A = places(coco.category_ids, coco.category_ids_A)
    return coco.image_index()[~coco.is_crowd_A], class_A[~coco.is_crowd_A]


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
        UnsoundError: If the file is missing, no JSON, or not COCO.
    """
    reader, entries = ObjectReader(path, on_progress), EntryReader(path, *NAMING[naming])
    seen: set[str] = set()
    for kind, key, value, _ in _events(reader):
        if kind == "list":
            if key in seen:
                raise broken(NO_COCO, path, f"is not COCO: it has the list {key!r} twice")
            seen.add(key)
        elif kind == "entry" and key in PARTS:
            entries.add(key, value)
    for part in PARTS:
        if part not in seen:
            raise broken(NO_COCO, path, f"is not COCO: it has no list {part!r}")
    return CocoFile(path=path, sha256=reader.sha256, **entries.columns())


def read_images(path: Path, naming: str = "coco") -> tuple[list[str], np.ndarray]:
    """Names and sizes of the images alone, of a file that was read once before.

    Returns:
        I paths below the image folder; (I, 2) int64, width and height in pixels.

    Raises:
        UnsoundError: As `read_coco_file`.
    """
    entries = EntryReader(path, *NAMING[naming])
    for kind, key, value, _ in _events(ObjectReader(path)):
        if key == "images" and kind == "end":
            break  # nothing behind the list is needed
        if key == "images" and kind == "entry":
            entries.add(key, value)
    columns = entries.columns()
    return columns["file_names"], columns["sizes_I2"]


def _events(reader: ObjectReader) -> Iterator[Event]:
    if not reader.path.is_file():
        raise broken(NO_JSON, reader.path, "does not exist")
    try:
        yield from reader
    except NotJsonError as error:
        raise broken(NO_COCO, reader.path, f"is not JSON ({error})") from error
    except TypeError as error:
        if str(error) not in ("list", "str", "number", "bool", "NoneType"):
            raise
        raise broken(NO_COCO, reader.path, f"is a {error}, not a COCO object") from error
