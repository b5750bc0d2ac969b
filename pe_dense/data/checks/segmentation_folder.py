"""Checks folders of ADE20K, PASCAL VOC 2012 and Cityscapes that a person already downloaded.

Sources of names and totals: ADE20K, arXiv:1608.05442 (SceneParse150, ADEChallengeData2016); VOC
2012, host.robots.ox.ac.uk/pascal/VOC/voc2012, with the labels of SBD (ICCV 2011) as 'trainaug';
Cityscapes, arXiv:1604.01685 (cityscapes-dataset.com).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pe_dense.data.checks.inspection import Inspection, require_folder
from pe_dense.data.checks.known_sets import PUBLISHED_TOTAL
from pe_dense.data.checks.label_maps import (
    LabelledSplit,
    LabelNames,
    class_findings,
    count_labels,
    label_table,
    split_findings,
)
from pe_dense.data.checks.many_files import Progress
from pe_dense.data.checks.picture_pairs import NO_FILES, NO_FOLDER, Pairs, pair_files
from pe_dense.data.checks.repeated_images import repeated_images
from pe_dense.data.checks.rules import Finding, FindingCollector


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
        dataset_type: Name of mmseg's data set for it.
        names: What the labels of its maps mean; classes by number.
        images_from, maps_from: Where the files are to be had.
    """

    title: str
    splits: dict[str, SegmentationSplit]
    img_suffix: str
    map_suffix: str
    dataset_type: str
    names: LabelNames
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
        "ADE20KDataset",
        LabelNames(tuple((label, str(label)) for label in range(1, 151)), frozenset([0])),
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
        "PascalVOCDataset",
        LabelNames(tuple((label, str(label)) for label in range(21))),
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
        "CityscapesDataset",
        LabelNames(tuple((label, str(label)) for label in range(19))),
        "leftImg8bit_trainvaltest.zip of cityscapes-dataset.com",
        "gtFine_trainvaltest.zip of cityscapes-dataset.com, and then: prepare_data.py cityscapes "
        "DIR --train-ids",
    ),
}


def inspect_segmentation(
    root: Path, known: SegmentationSet, splits: Sequence[str], progress: Progress
) -> Inspection:
    """Compare a folder with what a published data set should have; every map is read.

    Args:
        root: The folder.
        known: The data set.
        splits: Names of splits.
        progress: Makes a progress callback from the title of a piece of work.

    Raises:
        ValueError: If the folder or a split does not exist.
    """
    require_folder(root, known.title)
    found = Inspection(f"{known.title} in {root}")
    files: dict[str, Pairs] = {}
    labelled: dict[str, LabelledSplit] = {}
    for split in splits:
        if split not in known.splits:
            raise ValueError(
                f"{known.title} has no split {split!r}; choose among {', '.join(known.splits)}"
            )
        files[split] = pairs = _pairs(root, known, split)
        found.add(split, pairs.findings)
        if not pairs.files:
            continue
        found.add(split, total_findings(known, known.splits[split], len(pairs.files), root))
        where = root / known.splits[split].maps
        counts = count_labels(pairs.files, root, where, progress(split))
        found.add(split, split_findings(counts, known.names))
        if counts.num_maps:
            labelled[split] = LabelledSplit(((counts, known.names),))
    if labelled:
        found.table = label_table(labelled)
        found.add("classes", class_findings(labelled))
    trained = [image for split in files if split != "val" for image, _ in files[split].files]
    if "val" in files:
        found.add("val", repeated_images(trained, [image for image, _ in files["val"].files]))
    return found


def published_split(
    dataset: Mapping[str, object],
) -> tuple[SegmentationSet, SegmentationSplit] | None:
    """The split of a published set that the data set of a config reads, if it is one."""
    prefix = dataset.get("data_prefix", {})
    place = prefix.get("img_path"), prefix.get("seg_map_path"), dataset.get("ann_file") or None
    for known in KNOWN_SEGMENTATION.values():
        for split in known.splits.values():
            if known.dataset_type == dataset.get("type") and place == (
                split.images, split.maps, split.list_file
            ):  # fmt: skip
                return known, split
    return None


def total_findings(
    known: SegmentationSet, expected: SegmentationSplit, num_images: int, root: Path
) -> list[Finding]:
    """Another number of images than published."""
    found = FindingCollector(root / (expected.list_file or expected.images))
    if num_images != expected.num_images:
        text = f"has {num_images:,} images, but {known.title} has {expected.num_images:,}"
        found.add(PUBLISHED_TOTAL, "", text)
    return found.findings()


def _pairs(root: Path, known: SegmentationSet, split: str) -> Pairs:
    """Images with their maps, and what is missing, with where to get it."""
    expected = known.splits[split]
    found = FindingCollector()
    for name, source in (
        (expected.images, known.images_from),
        (expected.maps, known.maps_from),
        (expected.list_file, known.maps_from),
    ):
        if name is not None and not (root / name).exists():
            found.add(NO_FOLDER, "", f"does not exist; it comes from {source}", root / name)
    if found.findings():
        return Pairs((), tuple(found.findings()))
    images, maps = root / expected.images, root / expected.maps
    names = root / expected.list_file if expected.list_file else None
    pairs = pair_files(images, maps, (known.img_suffix, known.map_suffix), names)
    here = {image.stem for image, _ in pairs.files}
    for number in range(1, expected.num_images + 1 if expected.numbered else 0):
        name = expected.numbered.format(number)
        file = images / f"{name}{known.img_suffix}"
        if name not in here and not file.is_file():
            found.add(NO_FILES, "", f"is missing; it comes from {known.images_from}", file)
    return Pairs(pairs.files, (*pairs.findings, *found.findings()))
