"""Small folders of pictures with label or depth maps, as people lay them out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image


def picture(file: Path, number: int = 0, side: int = 64) -> Path:
    """A picture that no other number has, whatever its suffix."""
    file.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(number)
    Image.fromarray(rng.integers(0, 256, (side, side, 3), np.uint8)).save(file)
    return file


def label_map(file: Path, values: list[int] | np.ndarray, side: int = 64) -> Path:
    """A map of stripes of the values: 8 bits, 16 where one is larger, colours where they are."""
    file.parent.mkdir(parents=True, exist_ok=True)
    found = np.asarray(values)
    stripes = found[np.arange(side) * len(found) // side]
    whole = np.broadcast_to(stripes[:, None], (side, side, *stripes.shape[1:]))
    kind = np.uint16 if found.max() > 255 else np.uint8
    Image.fromarray(np.ascontiguousarray(whole.astype(kind))).save(file)
    return file


def labelled(root: Path, image: str, mask: str, count: int = 6, values: tuple = (0, 1, 2)) -> Path:
    """Pictures and maps whose names are patterns with {n}."""
    for n in range(count):
        picture(root / image.format(n=n), n)
        label_map(root / mask.format(n=n), list(values))
    return root


def depths(
    root: Path, image: str, depth: str, save: Callable[[Path, np.ndarray], None],
    values: tuple[float, ...] = (0, 900, 1800, 2700), count: int = 6,
) -> Path:  # fmt: skip
    """Pictures and depth maps of stripes, written by `save`."""
    for n in range(count):
        picture(root / image.format(n=n), n)
        file = root / depth.format(n=n)
        file.parent.mkdir(parents=True, exist_ok=True)
        stripes = np.asarray(values, np.float64)[np.arange(64) * len(values) // 64]
        whole_HW = np.broadcast_to(stripes[:, None], (64, 64)).copy()
        whole_HW[:, n] = np.where(whole_HW[:, n] > 0, whole_HW[:, n] + n, 0)
        save(file, whole_HW)
    return root
