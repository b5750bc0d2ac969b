"""Which pixels lie between which tokens, for kernels that go through an upsampled map cell by cell.

Shape legend: h tokens and H pixels along one axis; T tiles of S pixels each.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import torch
from torch import Tensor


class Cells(NamedTuple):
    """Bilinear upsampling along one axis: pixel y mixes token i and the next one.

    value[y] = (1 - weight_H[y]) * token[i] + weight_H[y] * token[min(i + 1, h - 1)], where cell i
    holds the pixels first_h1[i] to first_h1[i + 1] - 1. Every cell is cut into tiles of S pixels,
    of which the last may reach beyond the cell.

    Attributes:
        first_h1: (h + 1,) int32.
        weight_H: (H,) float32, 0 to 1.
        first_tile_h1: (h + 1,) int32: number of the first tile of a cell.
        weight_TS: (T, S) float32, 0 beyond a cell.
    """

    first_h1: Tensor
    weight_H: Tensor
    first_tile_h1: Tensor
    weight_TS: Tensor


@functools.lru_cache(maxsize=64)
def token_cells(num_in: int, num_out: int, device: torch.device, largest_tile: int = 16) -> Cells:
    """Cells of `F.interpolate(..., align_corners=False)` from `num_in` tokens to `num_out` pixels.

    Kept for the next call, so that training moves nothing to the device; not to be written to.

    Args:
        num_in: h.
        num_out: H.
        device: Where the tensors will be.
        largest_tile: A power of two. S is the smallest one that holds the longest cell, or this.

    Example:
        >>> cells = token_cells(2, 4, torch.device("cpu"))
        >>> cells.first_h1.tolist(), cells.weight_H.tolist()
        ([0, 3, 4], [0.0, 0.25, 0.75, 0.25])
    """
    place_H = torch.arange(num_out, dtype=torch.float64).add(0.5).mul(num_in / num_out).sub(0.5)
    place_H = place_H.clamp(min=0)
    index_H = place_H.long().clamp(max=num_in - 1)
    weight_H = (place_H - index_H).float()
    first_h1 = torch.searchsorted(index_H, torch.arange(num_in + 1))
    lengths_h = first_h1.diff()
    # The first cell is half as long again as the others: it is cut rather than all tiles widened.
    usual = -(-num_out // num_in)
    tile = min(largest_tile, 1 << (usual - 1).bit_length())
    tiles_h = (lengths_h + tile - 1) // tile
    first_tile_h1 = torch.nn.functional.pad(tiles_h.cumsum(0), (1, 0))
    inside_H = torch.arange(num_out) - first_h1[index_H]
    weight_T = weight_H.new_zeros(int(first_tile_h1[-1]) * tile)
    weight_T[first_tile_h1[index_H] * tile + inside_H] = weight_H
    return Cells(
        first_h1.int().to(device),
        weight_H.to(device),
        first_tile_h1.int().to(device),
        weight_T.view(-1, tile).to(device),
    )
