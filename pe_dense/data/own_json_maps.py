"""Label maps from COCO's JSON files: panoptic segments, or the masks of objects.

Maps are written once, beside the data: 16-bit PNG in which 0 is what no segment covers and i + 1
the i-th category of the JSON. In panoptic files 0 is no class; where only objects are marked it is
the background, a class of its own. Of objects that overlap the smaller lies above.

Source: COCO's panoptic format: a segment is the pixels of one number R + 256 G + 65536 B of the
PNG that an annotation names, its category in segments_info.
"""

from __future__ import annotations

import functools
import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pe_dense.data.checks.coco_folder import find_images, folders_below, json_files
from pe_dense.data.checks.many_files import Tick, each_group
from pe_dense.data.checks.picture_findings import image_header
from pe_dense.data.class_names import ClassTable
from pe_dense.data.image_files import spread
from pe_dense.data.instance_id_images import paint_instances
from pe_dense.data.own_pairs import OwnPair
from pe_dense.files import atomic_write_bytes

BACKGROUND = "background"
_SPLIT = re.compile(r"(train)|(val)|(test)")


@dataclass(frozen=True)
class JsonMaps:
    """What the JSON files of a folder say.

    Attributes:
        pairs: Images, and the maps that were written.
        table: Number of a map -> category.
        unlabelled: Numbers that are no class.
        read: The JSON files.
        words: What was found, for people.
    """

    pairs: tuple[OwnPair, ...]
    table: ClassTable
    unlabelled: tuple[int, ...]
    read: tuple[Path, ...]
    words: str


@dataclass(frozen=True)
class _File:
    path: Path
    split: str
    is_panoptic: bool
    content: Mapping[str, Any]
    sha256: str


def is_panoptic_folder(root: Path) -> bool:
    """Whether a folder has a JSON that is called panoptic, whose PNGs are no label maps."""
    return any("panoptic" in name.lower() for name in json_files(root))


def find_json_maps(root: Path, cache: Path, tick: Tick) -> JsonMaps | None:
    """Write the maps of a folder's JSON files; None where it has no JSON with masks.

    Args:
        root: The folder.
        cache: Where the maps are written; those that are there stay.
        tick: Called with (maps done, maps to do).

    Raises:
        ValueError: If categories differ between files, images are not found, or a mask is broken.
    """
    files = _read(root)
    if not files:
        return None
    categories = _categories(files)
    index_of = {category: i + 1 for i, category in enumerate(categories)}
    pairs: list[OwnPair] = []
    work: list[tuple[Path, Path, Any]] = []
    for file in files:
        for name, image, item in _items(root, file):
            target = cache / f"json-{file.sha256[:12]}" / f"{name}.png"
            target.parent.mkdir(parents=True, exist_ok=True)
            pairs.append(OwnPair(name, image, target, file.split))
            if not target.is_file():
                work.append((image, target, item))
    paint = functools.partial(_paint, index_of=index_of)
    for _ in each_group(paint, work, tick):
        pass
    names = {i: categories[category] for category, i in index_of.items()}
    is_panoptic = files[0].is_panoptic
    if not is_panoptic:
        own = BACKGROUND if BACKGROUND not in names.values() else "no object"
        names = {0: own, **names}
    listed = ", ".join(f.path.relative_to(root).as_posix() for f in files)
    kind = "panoptic segments" if is_panoptic else "masks of objects, the rest is background,"
    return JsonMaps(
        tuple(sorted(pairs, key=lambda pair: (pair.split, pair.name))),
        ClassTable(names, file=listed),
        (0,) if is_panoptic else (),
        tuple(file.path for file in files),
        f"{kind} of {listed}",
    )


def _read(root: Path) -> list[_File]:
    """JSON files with segments, or else those with masks."""
    found = []
    for name in json_files(root):
        content = (root / name).read_bytes()
        if b'"annotations"' not in content:
            continue
        is_panoptic = b'"segments_info"' in content
        if not is_panoptic and b'"segmentation"' not in content:
            continue
        try:
            value = json.loads(content)
        except ValueError as error:
            raise ValueError(f"{root / name} is no JSON ({error}); write it anew") from error
        if not isinstance(value, dict) or not {"images", "annotations", "categories"} <= set(value):
            continue
        has_masks = is_panoptic or any(a.get("segmentation") for a in value["annotations"])
        word = _SPLIT.search(name.lower().rpartition("/")[2]) or _SPLIT.search(name.lower())
        split = "" if word is None else next(filter(None, word.groups()))
        if has_masks:
            sha256 = hashlib.sha256(content).hexdigest()
            found.append(_File(root / name, split, is_panoptic, value, sha256))
    panoptic = [file for file in found if file.is_panoptic]
    chosen = panoptic or found
    splits = [file.split for file in chosen]
    if len(set(splits)) < len(splits):
        listed = ", ".join(file.path.name for file in chosen)
        raise ValueError(f"{root} has several JSON files of one split ({listed}); keep one of them")
    return chosen


