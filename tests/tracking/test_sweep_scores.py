"""Many label maps at once against one at a time."""

import numpy as np
import pytest
import torch

from pe_dense.tracking.label_propagation import label_map_from_soft
from pe_dense.tracking.region_and_boundary import frame_scores
from pe_dense.tracking.sweep_scores import (
    bilinear_matrix,
    masks_from_maps,
    masks_from_soft,
    masks_scores,
)


def soft_maps(number, labels, grid_hw, seed=0):
    """Smooth soft labels, so that objects are blobs."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(number, labels, *grid_hw, generator=generator) * 8
    return torch.nn.functional.avg_pool2d(noise, 3, 1, 1).softmax(dim=1)


def one_by_one(annotation, maps, objects, radius):
    found = [np.stack(frame_scores(annotation, one, objects, radius), axis=1) for one in maps]
    return np.stack(found)


@pytest.mark.parametrize("number", [1, 7, 8, 24])
@pytest.mark.parametrize(("grid", "image"), [((5, 7), (37, 50)), ((6, 6), (96, 96))])
@pytest.mark.parametrize("labels", [2, 4])
def test_masks_and_scores_are_those_of_single_maps(number, grid, image, labels):
    soft = soft_maps(number, labels, grid)
    maps = [label_map_from_soft(one, image, stretch=False) for one in soft]
    masks = masks_from_soft(list(soft), image)
    assert np.array_equal(masks, masks_from_maps(maps, labels - 1))
    soft_truth = soft_maps(1, labels, grid, seed=9)[0]
    annotation = label_map_from_soft(soft_truth, image, stretch=False).copy()
    annotation[:5, :9] = 255
    for radius in (0, 1, 3, 60):
        expected = one_by_one(annotation, maps, labels - 1, radius)
        assert np.array_equal(masks_scores(annotation, masks, number, radius), expected)


@pytest.mark.parametrize("place", [(0, 0), (2, 3), (4, 6), None])
def test_objects_in_a_corner_and_none_at_all(place):
    soft = torch.zeros(8, 3, 5, 7)
    soft[:, 0] = 1
    if place is not None:
        soft[::2, 0, place[0], place[1]], soft[::2, 2, place[0], place[1]] = 0.2, 0.8
    maps = [label_map_from_soft(one, (37, 50), stretch=False) for one in soft]
    assert any(one.any() for one in maps) == (place is not None)
    assert np.array_equal(masks_from_soft(list(soft), (37, 50)), masks_from_maps(maps, 2))
    soft[:, 0] -= 2  # below zero, every object is better than the background
    maps = [label_map_from_soft(one, (37, 50), stretch=False) for one in soft]
    assert np.array_equal(masks_from_soft(list(soft), (37, 50)), masks_from_maps(maps, 2))


def test_of_equal_labels_the_lowest_counts():
    soft = torch.full((9, 3, 2, 2), 0.25)
    assert not masks_from_soft(list(soft), (4, 4)).any()
    soft[:, 1:] = 0.5  # both objects are as good
    first, second = masks_from_soft(list(soft), (4, 4))
    assert np.unpackbits(first, axis=-1, count=9).all() and not second.any()


def test_empty_full_and_absent_objects():
    height, width = 40, 30
    full, empty, corner = np.ones((3, height, width), np.uint8)
    empty[:], corner[:] = 0, 0
    corner[-3:, -3:] = 1
    single = empty.copy()
    single[7, 0] = 1
    maps = [full, empty, corner, single] * 5
    masks = masks_from_maps(maps, 1)
    for annotation in (full, empty, corner, single):
        expected = one_by_one(annotation, maps, 1, 2)
        assert np.array_equal(masks_scores(annotation, masks, len(maps), 2), expected)


def test_noise_is_counted_right_in_large_frames():
    rng = np.random.default_rng(0)
    maps = list(rng.integers(0, 3, (13, 211, 173), np.uint8))
    annotation = rng.integers(0, 3, (211, 173)).astype(np.uint8)
    found = masks_scores(annotation, masks_from_maps(maps, 2), 13, 1)
    assert np.array_equal(found, one_by_one(annotation, maps, 2, 1))


@pytest.mark.parametrize(("size", "source"), [(7, 3), (3, 7), (16, 16), (5, 1), (480, 30)])
def test_bilinear_weights_are_those_of_torch(size, source):
    x = torch.randn(1, 1, source, generator=torch.Generator().manual_seed(0))
    expected = torch.nn.functional.interpolate(x, size, mode="linear", align_corners=False)
    found = bilinear_matrix(size, source) @ x[0, 0]
    torch.testing.assert_close(found, expected[0, 0], atol=1e-5, rtol=0)


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="empty"):
        masks_from_soft([], (4, 4))
    masks = masks_from_maps([np.zeros((4, 4), np.uint8)], 1)
    with pytest.raises(ValueError, match="do not belong"):
        masks_scores(np.zeros((4, 5), np.uint8), masks, 1, 1)
    with pytest.raises(ValueError, match="do not belong"):
        masks_scores(np.zeros((4, 4), np.uint8), masks, 9, 1)
