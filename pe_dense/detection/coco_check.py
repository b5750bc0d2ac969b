"""Checks of COCO-format data before anything is trained or scored."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

# Up to this many images are decoded before training; more are checked as they are loaded.
MAX_DECODED = 2000


def check_config(cfg: Mapping[str, Any], splits: Sequence[str]) -> None:
    """Check the data that a config will read.

    Args:
        cfg: Resolved config.
        splits: Of 'train', 'val', 'test': the loaders that will be used.

    Raises:
        ValueError: With one sentence that names the file, the fault and the remedy.
    """
    classes = cfg["classes"]
    if len(classes) != cfg["num_classes"]:
        raise ValueError(
            f"num_classes is {cfg['num_classes']} but classes names {len(classes)}: "
            f"{', '.join(classes)}; make them agree"
        )
    most = cfg.get("model", {}).get("test_cfg", {}).get("max_per_img", 0)
    possible = cfg.get("model", {}).get("num_queries", most) * len(classes)
    if most > possible:
        raise ValueError(
            f"model.test_cfg.max_per_img is {most}, but num_queries {possible // len(classes)} and "
            f"{len(classes)} classes give at most {possible} detections; lower it"
        )
    done = set()
    for split in splits:
        for dataset in coco_datasets(cfg[f"{split}_dataloader"]["dataset"]):
            root = Path(dataset["data_root"])
            key = (root, dataset["ann_file"])
            if key not in done:
                done.add(key)
                prefix = dataset.get("data_prefix", {}).get("img", "")
                check_split(root, root / dataset["ann_file"], root / prefix, classes)


def coco_datasets(dataset: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The COCO data sets inside wrappers such as RepeatDataset and ConcatDataset."""
    inner = dataset.get("dataset", dataset.get("datasets"))
    if inner is None:
        yield dataset
        return
    for item in inner if isinstance(inner, (list, tuple)) else [inner]:
        yield from coco_datasets(item)


def check_split(root: Path, ann_file: Path, image_dir: Path, classes: Sequence[str]) -> None:
    """Check one COCO JSON and the images that it names.

    Raises:
        ValueError: If the root, the file or an image is missing, the JSON is not COCO, its
            classes differ from `classes`, nothing is annotated, or an image cannot be decoded.
    """
    if not root.is_dir():
        raise ValueError(
            f"data_root {root} does not exist; pass --cfg-options data_root=DIR, or run "
            "python tools/prepare_data.py for data that can be made"
        )
    content = read_coco(ann_file)
    names = [category["name"] for category in content["categories"]]
    if list(classes) != [name for name in names if name in set(classes)] or set(names) != set(
        classes
    ):
        raise ValueError(
            f"{ann_file} has {len(names)} classes ({', '.join(names)}) but the config has "
            f"{len(classes)} ({', '.join(classes)}); set classes and num_classes to those of "
            "the file, in its order"
        )
    if not content["images"]:
        raise ValueError(f"{ann_file} lists no images; an empty set cannot be used")
    if not content["annotations"]:
        raise ValueError(
            f"{ann_file} has no annotations for its {len(content['images'])} images; there is "
            "nothing to learn from or to score"
        )
    files = [image_dir / image["file_name"] for image in content["images"]]
    absent = [file for file in files if not file.is_file()]
    if absent:
        raise ValueError(
            f"{len(absent)} of {len(files)} images of {ann_file} are missing, first {absent[0]}; "
            "check data_root and data_prefix"
        )
    if len(files) <= MAX_DECODED:
        for file in files:
            _require_decodable(file, ann_file)


def read_coco(ann_file: Path) -> dict[str, Any]:
    """Read a COCO JSON and check its shape: three lists whose ids and references agree.

    Raises:
        ValueError: If the file is missing, no JSON or not COCO.
    """
    if not ann_file.is_file():
        raise ValueError(f"annotation file {ann_file} does not exist; check data_root")
    try:
        content = json.loads(ann_file.read_text())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{ann_file} is not JSON ({error}); a COCO file is needed") from error
    if not isinstance(content, dict):
        raise ValueError(f"{ann_file} is a {type(content).__name__}, not a COCO object")
    needed = {
        "images": ("id", "file_name", "width", "height"),
        "annotations": ("id", "image_id", "category_id", "bbox", "area"),
        "categories": ("id", "name"),
    }
    for part, keys in needed.items():
        if not isinstance(content.get(part), list):
            raise ValueError(f"{ann_file} is not COCO: it has no list {part!r}")
        for place, item in enumerate(content[part]):
            lacking = [k for k in keys if not isinstance(item, dict) or k not in item]
            if lacking:
                raise ValueError(f"{ann_file} is not COCO: {part}[{place}] has no {lacking[0]!r}")
    for part in ("images", "annotations", "categories"):
        seen: set[int] = set()
        for place, item in enumerate(content[part]):
            if not isinstance(item["id"], int):
                raise ValueError(f"{ann_file}: id {item['id']!r} of {part}[{place}] is no integer")
            if item["id"] in seen:
                raise ValueError(f"{ann_file}: {part}[{place}] repeats id {item['id']}")
            seen.add(item["id"])
    image_ids = {image["id"] for image in content["images"]}
    category_ids = {category["id"] for category in content["categories"]}
    for annotation in content["annotations"]:
        where = f"{ann_file}: annotation {annotation['id']}"
        for what, ids in (("image", image_ids), ("category", category_ids)):
            value = annotation[f"{what}_id"]
            if not isinstance(value, int) or value not in ids:
                raise ValueError(f"{where} names {what} {value}, which is not listed")
        box = annotation["bbox"]
        if not isinstance(box, list) or len(box) != 4 or not all(map(_is_finite, box)):
            raise ValueError(f"{where} has a bbox {box}, not four numbers x, y, w, h")
        if not _is_finite(annotation["area"]):
            raise ValueError(f"{where} has an area {annotation['area']}, not a number")
    return content


def _is_finite(value: Any) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)


def _require_decodable(file: Path, ann_file: Path) -> None:
    import cv2
    import numpy as np

    # As the loader reads it: imread would accept half a JPEG and fill the rest with grey.
    content = np.fromfile(file, dtype=np.uint8)
    if not content.size or cv2.imdecode(content, cv2.IMREAD_COLOR) is None:
        raise ValueError(f"image {file} cannot be decoded; replace it or take it out of {ann_file}")