def _categories(files: Sequence[_File]) -> dict[int, str]:
    """Id -> name in the order of ids; all files must agree.

    Raises:
        ValueError: If they do not.
    """
    tables = [{int(c["id"]): str(c["name"]) for c in file.content["categories"]} for file in files]
    for table, file in zip(tables[1:], files[1:], strict=True):
        if table != tables[0]:
            other = next(i for i in {*table, *tables[0]} if table.get(i) != tables[0].get(i))
            raise ValueError(
                f"categories differ: id {other} is {tables[0].get(other)!r} in "
                f"{files[0].path} and {table.get(other)!r} in {file.path}; give all splits the "
                "same categories"
            )
    return dict(sorted(tables[0].items()))


def _items(root: Path, file: _File) -> list[tuple[str, Path, Any]]:
    """Name, image and what is to be painted of every annotated image."""
    images = {int(i["id"]): str(i["file_name"]) for i in file.content["images"]}
    names = [images[i] for i in sorted(images)]
    json_name = file.path.relative_to(root).as_posix()
    folder = root / find_images(root, json_name, [names[i] for i in spread(len(names), 20)])
    if file.is_panoptic:
        annotations = file.content["annotations"]
        pngs = [str(a["file_name"]) for a in annotations]
        places = [file.path.with_suffix(""), file.path.parent, root]
        places += [root / sub for sub in folders_below(root)]
        png_folder = next((p for p in places if pngs and (p / pngs[0]).is_file()), None)
        if png_folder is None:
            raise ValueError(
                f"{file.path} names {pngs[0] if pngs else 'no PNG'}, which is nowhere below {root};"
                " unpack the panoptic PNGs there"
            )
        return [
            (
                Path(images[int(a["image_id"])]).with_suffix("").as_posix(),
                folder / images[int(a["image_id"])],
                (png_folder / a["file_name"],
                 {int(s["id"]): int(s["category_id"]) for s in a["segments_info"]}),
            )
            for a in annotations
        ]  # fmt: skip
    of_image: dict[int, list[tuple[int, Any]]] = defaultdict(list)
    for item in file.content["annotations"]:
        if item.get("segmentation"):
            of_image[int(item["image_id"])].append((int(item["category_id"]), item["segmentation"]))
    return [
        (Path(images[i]).with_suffix("").as_posix(), folder / images[i], of_image.get(i, []))
        for i in sorted(images)
    ]


def _paint(files: Sequence[tuple[Path, Path, Any]], index_of: Mapping[int, int]) -> None:
    for image, target, item in files:
        size = image_header(image).size[::-1]
        numbers_HW = (
            panoptic_numbers(*item, index_of)
            if isinstance(item, tuple)
            else object_numbers(item, size, index_of, image)
        )
        done, data = cv2.imencode(".png", numbers_HW)
        assert done
        atomic_write_bytes(target, data.tobytes())


def panoptic_numbers(
    png: Path, category_of: Mapping[int, int], index_of: Mapping[int, int]
) -> NDArray[np.uint16]:
    """Number of the category of every pixel (H, W), 0 for void.

    Raises:
        ValueError: If the PNG cannot be read, or shows a segment that the JSON does not know.
    """
    try:
        with Image.open(png) as picture:
            rgb_HW3 = np.asarray(picture.convert("RGB")).astype(np.int64)
    except (OSError, SyntaxError) as error:
        raise ValueError(f"panoptic PNG {png} cannot be decoded ({error})") from error
    segments_HW = rgb_HW3 @ np.array([1, 256, 65_536])
    values, inverse = np.unique(segments_HW, return_inverse=True)
    table = np.zeros(len(values), np.uint16)
    for place, value in enumerate(values.tolist()):
        if value == 0:
            continue
        if value not in category_of:
            raise ValueError(f"{png} shows segment {value}, which its JSON does not list")
        table[place] = index_of[category_of[value]]
    return table[inverse].reshape(segments_HW.shape)


def object_numbers(
    objects: Sequence[tuple[int, Any]], size: tuple[int, int], index_of: Mapping[int, int],
    image: Path,
) -> NDArray[np.uint16]:  # fmt: skip
    """Number of the category of the smallest object at every pixel (H, W), 0 where none is.

    Raises:
        ValueError: If a mask is broken or of another size than the image.
    """
    masks = [dict(segmentation=segmentation, is_void=False) for _, segmentation in objects]
    try:
        ids_HW = paint_instances(masks, size)
    except (ValueError, TypeError, KeyError, IndexError) as error:
        raise ValueError(f"a mask of {image} cannot be painted ({error}); correct it") from error
    table = np.array([0, *(index_of[category] for category, _ in objects)], np.uint16)
    return table[ids_HW]
