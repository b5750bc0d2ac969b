"""Parts of a COCO JSON as new files: a split into train and val, a copy without some images.

Entries are copied letter by letter as the file is read, so that no field is lost and memory does
not grow with the file. A new file appears whole or not at all.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np

from pe_dense.data.checks.coco_file import CocoFile, places, read_coco_file
from pe_dense.data.checks.json_stream import ObjectReader
from pe_dense.data.checks.rules import require_sound
from pe_dense.data.image_files import existing_files
from pe_dense.files import temporary_beside

# The best of so many shuffles is taken: the one that divides the classes most evenly.
NUM_SHUFFLES = 100
MAX_ABSENT_SHARE = 0.001


def split_json(
    root: Path,
    json_name: str,
    val_share: float,
    seed: int = 0,
    on_progress: Callable[[int, int], None] | None = None,
) -> tuple[Path, Path]:
    """Write the images of a COCO JSON to two new ones, annotations/train.json and val.json.

    Where the JSON itself has one of these names they are called train_split.json and
    val_split.json. The file itself is not touched.

    Args:
        root: Folder of the data set.
        json_name: Its JSON, relative to the folder.
        val_share: Share of the images that goes to val, above 0 and below 1.
        seed: The same seed divides the same file in the same way.
        on_progress: Called with (bytes read, bytes in all).

    Returns:
        The two files, train and val.

    Raises:
        ValueError: If the share or the file cannot be used, or other files are in the way.
    """
    if not 0.0 < val_share < 1.0:
        raise ValueError(f"--split is {val_share}, but must be between 0 and 1, for example 0.2")
    ann_file, folder = root / json_name, root / "annotations"
    coco = read_coco_file(ann_file, on_progress=on_progress)
    require_sound(coco.findings)
    own_names = (folder / "train.json", folder / "val.json")
    tail = "_split" if ann_file in own_names else ""
    targets = folder / f"train{tail}.json", folder / f"val{tail}.json"
    is_val_I = divide(coco, val_share, seed)
    with contextlib.ExitStack() as stack:
        temporary = [stack.enter_context(temporary_beside(target)) for target in targets]
        copy_subset(ann_file, temporary[0], set(coco.image_ids_I[~is_val_I].tolist()))
        copy_subset(ann_file, temporary[1], set(coco.image_ids_I[is_val_I].tolist()))
        # A split that was cut short, or is done again, may have left the very same file.
        for target, new in zip(targets, temporary, strict=True):
            if target.exists() and target.read_bytes() != new.read_bytes():
                raise ValueError(f"{target} exists and holds something else; move it away first")
        for target, new in zip(targets, temporary, strict=True):
            new.replace(target)
    return targets


def divide(coco: CocoFile, val_share: float, seed: int) -> np.ndarray:
    """(I,) bool, which images go to val.

    Copies of one picture (Roboflow names them NAME.rf.HASH.jpg) stay together. Of 100 shuffles
    the one whose classes are divided most evenly is taken.

    Raises:
        ValueError: If there are fewer than two pictures.
    """
    sources = [re.sub(r"\.rf\.[0-9A-Za-z]+(?=\.\w+$)", "", name) for name in coco.file_names]
    names, group_I = np.unique(sources, return_inverse=True)
    num_groups = len(names)
    if num_groups < 2:
        raise ValueError(f"{coco.path} has {num_groups} pictures; at least two are needed")
    num_val = min(max(round(val_share * num_groups), 1), num_groups - 1)
    num_classes = len(coco.categories)
    counts_GK = np.zeros((num_groups, max(num_classes, 1)))
    class_A = places(coco.category_ids, coco.category_ids_A)
    np.add.at(counts_GK, (group_I[coco.image_index()], class_A), 1)
    wanted_K = counts_GK.sum(0) * num_val / num_groups
    rng = np.random.default_rng(seed)
    best, least = np.zeros(0, dtype=np.int64), np.inf
    for _ in range(NUM_SHUFFLES):
        chosen = rng.permutation(num_groups)[:num_val]
        gap = np.abs(counts_GK[chosen].sum(0) - wanted_K) / np.maximum(wanted_K, 1)
        if gap.max() < least:
            best, least = chosen, gap.max()
    return np.isin(group_I, best)


def copy_subset(
    source: Path,
    target: Path,
    image_ids: set[int],
    on_progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write a COCO JSON with some of the images, their annotations, and all else as it is.

    Args:
        source: A sound COCO file.
        target: A new file.
        image_ids: Images to keep.
        on_progress: Called with (bytes read, bytes in all).
    """
    with target.open("x", encoding="utf-8") as file:
        opening = "{"
        separator = ""
        for kind, key, value, text in ObjectReader(source, on_progress):
            if kind in ("value", "list"):
                file.write(f"{opening}{json.dumps(key)}: {'[' if kind == 'list' else text}")
                opening, separator = ",\n", "\n"
            elif kind == "end":
                file.write("]")
            elif _is_kept(key, value, image_ids):
                file.write(separator + text)
                separator = ",\n"
        file.write("}\n")
        file.flush()
        os.fsync(file.fileno())


def write_existing(
    source: Path,
    target: Path,
    image_dir: Path,
    naming: str,
    on_progress: Callable[[int, int], None] | None = None,
) -> int:
    """Write a copy of a COCO JSON without the few images that have no file.

    Args:
        source: The file.
        target: The copy; it appears whole or not at all.
        image_dir: What names of images are relative to.
        naming: As in `read_coco_file`.
        on_progress: Called with (bytes read, bytes in all), for each of two passes.

    Returns:
        Number of images that were left out.

    Raises:
        ValueError: If the target exists, the file is not sound, or so many images are missing
            that they were rather not downloaded.
    """
    if target.exists():
        raise ValueError(f"{target} exists already; move it away first")
    coco = read_coco_file(source, naming, on_progress)
    require_sound(coco.findings)
    is_here = existing_files(image_dir, coco.file_names)
    absent = len(is_here) - sum(is_here)
    if absent > MAX_ABSENT_SHARE * len(is_here):
        raise ValueError(
            f"{absent:,} of {len(is_here):,} images of {source} are not below {image_dir}; that is "
            "not a few that no copy has, so finish the download first"
        )
    kept = {int(i) for i, here in zip(coco.image_ids_I, is_here, strict=True) if here}
    with temporary_beside(target) as temporary:
        copy_subset(source, temporary, kept, on_progress)
        temporary.replace(target)
    return absent


def _is_kept(key: str, value: dict, image_ids: set[int]) -> bool:
    if key == "images":
        return value["id"] in image_ids
    if key == "annotations":
        return value["image_id"] in image_ids
    return True
