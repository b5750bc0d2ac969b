"""Looks through a folder of NYUv2 or KITTI depth that a person has: what is there, what is wrong.

Sources of the totals, counted in the lists of zhyever/Monocular-Depth-Estimation-Toolbox @ d8aff50
(the same split as cleinc/bts): NYUv2 24,231 pairs to train on and 654 to test on; KITTI, split of
Eigen et al. (arXiv:1406.2283), 23,158 and 697, of which 45 test images have no annotated depth.
Papers train on other shares of the same sets too, so the number of training pairs is only noted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pe_dense.data.depth_list import file_below, read_depth_list
from pe_dense.data.depth_map import metres, picture_size, read_depth_steps
from pe_dense.data.checks.findings import Finding, FindingCollector
from pe_dense.data.image_files import spread
from pe_dense.data.checks.inspection import Inspection, Progress, require_folder

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
        splits: 'train' and 'test'.
        scale: Steps of a depth PNG per metre.
        depth_range: Where the median depth of a map in metres must lie.
        min_size, max_size: Height and width of its images, the smallest and the largest.
    """

    title: str
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
    num_decoded: int = 200,
) -> Inspection:
    """Compare a folder with what a published depth data set should have.

    Args:
        root: The folder.
        known: The data set.
        splits: Of 'train' and 'test'.
        progress: Makes a progress callback from the title of a piece of work.
        lists: Split -> list below the folder, where it has another name.
        num_decoded: So many depth maps per split are decoded, spread over the list.

    Raises:
        ValueError: If the folder does not exist or `num_decoded` is not positive.
    """
    require_folder(root, "the lists and images")
    if num_decoded < 1:
        raise ValueError(f"--decode is {num_decoded}, but must be at least 1")
    found = Inspection(f"{known.title} in {root}")
    rows = []
    images: dict[str, set[str]] = {}
    for split in splits:
        expected = known.splits[split]
        names = (lists[split],) if lists and lists.get(split) else expected.lists
        name = next((name for name in names if (root / name).is_file()), None)
        if name is None:
            text = f"{root} has no {' or '.join(names)}; they come from {_LISTS}"
            found.add(split, [Finding("missing list", 1, (text,))])
            continue
        try:
            listed = read_depth_list(root / name)
        except ValueError as error:
            found.add(split, [Finding("unusable list", 1, (str(error),))])
            continue
        images[split] = {pair.image for pair in listed.pairs}
        found.add(
            name, total_findings(len(listed.pairs), listed.num_without_depth, known, expected)
        )
        # The same image can be listed below one folder and depth below another, drive by drive.
        image_of, depth_of = (
            file_below([root / folders[kind] for folders in expected.folders]) for kind in (0, 1)
        )
        files = [(image_of(pair.image), depth_of(pair.depth)) for pair in listed.pairs]
        findings, summary = file_findings(files, known, num_decoded, progress(f"{split} depth"))
        found.add(split, findings)
        rows.append(f"  {split}: {len(listed.pairs):,} pairs in {name}; {summary}")
    if len(images) == 2:
        found.add("test", _leaks(images["train"] & images["test"], known))
    found.title = "\n".join([found.title, *rows])
    return found


def total_findings(
    num_pairs: int, num_without_depth: int, known: KnownDepthSet, expected: KnownDepthSplit
) -> list[Finding]:
    """Pairs in another number than published, and images without depth."""
    findings = []
    if num_pairs != expected.num_pairs:
        kind = f"{num_pairs:,} pairs, where {known.title} has {expected.num_pairs:,}; difference"
        gap = abs(num_pairs - expected.num_pairs)
        findings.append(Finding(kind, gap, (), expected.is_certain))
    if num_without_depth:
        kind = "images without a depth map, which are left out"
        findings.append(Finding(kind, num_without_depth, (), is_problem=False))
    return findings


def file_findings(
    files: Sequence[tuple[Path, Path]],
    known: KnownDepthSet,
    num_decoded: int,
    tick: Callable[[int, int], None],
) -> tuple[list[Finding], str]:
    """Missing files of all pairs; sizes, bits and depths of those that are decoded.

    Returns:
        The findings, and what was seen in a line.
    """
    collected = FindingCollector()
    present = []
    for image, depth in files:
        for kind, file in (("images", image), ("depth maps", depth)):
            if not file.is_file():
                collected.add(f"{kind} without a file", f"{file} does not exist")
        if image.is_file() and depth.is_file():
            present.append((image, depth))
    low, high = known.depth_range
    quantiles = []
    chosen = spread(len(present), num_decoded)
    for done, index in enumerate(chosen, start=1):
        image, depth = present[index]
        tick(done, len(chosen))
        try:
            steps_HW = read_depth_steps(depth)
            size = picture_size(image)
        except ValueError as error:
            collected.add("files that cannot be used", str(error))
            continue
        if steps_HW.shape != size:
            text = f"{depth} is {_px(steps_HW.shape)}, {image.name} is {_px(size)}"
            collected.add("depth maps of another size than their image", text)
        in_range = all(
            least <= side <= most
            for least, side, most in zip(known.min_size, size, known.max_size, strict=True)
        )
        if not in_range:
            text = f"{image} is {_px(size)}"
            collected.add(f"images of another size than {known.title} has", text)
        depths = metres(steps_HW, known.scale)
        quantiles.append(np.quantile(depths[depths > 0], (0.01, 0.5, 0.99)))
        middle = quantiles[-1][1]
        if not low <= middle <= high:
            text = f"the median of {depth} is {middle:.3g} m, but {low:g} to {high:g} m are usual"
            collected.add(f"depth maps with another scale than {known.scale:g} per metre", text)
    summary = "no depth map was decoded"
    if quantiles:
        shallow, middle, deep = np.median(quantiles, axis=0)
        summary = (
            f"depth {shallow:.2f} to {deep:.2f} m, median {middle:.2f} m (of {len(quantiles)} maps)"
        )
    return collected.findings(), summary


def _leaks(both: set[str], known: KnownDepthSet) -> list[Finding]:
    # NYU's lists are relative to two folders, so equal names there are no equal images.
    if not both or len({split.folders for split in known.splits.values()}) > 1:
        return []
    return [Finding("images in both train and test", len(both), tuple(sorted(both)[:3]))]


def _px(size: tuple[int, ...]) -> str:
    return f"{size[0]}x{size[1]} px"
