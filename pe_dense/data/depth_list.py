"""Lists of image and depth files, one pair per line: 'image depth [focal]', as BTS writes them.

Source: cleinc/bts (arXiv:1907.10326) and zhyever/Monocular-Depth-Estimation-Toolbox @ d8aff50,
whose NYU lists begin paths with '/', whose KITTI Eigen test list has 'None' for 45 depth files,
and whose SUN RGB-D list ends lines with CR LF and gives no focal length.
"""

from __future__ import annotations

import functools
import posixpath
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

NO_DEPTH = "None"


@dataclass(frozen=True)
class DepthPair:
    """An image and its depth map, below the folders of the data set.

    Attributes:
        image: File of the image, without a leading slash.
        depth: File of the depth map, the same.
        focal_px: Focal length in pixels; None if the list gives none.
    """

    image: str
    depth: str
    focal_px: float | None = None


@dataclass(frozen=True)
class DepthList:
    """The pairs of a list in its order, and how many of its images have no depth map."""

    pairs: tuple[DepthPair, ...]
    num_without_depth: int = 0

    @property
    def num_images(self) -> int:
        """All images that the list names."""
        return len(self.pairs) + self.num_without_depth


def read_depth_list(path: str | Path) -> DepthList:
    """Read a list; images whose depth is 'None' are counted and left out.

    Raises:
        ValueError: If the file is missing, a line is no pair, an image comes twice, or no image
            has a depth map.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise ValueError(
            f"list {path} of images and depth maps cannot be read ({error.strerror}); check "
            "data_root and ann_file"
        ) from error
    except UnicodeDecodeError as error:
        raise ValueError(f"list {path} is no text file; name one of 'image depth' lines") from error
    pairs: list[DepthPair] = []
    seen: dict[str, int] = {}
    num_without_depth = 0
    for number, line in enumerate(lines, start=1):
        words = line.split()
        if not words:
            continue
        pair = _pair(words, f"line {number} of {path}")
        file = posixpath.normpath(pair.image)  # ./a.jpg and b//../a.jpg are a.jpg
        if file in seen:
            raise ValueError(
                f"line {number} of {path} repeats image {pair.image} of line {seen[file]}; "
                "remove one"
            )
        seen[file] = number
        if pair.depth == NO_DEPTH:
            num_without_depth += 1
        else:
            pairs.append(pair)
    if not pairs:
        raise ValueError(f"list {path} names no image with a depth map; an empty set has no use")
    return DepthList(tuple(pairs), num_without_depth)


def file_below(roots: Sequence[Path]) -> Callable[[str], Path]:
    """Gives the file of a listed path: below the first root that has its first folder.

    Each first folder, a scene or a drive, is looked for once; one that no root has counts as
    below the first root.
    """

    @functools.cache
    def root_of(first_folder: str) -> Path:
        return next((root for root in roots if (root / first_folder).exists()), roots[0])

    return lambda name: root_of(name.split("/")[0]) / name


def _pair(words: list[str], where: str) -> DepthPair:
    if len(words) not in (2, 3):
        raise ValueError(
            f"{where} has {len(words)} words, but must be 'image depth' or 'image depth focal', "
            "with no space in a file name, so rename files that have one"
        )
    focal_px = None
    if len(words) == 3:
        try:
            focal_px = float(words[2])
        except ValueError:
            raise ValueError(
                f"{where} ends with {words[2]!r}, which is no focal length in pixels; correct it, "
                "or leave it out in every line"
            ) from None
    # A leading slash would make the path absolute and drop the folder of the data set.
    return DepthPair(words[0].lstrip("/\\"), words[1].lstrip("/\\"), focal_px)
