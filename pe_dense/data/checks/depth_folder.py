"""Looks through a folder of NYUv2 or KITTI depth that a person has: what is there, what is wrong.

Sources of the totals, counted in the lists of zhyever/Monocular-Depth-Estimation-Toolbox @ d8aff50
(the same split as cleinc/bts): NYUv2 24,231 pairs to train on and 654 to test on; KITTI, split of
Eigen et al. (arXiv:1406.2283), 23,158 and 697, of which 45 test images have no annotated depth.
Papers train on other shares of the same sets too, so the number of training pairs is only noted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pe_dense.data.checks.depth_maps import (
    DepthCounts,
    Scoring,
    count_depths,
    depth_findings,
    depth_table,
)
from pe_dense.data.checks.inspection import Inspection, require_folder
from pe_dense.data.checks.known_sets import PUBLISHED_TOTAL
from pe_dense.data.checks.many_files import Progress
from pe_dense.data.checks.repeated_images import repeated_images
from pe_dense.data.checks.rules import Finding, FindingCollector, Rule
from pe_dense.data.depth_list import file_below, read_depth_list

NO_LIST = Rule("missing-list", "lists that are missing or cannot be used")
WITHOUT_DEPTH = Rule(
    "images-without-depth", "images without a depth map, which are left out", is_problem=False
)
OTHER_TOTAL = Rule("other-total", "another number of pairs than published", is_problem=False)
OTHER_SCALE = Rule(
    "depth-of-another-scale", "depth maps with another scale than published",
    "fetch the file anew", "used as they are",
)  # fmt: skip
OTHER_SIZE = Rule(
    "images-of-another-size", "images of another size than published",
    "use the published images", "used as they are",
)  # fmt: skip
KNOWN_RULES = (PUBLISHED_TOTAL, OTHER_SCALE, OTHER_SIZE)
_LISTS = "the lists of BTS or of the Monocular-Depth-Estimation-Toolbox"


@dataclass(frozen=True)
class KnownDepthSplit:
    """One split of a published depth data set.

    Attributes:
        lists: Names of its list below the folder, tried in this order.
        folders: Folders that image and depth paths are relative to, tried in this order.
        num_pairs: Images with a depth map.
        is_certain: Whether another number is a problem, or only a note.
    """

    lists: tuple[str, ...]
    folders: tuple[tuple[str, str], ...]
    num_pairs: int
    is_certain: bool


@dataclass(frozen=True)
class KnownDepthSet:
    """A published depth data set.

    Attributes:
        title: Its name.
        dataset_type: Name of our data set for it.
        splits: 'train' and 'test'.
        scale: Steps of a depth PNG per metre.
        depth_range: Where the median depth of a map in metres must lie.
        min_size, max_size: Height and width of its images, the smallest and the largest.
    """

    title: str
    dataset_type: str
    splits: dict[str, KnownDepthSplit]
    scale: float
    depth_range: tuple[float, float]
    min_size: tuple[int, int]
    max_size: tuple[int, int]


_KITTI_FOLDERS = tuple(
    (images, depth + sub)
    for images, depth in (("raw", "data_depth_annotated"), ("input", "gt_depth"))
    for sub in ("", "/train", "/val")
)
KNOWN_DEPTH_SETS = {
    "nyu": KnownDepthSet(
        "NYUv2",
        "NYUDepthDataset",
        {
            "train": KnownDepthSplit(
                ("nyu_train.txt", "nyudepthv2_train_files_with_gt.txt"),
                (("", ""), ("train", "train"), ("sync", "sync")),
                24_231,
                is_certain=False,
            ),
            "test": KnownDepthSplit(
                ("nyu_test.txt", "nyudepthv2_test_files_with_gt.txt"),
                (("", ""), ("test", "test"), ("official_splits/test", "official_splits/test")),
                654,
                is_certain=True,
            ),
        },
        scale=1000.0,
        depth_range=(0.1, 10.0),
        min_size=(480, 640),
        max_size=(480, 640),
    ),
    "kitti": KnownDepthSet(
        "KITTI, Eigen split",
        "KITTIEigenDataset",
        {
            "train": KnownDepthSplit(
                ("kitti_eigen_train.txt", "eigen_train_files_with_gt.txt"),
                _KITTI_FOLDERS,
                23_158,
                is_certain=False,
            ),
            "test": KnownDepthSplit(
                ("kitti_eigen_test.txt", "eigen_test_files_with_gt.txt"),
                _KITTI_FOLDERS,
                652,
                is_certain=True,
            ),
        },
        scale=256.0,
        depth_range=(1.0, 90.0),
        min_size=(370, 1224),
        max_size=(376, 1242),
    ),
}


def inspect_depth_set(
    root: Path,
    known: KnownDepthSet,
    splits: Sequence[str],
    progress: Progress,
    lists: dict[str, str] | None = None,
) -> Inspection:
    """Compare a folder with what a published depth data set should have; every map is read.

    Args:
        root: The folder.
        known: The data set.
        splits: Of 'train' and 'test'.
        progress: Makes a progress callback from the title of a piece of work.
        lists: Split -> list below the folder, where it has another name.

    Raises:
        ValueError: If the folder does not exist.
    """
    require_folder(root, "the lists and images")
    found = Inspection(f"{known.title} in {root}")
    scoring = Scoring(known.scale, max_depth=known.depth_range[1])
    files: dict[str, list[tuple[Path, Path]]] = {}
    counts: dict[str, DepthCounts] = {}
    for split in splits:
        expected = known.splits[split]
        names = (lists[split],) if lists and lists.get(split) else expected.lists
        name = next((name for name in names if (root / name).is_file()), None)
        of_list = FindingCollector(root if name is None else root / name)
        if name is None:
            of_list.add(NO_LIST, "", f"has no {' or '.join(names)}; they come from {_LISTS}")
            found.add(split, of_list.findings())
            continue
        try:
            listed = read_depth_list(root / name)
        except ValueError as error:
            of_list.add(NO_LIST, "", str(error))
            found.add(split, of_list.findings())
            continue
        of_list.add_count(WITHOUT_DEPTH, listed.num_without_depth)
        # The same image can be listed below one folder and depth below another, drive by drive.
        image_of, depth_of = (
            file_below([root / folders[kind] for folders in expected.folders]) for kind in (0, 1)
        )
        files[split] = [(image_of(pair.image), depth_of(pair.depth)) for pair in listed.pairs]
        counts[split] = count_depths(files[split], root, root / name, scoring, progress(split))
        found.add(name, of_list.findings())
        found.add(name, depth_findings(counts[split], known.depth_range[1], None))
        found.add(name, known_findings(counts[split], files[split], known, expected))
    if len(files) == 2:
        images = {split: [image for image, _ in pairs] for split, pairs in files.items()}
        found.add("test", repeated_images(images["train"], images["test"]))
    found.table = depth_table(counts)
    return found


def published_depth_split(
    dataset_type: object, list_name: str
) -> tuple[KnownDepthSet, KnownDepthSplit] | None:
    """The split of a published set that the data set of a config reads, if it is one."""
    for known in KNOWN_DEPTH_SETS.values():
        for split in known.splits.values():
            if known.dataset_type == dataset_type and list_name in split.lists:
                return known, split
    return None


def known_findings(
    counts: DepthCounts,
    files: Sequence[tuple[Path, Path]],
    known: KnownDepthSet,
    expected: KnownDepthSplit,
) -> list[Finding]:
    """What differs from the published set: number of pairs, sizes of images, scale of a map."""
    found = FindingCollector(counts.where)
    if len(files) != expected.num_pairs:
        rule = PUBLISHED_TOTAL if expected.is_certain else OTHER_TOTAL
        text = f"has {len(files):,} pairs, but {known.title} has {expected.num_pairs:,}"
        found.add(rule, "", text)
    for size, image in counts.sizes.items():
        sides = zip(known.min_size, size, known.max_size, strict=True)
        if not all(least <= side <= most for least, side, most in sides):
            text = f"is {size[0]}x{size[1]} px, as no image of {known.title} is"
            found.add(OTHER_SIZE, "", text, image)
    low, high = known.depth_range
    for index in np.flatnonzero((counts.medians < low) | (counts.medians > high)):
        text = f"has a median of {counts.medians[index]:.3g} m, but {low:g} to {high:g} m are usual"
        found.add(OTHER_SCALE, "", text, files[index][1])
    return found.findings()
