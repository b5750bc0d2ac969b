"""Outlines of shapes that are drawn by few numbers, and run lengths of masks.

Angles are degrees, clockwise on the screen, where y points down.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from pycocotools import mask as coding

ELLIPSE_POINTS = 72  # the area is off by 0.13 %

Polygon = tuple[float, ...]


def turned_points(
    points: list[tuple[float, float]], degrees: float, centre_xy: tuple[float, float]
) -> Polygon:
    """Points turned about a centre, as x and y in turn.

    Example:
        >>> [round(v) for v in turned_points([(2, 0)], 90, (0, 0))]
        [0, 2]
    """
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    cx, cy = centre_xy
    found: list[float] = []
    for x, y in points:
        found += [
            cx + (x - cx) * cos - (y - cy) * sin,
            cy + (x - cx) * sin + (y - cy) * cos,
        ]
    return tuple(found)


def rectangle(
    x1: float, y1: float, x2: float, y2: float, degrees: float = 0.0,
    centre_xy: tuple[float, float] | None = None,
) -> Polygon:  # fmt: skip
    """The corners of a rectangle, turned about its middle or another point."""
    middle = ((x1 + x2) / 2, (y1 + y2) / 2)
    return turned_points(
        [(x1, y1), (x2, y1), (x2, y2), (x1, y2)],
        degrees,
        middle if centre_xy is None else centre_xy,
    )


def ellipse(cx: float, cy: float, rx: float, ry: float, degrees: float = 0.0) -> Polygon:
    """An ellipse of `ELLIPSE_POINTS` points, the four ends of its axes among them."""
    angles = [2 * math.pi * k / ELLIPSE_POINTS for k in range(ELLIPSE_POINTS)]
    points = [(cx + rx * math.cos(a), cy + ry * math.sin(a)) for a in angles]
    return turned_points(points, degrees, (cx, cy))


def runs_of(mask_HW: np.ndarray) -> dict[str, Any]:
    """COCO run lengths of a bitmap, the counts as text."""
    found = coding.encode(np.asfortranarray(mask_HW, dtype=np.uint8))
    return {"size": [int(side) for side in found["size"]], "counts": found["counts"].decode()}


def box_of_mask(mask_HW: np.ndarray) -> tuple[float, float, float, float] | None:
    """The edges of what is marked; None for an empty bitmap."""
    rows, columns = np.flatnonzero(mask_HW.any(1)), np.flatnonzero(mask_HW.any(0))
    if not len(rows):
        return None
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)


def area_of(polygon: Polygon) -> float:
    """Area inside an outline (shoelace formula), in square pixels.

    Example:
        >>> area_of((0, 0, 4, 0, 4, 2, 0, 2))
        8.0
    """
    x, y = np.asarray(polygon[0::2]), np.asarray(polygon[1::2])
    return float(abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2)


def drawn(polygons: tuple[Polygon, ...], runs: Any, size: tuple[int, int]) -> np.ndarray:
    """The mask of a shape, (H, W) bool, drawn by COCO's rule.

    Raises:
        ValueError: If run lengths are of another size.
    """
    width, height = size
    if runs is not None:
        if list(runs["size"]) != [height, width]:
            raise ValueError(
                f"has run lengths of {runs['size']}, but its image has {[height, width]}"
            )
        if isinstance(runs["counts"], list):
            runs = coding.frPyObjects(dict(runs), height, width)
        return np.asarray(coding.decode(runs), dtype=bool)
    parts = coding.frPyObjects([list(map(float, part)) for part in polygons], height, width)
    return np.asarray(coding.decode(coding.merge(parts)), dtype=bool)
