"""Checks folders of ADE20K, PASCAL VOC 2012 and Cityscapes that a person already downloaded.

Sources of names and totals: ADE20K, arXiv:1608.05442 (SceneParse150, ADEChallengeData2016); VOC
2012, host.robots.ox.ac.uk/pascal/VOC/voc2012, with the labels of SBD (ICCV 2011) as 'trainaug';
Cityscapes, arXiv:1604.01685 (cityscapes-dataset.com).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from pe_dense.data.checks.findings import Finding, FindingCollector
from pe_dense.data.checks.inspection import Inspection, Progress, require_folder


@dataclass(frozen=True)
class SegmentationSplit:
    """One split of a published data set.

    Attributes:
        images, maps: Folders below that of the data set.
        num_images: What the split holds.
        list_file: Names of its images, one per line; None takes the whole folder.
        numbered: Name of an image by its number from 1, where a set counts its images.
    """

    images: str
    maps: str
    num_images: int
    list_file: str | None = None
    numbered: str | None = None


@dataclass(frozen=True)
class SegmentationSet:
    """A published data set.

    Attributes:
        title: Its name.
        splits: By name.
        img_suffix, map_suffix: What follows a name in the two folders.
        labels: Every value that a map may hold.
        images_from, maps_from: Where the files are to be had.
    """

    title: str
    splits: dict[str, SegmentationSplit]
    img_suffix: str
    map_suffix: str
    labels: frozenset[int]
    images_from: str
    maps_from: str


_LISTS = "ImageSets/Segmentation"
KNOWN_SEGMENTATION = {
    "ade20k": SegmentationSet(
        "ADE20K (SceneParse150)",
        {
            "train": SegmentationSplit(
                "images/training", "annotations/training", 20_210, None, "ADE_train_{:08d}"
            ),
            "val": SegmentationSplit(
                "images/validation", "annotations/validation", 2_000, None, "ADE_val_{:08d}"
            ),
        },
        ".jpg",
        ".png",
        frozenset(range(151)),
        *["ADEChallengeData2016.zip of data.csail.mit.edu/places/ADEchallenge"] * 2,
    ),
    "voc": SegmentationSet(
        "PASCAL VOC 2012",
        {
            "train": SegmentationSplit(
                "JPEGImages", "SegmentationClass", 1_464, f"{_LISTS}/train.txt"
            ),
            "val": SegmentationSplit("JPEGImages", "SegmentationClass", 1_449, f"{_LISTS}/val.txt"),
            "trainaug": SegmentationSplit(
                "JPEGImages", "SegmentationClassAug", 10_582, f"{_LISTS}/trainaug.txt"
            ),
        },
        ".jpg",
        ".png",
        frozenset([*range(21), 255]),
        "VOCtrainval_11-May-2012.tar of host.robots.ox.ac.uk/pascal/VOC/voc2012",
        "the same archive; for trainaug: prepare_data.py voc DIR --aug SBD_DIR",
    ),
    "cityscapes": SegmentationSet(
        "Cityscapes",
        {
            split: SegmentationSplit(f"leftImg8bit/{split}", f"gtFine/{split}", num_images)
            for split, num_images in (("train", 2_975), ("val", 500))
        },
        "_leftImg8bit.png",
        "_gtFine_labelTrainIds.png",
        frozenset([*range(19), 255]),
        "leftImg8bit_trainvaltest.zip of cityscapes-dataset.com",
        "gtFine_trainvaltest.zip of cityscapes-dataset.com, and then: prepare_data.py cityscapes "
        "DIR --train-ids",
    ),
}


def inspect_segmentation(
    root: Path,
    known: SegmentationSet,
    splits: Sequence[str],
    progress: Progress,
    num_decoded: int = 200,
) -> Inspection:
    """Compare a folder with what a published data set should have.

    Args:
        root: The folder.
        known: The data set.
        splits: Names of splits.
        progress: Makes a progress callback from the title of a piece of work.
        num_decoded: So many images per split are decoded, evenly spread.

    Raises:
        ValueError: If the folder or a split does not exist.
    """
    require_folder(root, known.title)
    found = Inspection(f"{known.title} in {root}")
    for split in splits:
        if split not in known.splits:
            raise ValueError(
                f"{known.title} has no split {split!r}; choose among {', '.join(known.splits)}"
            )
        found.add(split, split_findings(root, known, split, progress(split), num_decoded))
    return found


def split_findings(
    root: Path,
    known: SegmentationSet,
    split: str,
    tick: Callable[[int, int], None],
    num_decoded: int,
) -> list[Finding]:
    """What is wrong with one split; see `inspect_segmentation`."""
    expected = known.splits[split]
    absent = [
        Finding("missing folder", 1, (f"{root / folder} (from {source})",))
        for folder, source in (
            (expected.images, known.images_from),
            (expected.maps, known.maps_from),
        )
        if not (root / folder).is_dir()
    ]
    if expected.list_file and not (root / expected.list_file).is_file():
        text = f"{root / expected.list_file} (from {known.maps_from})"
        absent.append(Finding("missing list of images", 1, (text,)))
    if absent:
        return absent
    names = split_names(root, known, split)
    collector = FindingCollector()
    pairs = []
    for name in names:
        image = root / expected.images / f"{name}{known.img_suffix}"
        label = root / expected.maps / f"{name}{known.map_suffix}"
        for file, kind, source in (
            (image, "missing images", known.images_from),
            (label, "missing label maps", known.maps_from),
        ):
            if not file.is_file():
                collector.add(kind, f"{file.relative_to(root)} (from {source})")
        if image.is_file() and label.is_file():
            pairs.append((image, label))
    for number in range(1, expected.num_images + 1 if expected.numbered else 0):
        name = expected.numbered.format(number)
        if name not in names:
            collector.add("missing images", f"{name}{known.img_suffix} (from {known.images_from})")
    if len(names) != expected.num_images:
        collector.add(
            f"another number of images than {known.title} has",
            f"there are {len(names):,}, and {expected.num_images:,} are published",
        )
    # Evenly spread: a download that stopped is damaged at its end, not at its beginning.
    step = max(1, len(pairs) // max(1, num_decoded))
    chosen = pairs[::step][:num_decoded]
    for done, (image, label) in enumerate(chosen, 1):
        _check_pair(image, label, known.labels, root, collector)
        tick(done, len(chosen))
    note = Finding("images with a label map", len(pairs), (), is_problem=False)
    decoded = Finding("of these decoded", len(chosen), (), is_problem=False)
    return [note, decoded, *collector.findings()]


def split_names(root: Path, known: SegmentationSet, split: str) -> dict[str, None]:
    """Names of the images of a split, in order: those of its list, or of all its files."""
    expected = known.splits[split]
    if expected.list_file:
        return dict.fromkeys(read_names(root / expected.list_file))
    folder = root / expected.images
    files = sorted(folder.rglob(f"*{known.img_suffix}"))
    return dict.fromkeys(
        file.relative_to(folder).as_posix()[: -len(known.img_suffix)] for file in files
    )


def read_names(file: Path) -> list[str]:
    """Names in a list, one per line; empty lines are left out.

    Raises:
        ValueError: If the file is missing or no text.
    """
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise ValueError(
            f"list of images {file} does not exist; unpack the archive again"
        ) from None
    except UnicodeDecodeError:
        raise ValueError(f"list of images {file} is no text; unpack the archive again") from None
    return [line.strip() for line in lines if line.strip()]


def strange_labels(labels_HW: np.ndarray, allowed: Collection[int]) -> list[int]:
    """Values of a label map that it may not hold, rising."""
    return sorted(set(np.unique(labels_HW).tolist()).difference(allowed))


def _check_pair(
    image: Path, label: Path, allowed: frozenset[int], root: Path, collector: FindingCollector
) -> None:
    sizes = []
    for file in (image, label):
        try:
            with Image.open(file) as picture:
                picture.load()
                sizes.append(picture.size)
                values = np.asarray(picture)
        except (OSError, SyntaxError, ValueError) as error:  # Pillow raises these for broken files
            collector.add("files that cannot be decoded", f"{file.relative_to(root)} ({error})")
            return
    name = label.relative_to(root)
    if values.ndim != 2:
        collector.add("label maps in colour", f"{name} has {values.shape[2]} channels, not 1")
        return
    if sizes[0] != sizes[1]:
        (w, h), (map_w, map_h) = sizes
        collector.add(
            "label maps of another size than their image",
            f"{name} is {map_w}x{map_h} px, its image {w}x{h}",
        )
    strange = strange_labels(values, allowed)
    if strange:
        collector.add(
            f"label maps with values other than {_ranges(allowed)}",
            f"{name} holds {', '.join(map(str, strange[:5]))}",
        )


def _ranges(values: frozenset[int]) -> str:
    """'0 to 18 and 255' for values that are a range and perhaps 255."""
    plain = sorted(values - {255})
    return f"{plain[0]} to {plain[-1]}" + (" and 255" if 255 in values else "")
