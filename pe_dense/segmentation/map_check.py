"""Checks of images and label maps before anything is trained or scored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

# Up to this many label maps are decoded before training; more are checked as they are loaded.
MAX_DECODED = 500


def check_config(cfg: Mapping[str, Any], splits: Sequence[str]) -> None:
    """Check the data that a segmentation config will read.

    Args:
        cfg: Resolved config.
        splits: Of 'train', 'val', 'test': the loaders that will be used.

    Raises:
        ValueError: With one sentence that names the file, the fault and the remedy.
    """
    classes = cfg["classes"]
    if len(classes) != cfg["num_classes"]:
        raise ValueError(
            f"num_classes is {cfg['num_classes']} but classes names {len(classes)}; make them agree"
        )
    head = cfg.get("model", {}).get("decode_head", {})
    if head.get("num_classes", len(classes)) != len(classes):
        raise ValueError(
            f"model.decode_head.num_classes is {head['num_classes']} but there are {len(classes)} "
            "classes; make them agree"
        )
    done = set()
    for split in splits:
        dataset = cfg[f"{split}_dataloader"]["dataset"]
        root = Path(dataset["data_root"]).expanduser()
        images, maps = (root / dataset["data_prefix"][k] for k in ("img_path", "seg_map_path"))
        if (images, maps) not in done:
            done.add((images, maps))
            suffixes = dataset.get("img_suffix", ".jpg"), dataset.get("seg_map_suffix", ".png")
            check_folders(
                images, maps, suffixes, len(classes), dataset.get("reduce_zero_label", False)
            )


def check_folders(
    images: Path, maps: Path, suffixes: tuple[str, str], num_classes: int, reduce_zero_label: bool
) -> None:
    """Check a folder of images and one of label maps with the same names.

    Raises:
        ValueError: If a folder or a map is missing, sizes differ, or a map holds other labels
            than the classes, 255, and 0 where `reduce_zero_label` turns it into 255.
    """
    for folder in (images, maps):
        if not folder.is_dir():
            raise ValueError(f"folder {folder} does not exist; check data_root and data_prefix")
    files = sorted(images.rglob(f"*{suffixes[0]}"))
    if not files:
        raise ValueError(f"{images} has no *{suffixes[0]}; an empty set cannot be used")
    pairs = [
        (
            file,
            maps / file.relative_to(images).parent / (file.name[: -len(suffixes[0])] + suffixes[1]),
        )
        for file in files
    ]
    absent = [label for _, label in pairs if not label.is_file()]
    if absent:
        raise ValueError(
            f"{len(absent)} of {len(files)} images in {images} have no label map, first {absent[0]}"
        )
    if len(pairs) > MAX_DECODED:
        return
    for image, label in pairs:
        check_pair(image, label, num_classes, reduce_zero_label)


def check_pair(image: Path, label: Path, num_classes: int, reduce_zero_label: bool) -> None:
    """Check one image and its label map; see `check_folders`."""
    try:
        with Image.open(image) as picture:
            size = picture.size
        with Image.open(label) as picture:
            labels = np.asarray(picture)
    except OSError as error:
        raise ValueError(f"{image} or {label} cannot be decoded; replace it ({error})") from error
    if labels.ndim != 2:
        raise ValueError(
            f"label map {label} has {labels.shape[2]} channels; a map holds one class a pixel "
            "(a picture of colours must be converted first)"
        )
    if labels.shape[::-1] != size:
        raise ValueError(
            f"label map {label} is {labels.shape[1]}x{labels.shape[0]} px but its image is "
            f"{size[0]}x{size[1]}; they must agree"
        )
    shift = int(reduce_zero_label)
    found = np.unique(labels)
    strange = [int(v) for v in found if v != 255 and not (shift <= v < num_classes + shift)]
    if reduce_zero_label:
        strange = [v for v in strange if v != 0]
    if strange:
        raise ValueError(
            f"label map {label} holds {strange[0]}, but {num_classes} classes are labelled "
            f"{shift} to {num_classes + shift - 1} (255 is ignored); check reduce_zero_label and "
            "classes"
        )
