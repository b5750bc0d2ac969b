"""Checks of COCO-format data before anything is trained or scored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pe_dense.data.checks.class_table import class_table
from pe_dense.data.checks.coco_file import CocoFile, read_coco_file, require_sound
from pe_dense.data.config_datasets import datasets_of
from pe_dense.data.image_files import decoded_size, known_to_be_absent

# Up to this many images are decoded before training; more are checked as they are loaded.
MAX_DECODED = 2000
# mmdet's data sets that name an image's file otherwise than COCO does.
NAMING_OF_TYPE = {
    "LvisDataset": "lvis",
    "LVISV1Dataset": "lvis",
    "Objects365V2Dataset": "objects365",
}


def check_config(cfg: Mapping[str, Any], splits: Sequence[str]) -> str:
    """Check the data that a config will read.

    Args:
        cfg: Resolved config.
        splits: Of 'train', 'val', 'test': the loaders that will be used.

    Returns:
        A table of images and objects by class and split.

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
    done: dict[tuple[Path, str], CocoFile] = {}
    shown: dict[str, CocoFile] = {}
    for split, dataset, _ in datasets_of(cfg, splits):
        root, ann_file = Path(dataset["data_root"]), dataset["ann_file"]
        if (root, ann_file) not in done:
            images = root / dataset.get("data_prefix", {}).get("img", "")
            naming = NAMING_OF_TYPE.get(dataset.get("type"), "coco")
            done[root, ann_file] = check_split(root, root / ann_file, images, classes, naming)
        shown[split if split not in shown else f"{split} {ann_file}"] = done[root, ann_file]
    return class_table(shown, classes)


def check_split(
    root: Path,
    ann_file: Path,
    image_dir: Path,
    classes: Sequence[str],
    naming: str = "coco",
) -> CocoFile:
    """Check one COCO JSON and the images that it names.

    Args:
        root: Folder of the data set.
        ann_file: Its JSON.
        image_dir: What the names of images are relative to.
        classes: Class names of the config.
        naming: As in `read_coco_file`.

    Raises:
        ValueError: If the root, the file or an image is missing, the JSON is not COCO, its
            classes differ from `classes`, nothing usable is annotated, or an image cannot be
            decoded or has another size than the JSON says.
    """
    if not root.is_dir():
        raise ValueError(
            f"data_root {root} does not exist; pass --cfg-options data_root=DIR, or run "
            "python tools/prepare_data.py for data that can be made"
        )
    coco = read_coco_file(ann_file, naming)
    require_sound(coco)
    names = coco.class_names()
    if list(classes) != names:
        raise ValueError(
            f"{ann_file} has {len(names)} classes ({_few(names)}) but the config has "
            f"{len(classes)} ({_few(classes)}); set classes and num_classes to those of "
            "the file, in its order"
        )
    if not coco.num_images:
        raise ValueError(f"{ann_file} lists no images; an empty set cannot be used")
    if not coco.num_annotations:
        raise ValueError(
            f"{ann_file} has no annotations for its {coco.num_images} images; there is "
            "nothing to learn from or to score"
        )
    if not coco.is_usable().any():
        raise ValueError(
            f"none of the {coco.num_annotations} boxes of {ann_file} can be used, first "
            f"{coco.boxes_A4[0].tolist()} with area {coco.areas_A[0]:g}: a box is x, y, w, h in "
            "pixels, inside its image, with an area above 0"
        )
    files = [image_dir / name for name in coco.file_names if not known_to_be_absent(name, naming)]
    absent = [file for file in files if not file.is_file()]
    if absent:
        raise ValueError(
            f"{len(absent)} of {len(files)} images of {ann_file} are missing, first {absent[0]}; "
            "check data_root and data_prefix"
        )
    if len(files) <= MAX_DECODED:
        for name, size in zip(coco.file_names, coco.sizes_I2.tolist(), strict=True):
            if not known_to_be_absent(name, naming):
                _require_image(image_dir / name, tuple(size), ann_file)
    return coco


def _few(names: Sequence[str], limit: int = 12) -> str:
    tail = f", ... {names[-1]}" if len(names) > limit else ""
    return ", ".join(names[:limit]) + tail


def _require_image(file: Path, size: tuple[int, int], ann_file: Path) -> None:
    try:
        found = decoded_size(file)
    except ValueError as error:
        raise ValueError(f"{error}; replace it or take it out of {ann_file}") from None
    if found != size:
        raise ValueError(
            f"image {file} has {found[0]} x {found[1]} px, but {ann_file} says {size[0]} x "
            f"{size[1]}; boxes would be misplaced, so put the sizes (and boxes) right"
        )
