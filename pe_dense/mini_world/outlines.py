"""Outlines of the solids of the courtyard as fields of signed distance, made once and looked up.

Every shape has a few variants (stretch, width of arms, size of the hole), so that it is more than
one template. A field holds distances at the points of a grid, in units of half the solid's size.

Shape legend: G grid points of a side, P corners of a polygon, S any shape.
"""

import math
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pe_dense.mini_world.render import ellipse_distance, polygon_distance

FloatArray = NDArray[Any]  # float32

SHAPES = ("disc", "box", "triangle", "star", "ring", "cross", "heart", "moon", "arrow")
VARIANTS = 8  # of every shape, and of clutter
REACH = 1.2  # nothing of a shape is further from its middle
_GRID, _EDGE = 160, 1.45  # points of a side, and where the first and last lie


class Outline(NamedTuple):
    """Signed distance, negative inside, and its slope along both axes, each (G, G) float32."""

    distance_GG: FloatArray
    slope_x_GG: FloatArray
    slope_y_GG: FloatArray


@cache
def outline_of(shape: str, variant: int) -> Outline:
    """The field of one variant of a shape; 'blob' is clutter.

    Raises:
        ValueError: If there is no such shape or variant.
    """
    if shape not in (*SHAPES, "blob") or not 0 <= variant < VARIANTS:
        raise ValueError(f"no outline {shape!r} {variant}; use one of {', '.join(SHAPES)}, blob")
    axis = np.linspace(-_EDGE, _EDGE, _GRID, dtype=np.float32)
    x_GG, y_GG = np.meshgrid(axis, axis)
    stretch = math.exp(0.05 * (variant % 4 - 1.5))
    share = variant / (VARIANTS - 1)
    if shape in ("disc", "ring"):
        radii_2 = np.array((0.95 * stretch, 0.95 / stretch), np.float32)
        distance_GG = ellipse_distance(x_GG, y_GG, radii_2)
        if shape == "ring":
            hole = np.float32(0.42 + 0.14 * share)
            distance_GG = np.maximum(distance_GG, hole - np.sqrt(x_GG**2 + y_GG**2))
    elif shape == "moon":  # one disc less another
        cut = np.float32(0.42 + 0.14 * share)
        outer = np.sqrt((x_GG + 0.15) ** 2 + y_GG**2) - np.float32(1.0)
        inner = np.sqrt((x_GG + 0.15 - cut) ** 2 + y_GG**2) - np.float32(0.8)
        distance_GG = np.maximum(outer, -inner)
    else:
        points_P2 = np.array(_corners(shape, variant, share), np.float32)
        points_P2 = points_P2 * np.array((stretch, 1.0 / stretch), np.float32)
        distance_GG = polygon_distance(x_GG, y_GG, points_P2)
    slope_y_GG, slope_x_GG = np.gradient(distance_GG.astype(np.float32), 2 * _EDGE / (_GRID - 1))
    steep_GG = np.sqrt(slope_x_GG**2 + slope_y_GG**2) + np.float32(1e-6)
    slopes = (v.astype(np.float32) / steep_GG for v in (slope_x_GG, slope_y_GG))
    return Outline(distance_GG.astype(np.float32), *slopes)


def distance_at(outline: Outline, x: FloatArray, y: FloatArray) -> FloatArray:
    """Signed distance at points, S; between grid points by linear interpolation."""
    (column, fx, over_x), (row, fy, over_y) = _cell(x), _cell(y)
    field = outline.distance_GG.ravel()
    at = row * _GRID + column
    top = field[at] + fx * (field[at + 1] - field[at])
    bottom = field[at + _GRID] + fx * (field[at + _GRID + 1] - field[at + _GRID])
    value: FloatArray = top + fy * (bottom - top) + over_x + over_y
    return value


def slopes_at(outline: Outline, x: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray]:
    """The unit vector away from the outline, S each, at the nearest grid point."""
    (column, fx, _), (row, fy, _) = _cell(x), _cell(y)
    at = (row + (fy > 0.5)) * _GRID + column + (fx > 0.5)
    return outline.slope_x_GG.ravel()[at], outline.slope_y_GG.ravel()[at]


def _cell(v: FloatArray) -> tuple[NDArray[Any], FloatArray, FloatArray]:
    """Number of the grid point below, how far on to the next, and how far beyond the grid."""
    inside = np.clip(v, np.float32(-_EDGE), np.float32(_EDGE))
    scaled = (inside + np.float32(_EDGE)) * np.float32((_GRID - 1) / (2 * _EDGE))
    index = np.minimum(scaled.astype(np.int32), _GRID - 2)
    return index, scaled - index.astype(np.float32), np.abs(v - inside)


def _corners(shape: str, variant: int, share: float) -> list[tuple[float, float]]:
    """Corners of a polygon about the origin; `share` in 0..1 is what its variants differ in."""
    if shape == "box":
        side = 0.82
        return [(-side, -side), (side, -side), (side, side), (-side, side)]
    if shape == "triangle":
        return _polar([1.12] * 3)
    if shape == "star":
        return _polar([1.12, 0.44 + 0.1 * share] * 5)
    if shape == "cross":
        a = 0.28 + 0.08 * share
        quarter = [(1.0, -a), (1.0, a), (a, a)]
        turns = ((1, 0, 0, 1), (0, -1, 1, 0), (-1, 0, 0, -1), (0, 1, -1, 0))
        return [(p * x + q * y, r * x + s * y) for p, q, r, s in turns for x, y in quarter]
    if shape == "arrow":
        a, head = 0.2 + 0.08 * share, 0.72 + 0.1 * share
        return [(1.1, 0.0), (0.1, head), (0.1, a), (-1.0, a), (-1.0, -a), (0.1, -a), (0.1, -head)]
    if shape == "heart":
        angles = [2 * math.pi * i / 36 for i in range(36)]
        notch = 4.6 + 0.8 * share
        return [
            (
                math.sin(t) ** 3,
                -0.064 * (13 * math.cos(t) - notch * math.cos(2 * t) - 2 * math.cos(3 * t)
                          - math.cos(4 * t)) - 0.1,
            )
            for t in angles
        ]  # fmt: skip
    rng = np.random.default_rng(variant)  # a blob
    waves = list(zip((2, 3, 5), rng.uniform(0, 2 * math.pi, size=3).tolist(), strict=True))
    angles = [2 * math.pi * i / 28 for i in range(28)]
    radii = [0.72 + sum(0.13 * math.sin(k * t + phase) for k, phase in waves) for t in angles]
    return _polar(radii)


def _polar(radii: list[float]) -> list[tuple[float, float]]:
    step = 2 * math.pi / len(radii)
    return [(r * math.cos(i * step), r * math.sin(i * step)) for i, r in enumerate(radii)]
