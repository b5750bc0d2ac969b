"""Labelled pictures as label maps: one number a pixel, the class of what lies on top.

8-bit PNG with a palette. Number 0 is the background, the classes follow; 255 is what is to be
ignored. Maps lie over the stored pixels, as label maps are read: where Exif turns a picture, its
map is turned back.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image

from pe_dense.data.checks.rules import Rule
from pe_dense.data.convert.labelled_set import LabelledImage, LabelledSet
from pe_dense.data.convert.outlines import drawn
from pe_dense.data.picture import turned

BACKGROUND, IGNORED = "background", 255
MOST_CLASSES = 254
BOXES = Rule(
    "boxes-as-masks",
    "boxes without a mask",
    "draw masks, or convert --to coco",
    "filled as rectangles",
)
_BACK = {6: 8, 8: 6}  # all other orientations undo themselves


def class_list(labelled: LabelledSet, background: bool) -> list[str]:
    """Names by number, the background first.

    Raises:
        ValueError: If there are more than a map of 8 bits can hold.
    """
    names = [n for n in labelled.classes if n != BACKGROUND]
    if len(names) > MOST_CLASSES:
        raise ValueError(f"{len(names)} classes are more than label maps hold ({MOST_CLASSES})")
    return [BACKGROUND, *names] if background else names


def label_map(image: LabelledImage, numbers: dict[str, int], empty: int) -> tuple[np.ndarray, int]:
    """The map of a picture over its stored pixels, uint8 (H, W), and how many pixels were covered.

    Args:
        image: The picture.
        numbers: Class -> number.
        empty: Number of what no shape covers.

    Returns:
        The map, and the number of pixels that a shape of another class was drawn over.
    """
    width, height = image.size
    found = np.full((height, width), empty, dtype=np.uint8)
    covered = np.zeros((height, width), dtype=bool)
    overlaps = 0
    for shape in sorted(image.shapes, key=lambda shape: shape.order):
        polygons = shape.polygons
        if not shape.has_mask:
            x1, y1, x2, y2 = shape.box_xyxy
            polygons = ((x1, y1, x2, y1, x2, y2, x1, y2),)
        mask = drawn(polygons, shape.runs, image.size)
        value = IGNORED if shape.ignore or shape.is_crowd else numbers[shape.label]
        overlaps += int((mask & covered & (found != value)).sum())
        found[mask] = value
        covered |= mask
    return turned(found, _BACK.get(image.orientation, image.orientation)), overlaps


def save_map(map_HW: np.ndarray, file: Path) -> None:
    """Write a map as PNG with a palette, so that people see classes in colours."""
    picture = Image.fromarray(np.ascontiguousarray(map_HW))
    picture.putpalette(_palette())
    picture.save(file, format="PNG")


def _palette() -> list[int]:
    """768 numbers, the colours of PASCAL VOC: the bits of a number spread over three channels."""
    colours = []
    for number in range(256):
        rgb = [0, 0, 0]
        for bit in range(8):
            for channel in range(3):
                rgb[channel] |= (number >> (3 * bit + channel) & 1) << (7 - bit)
        colours += rgb
    return colours


def count_pixels(map_HW: np.ndarray, counts: Counter[int]) -> None:
    """Add the pixels of a map, number by number."""
    numbers, pixels = np.unique(map_HW, return_counts=True)
    counts.update(dict(zip(numbers.tolist(), pixels.tolist(), strict=True)))
