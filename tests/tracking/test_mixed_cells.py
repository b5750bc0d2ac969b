"""Label maps filled cell by cell against upsampling all labels everywhere."""

import numpy as np
import pytest
import torch

from pe_dense.tracking.label_maps import label_map_from_soft
from pe_dense.tracking.mixed_cells import bilinear_sources, clear_winners, distinct_label_maps


def all_maps(soft_maps, image_hw):
    """Every map, also those that came up before."""
    distinct, found = [], []
    for number, label_map in distinct_label_maps(soft_maps, image_hw):
        if label_map is not None:
            assert number == len(distinct)
            distinct.append(label_map)
        found.append(distinct[number])
    return found, len(distinct)


def upsampled(soft_maps, image_hw):
    return [label_map_from_soft(one, image_hw, stretch=False) for one in soft_maps]


@pytest.mark.parametrize("smooth", [1, 5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("grid", "image"),
    [((5, 7), (37, 50)), ((6, 6), (96, 96)), ((1, 1), (9, 4)), ((9, 8), (5, 21)), ((1, 6), (8, 8))],
)
@pytest.mark.parametrize("labels", [1, 2, 5])
def test_maps_are_those_of_full_upsampling(smooth, dtype, grid, image, labels):
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(20, labels, *grid, generator=generator, dtype=dtype) * 8
    soft = torch.nn.functional.avg_pool2d(noise, smooth, 1, smooth // 2).softmax(dim=1)
    soft[3:6, 0] += 0.3  # mostly background
    found, _ = all_maps(list(soft), image)
    assert np.array_equal(found, upsampled(soft, image))


@pytest.mark.parametrize("place", [(0, 0), (2, 3), (4, 6), None])
def test_objects_in_a_corner_and_none_at_all(place):
    soft = torch.zeros(8, 3, 5, 7)
    soft[:, 0] = 1
    if place is not None:
        soft[::2, 0, place[0], place[1]], soft[::2, 2, place[0], place[1]] = 0.2, 0.8
    for shift in (0, 2):  # below zero, every object is better than the background
        soft[:, 0] -= shift
        found, distinct = all_maps(list(soft), (37, 50))
        assert np.array_equal(found, upsampled(soft, (37, 50)))
        assert distinct == (1 if place is None else 2) or shift
    found, _ = all_maps([soft[0] + 2], (37, 50))
    assert any(one.any() for one in found)


def test_a_label_that_wins_at_no_token_can_win_between():
    soft = torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]], [[0.6, 0.6]]])[None]
    (found,), _ = all_maps(list(soft), (1, 16))
    assert np.array_equal(found, upsampled(soft, (1, 16))[0])
    assert set(found[0].tolist()) == {0, 1, 2}


def test_of_equal_labels_the_lowest_counts():
    soft = torch.full((2, 3, 2, 2), 0.25)
    soft[1, 1:] = 0.5  # both objects are as good
    found, distinct = all_maps(list(soft), (4, 4))
    assert distinct == 2 and not found[0].any() and (found[1] == 1).all()


def test_labels_that_agree_to_rounding_are_left_to_the_slow_comparison():
    """Two labels that differ in the last digit may become equal when they are upsampled."""
    generator = torch.Generator().manual_seed(0)
    first = torch.rand(16, 1, 6, 6, generator=generator)
    soft = torch.cat([first, torch.nextafter(first, torch.ones(()))], dim=1)
    winners, is_mixed = clear_winners(soft.numpy())
    assert (winners == 1).all() and is_mixed.all()
    _, is_mixed = clear_winners(soft.flip(1).numpy())  # a lower label keeps a tie
    assert not is_mixed.any()
    soft = soft.flip(1)
    assert np.array_equal(all_maps(list(soft), (61, 47))[0], upsampled(soft, (61, 47)))


def test_cells_are_clear_where_the_four_corners_agree():
    soft = np.zeros((1, 2, 4, 5), np.float32)
    soft[0, 0], soft[0, 1, 2, 3] = 0.5, 1
    winners, is_mixed = clear_winners(soft)
    assert np.argwhere(winners[0]).tolist() == [[2, 3]]
    assert np.argwhere(is_mixed[0]).tolist() == [[1, 2], [1, 3], [2, 2], [2, 3]]


@pytest.mark.parametrize(("size", "source"), [(7, 3), (3, 7), (16, 16), (5, 1), (480, 30)])
def test_bilinear_sources_are_those_of_torch(size, source):
    x = torch.randn(1, 1, source, generator=torch.Generator().manual_seed(0))
    expected = torch.nn.functional.interpolate(x, size, mode="linear", align_corners=False)
    low, share = bilinear_sources(size, source)
    tokens = x[0, 0].numpy()
    found = tokens[low] * (1 - share) + tokens[np.minimum(low + 1, source - 1)] * share
    np.testing.assert_allclose(found, expected[0, 0], atol=1e-5)


def test_no_map_is_refused():
    with pytest.raises(ValueError, match="empty"):
        next(distinct_label_maps([], (4, 4)))
