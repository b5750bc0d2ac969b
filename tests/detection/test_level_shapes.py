"""Shapes of levels, known to Python and on the device at once."""

from __future__ import annotations

import torch

from pe_dense.detection import level_shapes

GRIDS = ((4, 6), (2, 3), (1, 2))


def test_shapes_and_levels_of_tokens() -> None:
    shapes = level_shapes.shapes_on(torch.device("cpu"), GRIDS)
    assert shapes.tolist() == [[4, 6], [2, 3], [1, 2]]
    assert level_shapes.grids_of(shapes) == GRIDS
    assert level_shapes.shapes_on(torch.device("cpu"), GRIDS) is shapes  # made once
    levels = level_shapes.level_of_tokens(torch.device("cpu"), GRIDS)
    assert levels.tolist() == [0] * 24 + [1] * 6 + [2] * 2


def test_other_tensors_are_read() -> None:
    assert level_shapes.grids_of(torch.tensor(GRIDS)) == GRIDS
    maps = [torch.zeros(2, 8, *grid) for grid in GRIDS]
    assert level_shapes.grids_of_maps(maps) == GRIDS
