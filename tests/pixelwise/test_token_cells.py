"""Cells of tokens against the matrix of the same interpolation."""

import pytest
import torch

from pe_dense.pixelwise.token_cells import token_cells
from pe_dense.pixelwise.upsampled_loss import interpolation_matrix


@pytest.mark.parametrize(
    ("small", "large", "tile"),
    [(1, 5, 8), (4, 4, 1), (7, 30, 8), (9, 5, 1), (3, 1, 1), (2, 80, 16)],
)
def test_cells_and_tiles_are_the_rows_of_the_matrix(small, large, tile):
    cells = token_cells(small, large, torch.device("cpu"))
    assert cells.weight_TS.shape[1] == tile
    by_cell, by_tile = torch.zeros(2, large, small)
    for i in range(small):
        first, last = cells.first_h1[i], cells.first_h1[i + 1]
        tiles = cells.weight_TS[cells.first_tile_h1[i] : cells.first_tile_h1[i + 1]].flatten()
        assert last - first <= len(tiles) < last - first + tile
        assert not tiles[last - first :].any()
        for weights, place in ((cells.weight_H[first:last], by_cell), (tiles, by_tile)):
            weights = weights[: last - first]
            place[first:last, i] += 1 - weights
            place[first:last, min(i + 1, small - 1)] += weights
    expected = interpolation_matrix(small, large, torch.zeros(1))
    torch.testing.assert_close(by_cell, expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(by_tile, expected, rtol=0, atol=1e-6)
