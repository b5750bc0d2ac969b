"""Label maps over an image: colours of identities, void, tags that do not cover each other."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("cv2")

from pe_dense.pictures.colours import id_colour
from pe_dense.pictures.masks import draw_identities

GREY = np.full((64, 96, 3), 128, np.uint8)


def square(identity: int, top: int, left: int, side: int = 24) -> np.ndarray:
    labels = np.zeros((64, 96), np.uint8)
    labels[top : top + side, left : left + side] = identity
    return labels


def test_an_id_keeps_its_colour_wherever_it_is() -> None:
    for place in ((5, 5), (30, 60)):
        drawn = draw_identities(GREY, square(3, *place, side=30), 4.0)
        inside = drawn[4 * place[0] + 8, 4 * place[1] + 8].astype(float)
        expected = 0.55 * 128 + 0.45 * np.array(id_colour(3))
        assert np.abs(inside - expected).max() <= 1
    assert len({id_colour(k) for k in range(1, 60)}) == 59


def test_masks_leave_background_and_void_alone() -> None:
    labels = square(255, 10, 10)
    assert np.array_equal(draw_identities(GREY, labels, 1.0), GREY)
    assert np.array_equal(draw_identities(GREY, np.zeros_like(labels), 1.0), GREY)


def test_tags_of_objects_in_one_place_do_not_cover_each_other() -> None:
    ring, disc = square(1, 20, 40, side=20), square(2, 24, 44, side=12)
    labels = np.where(disc > 0, disc, ring)
    both = draw_identities(GREY, labels, 2.0)
    for identity, alone in ((1, ring), (2, disc)):
        solid = (draw_identities(GREY, alone, 2.0) == id_colour(identity)).all(-1).sum()
        assert (both == id_colour(identity)).all(-1).sum() > 0.6 * solid


def test_a_map_of_another_size_is_an_error() -> None:
    with pytest.raises(ValueError, match="does not fit"):
        draw_identities(GREY, np.zeros((3, 3), np.uint8), 1.0)
