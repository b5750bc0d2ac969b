"""Many label maps at once against one at a time."""

import numpy as np
import pytest
import torch

from pe_dense.tracking.label_maps import label_map_from_soft
from pe_dense.tracking.region_and_boundary import frame_scores
from pe_dense.tracking.sweep_scores import masks_from_maps, masks_scores, soft_scores


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
    masks = masks_from_maps(maps, labels - 1)
    soft_truth = soft_maps(1, labels, grid, seed=9)[0]
    annotation = label_map_from_soft(soft_truth, image, stretch=False).copy()
    annotation[:5, :9] = 255
    for radius in (0, 1, 3, 60):
        expected = one_by_one(annotation, maps, labels - 1, radius)
        assert np.array_equal(masks_scores(annotation, masks, number, radius), expected)
        assert np.array_equal(soft_scores(annotation, list(soft), radius), expected)


def test_equal_maps_get_the_scores_of_one():
    soft = soft_maps(3, 3, (4, 5), seed=1)
    annotation = label_map_from_soft(soft_maps(1, 3, (4, 5), seed=2)[0], (32, 40), stretch=False)
    order = [2, 0, 2, 2, 1, 0, 1, 2, 0, 1, 2]
    found = soft_scores(annotation, [soft[i] for i in order], 2)
    assert np.array_equal(found, soft_scores(annotation, list(soft), 2)[order])
    assert len(np.unique(found, axis=0)) == 3


def test_bits_are_those_of_packbits():
    maps = np.random.default_rng(0).integers(0, 4, (11, 6, 5), np.uint8)
    expected = [np.packbits(np.moveaxis(maps, 0, -1) == k + 1, axis=-1) for k in range(3)]
    assert np.array_equal(masks_from_maps(iter(maps), 3), expected)


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


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="empty"):
        soft_scores(np.zeros((4, 4), np.uint8), [], 1)
    with pytest.raises(ValueError, match="empty"):
        masks_from_maps([], 1)
    masks = masks_from_maps([np.zeros((4, 4), np.uint8)], 1)
    with pytest.raises(ValueError, match="do not belong"):
        masks_scores(np.zeros((4, 5), np.uint8), masks, 1, 1)
    with pytest.raises(ValueError, match="do not belong"):
        masks_scores(np.zeros((4, 4), np.uint8), masks, 9, 1)
