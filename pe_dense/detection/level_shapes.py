"""Rows and columns of a pyramid's levels, on the device and in Python at once.

mmdet reads them back from the GPU wherever a loop runs over levels, and each time the processor
waits until the GPU has done all that was asked before. Here they are made once for each shape.

Shape legend: N tokens of all levels, L levels.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import torch
from torch import Tensor

Grids = tuple[tuple[int, int], ...]


@functools.lru_cache(maxsize=64)
def shapes_on(device: torch.device, grids: Grids) -> Tensor:
    """(L, 2) int64 rows and columns on a device; never change it, others hold it too."""
    shapes_L2 = torch.tensor(grids, device=device)
    shapes_L2.grids = grids  # read by `grids_of`
    return shapes_L2


@functools.lru_cache(maxsize=64)
def level_of_tokens(device: torch.device, grids: Grids) -> Tensor:
    """(N,) int64, the level of every token."""
    sizes = torch.tensor([rows * columns for rows, columns in grids])
    return torch.arange(len(grids)).repeat_interleave(sizes).to(device)


def grids_of(shapes_L2: Tensor) -> Grids:
    """The same in Python; without waiting for the GPU where `shapes_on` made the tensor."""
    grids = getattr(shapes_L2, "grids", None)
    return grids if grids is not None else tuple(map(tuple, shapes_L2.tolist()))


def grids_of_maps(maps: Sequence[Tensor]) -> Grids:
    """Rows and columns of (B, D, h, w) maps."""
    return tuple((level.shape[-2], level.shape[-1]) for level in maps)
