"""Means at places of a grid, against loops over pixels."""

from __future__ import annotations

import numpy as np
import pytest

from pe_dense.pixelwise.position_means import (
    LabelCounts,
    ValueMeans,
    position_features,
    sampled,
    spread,
)


def test_a_map_of_the_grids_size_is_itself():
    map_HW = np.arange(64 * 64).reshape(64, 64)
    assert (sampled(map_HW) == map_HW).all()
    assert (spread(map_HW, 64, 64) == map_HW).all()


@pytest.mark.parametrize(("height", "width"), [(1, 1), (3, 200), (97, 64), (130, 31)])
def test_sampling_takes_the_pixel_below_the_middle_of_a_cell(height, width):
    map_HW = np.random.default_rng(0).integers(0, 9, (height, width))
    found_GG = sampled(map_HW, grid=8)
    for i in range(8):
        for j in range(8):
            row, column = int((i + 0.5) * height / 8), int((j + 0.5) * width / 8)
            assert found_GG[i, j] == map_HW[row, column]
    back_HW = spread(found_GG, height, width)
    assert back_HW.shape == (height, width)
    assert back_HW[0, 0] == found_GG[int(0.5 * 8 / height), int(0.5 * 8 / width)]


def test_the_most_frequent_class_at_each_place():
    counts = LabelCounts(3, grid=2)
    for rows in ([[0, 1], [2, 255]], [[0, 1], [1, 255]], [[2, 2], [2, 255]]):
        counts.add(np.array(rows, np.uint8))
    assert counts.pixels_K.tolist() == [2, 3, 4]
    assert counts.best_constant() == 2
    assert counts.most_frequent().tolist() == [[0, 1], [2, 2]]  # nothing was seen at the last
    # Of class 0 all pixels are at the first place, of class 1 most at the second.
    assert counts.balanced().tolist() == [[0, 1], [2, 2]]


def test_labels_out_of_range_and_none_at_all():
    counts = LabelCounts(3, grid=2)
    with pytest.raises(ValueError, match="of 3 classes"):
        counts.add(np.array([[0, 3]], np.uint8))
    with pytest.raises(ValueError, match="no training pixel"):
        LabelCounts(3).best_constant()


def test_means_leave_out_what_is_not_valid():
    means = ValueMeans(grid=2)
    ones = np.ones((2, 2), bool)
    means.add(np.array([[1.0, 2.0], [0.0, 5.0]]), ones)
    means.add(np.array([[4.0, 2.0], [0.0, 7.0]]), np.array([[True, True], [True, False]]))
    assert means.mean() == pytest.approx((1 + 2 + 5 + 4 + 2) / 5)
    assert np.allclose(means.mean_map(), [[2.5, 2.0], [means.mean(), 5.0]])
    assert np.allclose(means.geometric_map()[0], [2.0, 2.0])
    with pytest.raises(ValueError, match="no training pixel"):
        ValueMeans().mean()


def test_features_of_positions_tell_all_places_apart():
    features_GGF = position_features(grid=16, octaves=3)
    assert features_GGF.shape == (16, 16, 13) and (features_GGF[..., 0] == 1).all()
    assert len(np.unique(features_GGF.reshape(256, -1).round(9), axis=0)) == 256
