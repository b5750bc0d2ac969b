"""Tiles of a token grid and what lies within a radius of them.

Shape legend: h w token grid, Q queries of a tile, S tokens that a tile can reach.
"""

from __future__ import annotations

import math
from functools import lru_cache
from itertools import pairwise

import torch
from torch import Tensor

MAX_SIMILARITIES = 2**22  # numbers of a tile held at a time, 16 MiB in float32


def cut(steps: range) -> slice:
    """The slice that takes these steps."""
    return slice(steps.start, steps.stop)


def bands(length: int, size: int) -> list[range]:
    """0..length in pieces of nearly equal length, at most `size`."""
    number = -(-length // size)
    edges = [length * i // number for i in range(number + 1)]
    return [range(start, stop) for start, stop in pairwise(edges)]


def reached(band: range, length: int, radius: int) -> range:
    """What lies within the radius of a band along one axis."""
    if not radius:
        return range(length)
    return range(max(band.start - radius, 0), min(band.stop + radius, length))


def fitting_tile(
    tile_hw: tuple[int, int], grid_hw: tuple[int, int], radius: int, num_frames: int
) -> tuple[int, int]:
    """Tile that reaches at most MAX_SIMILARITIES tokens: shorter, then narrower, than wanted."""
    if all(2 * radius + side >= length for side, length in zip(tile_hw, grid_hw, strict=True)):
        tile_hw = grid_hw  # the middle tile would reach everything: nothing is saved by tiles
    tile_h, tile_w = (min(side, length) for side, length in zip(tile_hw, grid_hw, strict=True))
    while tile_h * tile_w > 1:
        reached = num_frames
        for side, length in zip((tile_h, tile_w), grid_hw, strict=True):
            reached *= min(side + 2 * radius, length) if radius else length
        if tile_h * tile_w * reached <= MAX_SIMILARITIES:
            break
        tile_h, tile_w = ((tile_h + 1) // 2, tile_w) if tile_h > 1 else (1, (tile_w + 1) // 2)
    return tile_h, tile_w


@lru_cache(maxsize=32)  # layers and frames ask for the same ones
def neighbourhood_bias(
    rows: range, columns: range, near_rows: range, near_columns: range, radius: int, shape: str
) -> Tensor | None:
    """(Q, S) 0 within the neighbourhood and -inf outside, or None if everything is within."""
    if not radius:
        return None
    dy = torch.arange(near_rows.start, near_rows.stop) - _column(rows)  # (Qh, Sh)
    dx = torch.arange(near_columns.start, near_columns.stop) - _column(columns)  # (Qw, Sw)
    dy, dx = dy[:, None, :, None], dx[None, :, None, :]  # (Qh, Qw, Sh, Sw) together
    if shape == "circle":
        outside = dy**2 + dx**2 > radius**2
    else:
        outside = (dy.abs() > radius) | (dx.abs() > radius)
    bias = torch.zeros(outside.shape).masked_fill_(outside, -math.inf)
    return bias.reshape(len(rows) * len(columns), len(near_rows) * len(near_columns))


def _column(steps: range) -> Tensor:
    return torch.arange(steps.start, steps.stop)[:, None]
