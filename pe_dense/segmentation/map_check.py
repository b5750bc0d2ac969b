"""Checks of images and label maps before anything is trained or scored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pe_dense.data.checks.segmentation_folder import strange_labels
from pe_dense.data.config_datasets import datasets_of

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
    for _, dataset, _ in datasets_of(cfg, splits):
        root = Path(dataset["data_root"]).expanduser()
        images, maps = (root / dataset["data_prefix"][k] for k in ("img_path", "seg_map_path"))
        names = root / dataset["ann_file"] if dataset.get("ann_file") else None
        if (images, maps, names) not in done:
            done.add((images, maps, names))
            suffixes = dataset.get("img_suffix", ".jpg"), dataset.get("seg_map_suffix", ".png")
            check_folders(
                images,
                maps,
                suffixes,
                len(classes),
                dataset.get("reduce_zero_label", False),
                names,
            )


def check_folders(
    images: Path,
    maps: Path,
    suffixes: tuple[str, str],
    num_classes: int,
    reduce_zero_label: bool,
    names: Path | None = None,
) -> None:
    """Check a folder of images and one of label maps with the same names.

    Args:
        images: Folder of images, searched with its subfolders.
        maps: Folder of label maps.
        suffixes: What follows a name in `images` and in `maps`.
        num_classes: Number of classes.
        reduce_zero_label: Whether 0 means no class, and 1 the first.
        names: A file with a name on every line: only these are read; None reads all.

    Raises:
        ValueError: If a folder, an image or a map is missing, sizes differ, or a map holds other
            labels than the classes, 255, and 0 where `reduce_zero_label` turns it into 255.
    """
    for folder in (images, maps):
        if not folder.is_dir():
            raise ValueError(f"folder {folder} does not exist; check data_root and data_prefix")
    pairs = image_pairs(images, maps, suffixes, names)
    if not pairs:
        what = f"{images} has no *{suffixes[0]}" if names is None else f"{names} names no image"
        raise ValueError(f"{what}; an empty set cannot be used")
    lost = [image for image, _ in pairs if not image.is_file()]
    if lost:
        raise ValueError(
            f"{len(lost)} of {len(pairs)} names in {names} have no image, first {lost[0]}"
        )
    absent = [label for _, label in pairs if not label.is_file()]
    if absent:
        raise ValueError(
            f"{len(absent)} of {len(pairs)} images in {images} have no label map, first {absent[0]}"
        )
    if len(pairs) > MAX_DECODED:
        return
    for image, label in pairs:
        check_pair(image, label, num_classes, reduce_zero_label)


def image_pairs(
    images: Path, maps: Path, suffixes: tuple[str, str], names: Path | None = None
) -> list[tuple[Path, Path]]:
    """Images and where their label maps should be, as mmseg's data sets pair them.

    Arguments as those of `check_folders`.

    Raises:
        ValueError: If the file of names is missing.
    """
    if names is not None:
        if not names.is_file():
            raise ValueError(f"list of images {names} does not exist; check data_root and ann_file")
        # mmseg strips lines too, and takes an empty one for a name.
        stems = [line.strip() for line in names.read_text(encoding="utf-8").splitlines()]
    else:
        files = sorted(images.rglob(f"*{suffixes[0]}"))
        stems = [str(file.relative_to(images))[: -len(suffixes[0])] for file in files]
    return [(images / f"{stem}{suffixes[0]}", maps / f"{stem}{suffixes[1]}") for stem in stems]


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
            f"label map {label} has {labels.shape[2]} channels; a map holds one class per pixel "
            "(a picture of colours must be converted first)"
        )
    if labels.shape[::-1] != size:
        raise ValueError(
            f"label map {label} is {labels.shape[1]}x{labels.shape[0]} px but its image is "
            f"{size[0]}x{size[1]}; they must agree"
        )
    shift = int(reduce_zero_label)
    allowed = (*range(num_classes + shift), 255)  # 0 becomes 255 where it is no class
    if strange := strange_labels(labels, allowed):
        raise ValueError(
            f"label map {label} holds {strange[0]}, but {num_classes} classes are labelled "
            f"{shift} to {num_classes + shift - 1} (255 is ignored); check reduce_zero_label and "
            "classes"
        )
