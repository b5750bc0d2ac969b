"""Cosine to a clicked token, by hand and by a loop."""

from __future__ import annotations

import numpy as np
import pytest

from pe_dense.analysis.similarity import similarity_map, token_at


def test_every_pixel_belongs_to_the_token_of_its_patch() -> None:
    for y in range(12):
        for x in range(8):
            assert token_at((x, y), (12, 8), (3, 2)) == (y // 4, x // 4)
    assert token_at((0.5, 479.9), (480, 640), (7, 9)) == (6, 0)


@pytest.mark.parametrize("point", [(-1, 0), (0, -0.5), (8, 0), (0, 12), (float("nan"), 0)])
def test_a_point_outside_is_refused(point: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="outside the image of 8 x 12 px"):
        token_at(point, (12, 8), (3, 2))


def test_cosines_are_those_of_a_loop() -> None:
    rng = np.random.default_rng(0)
    map_Chw = rng.normal(size=(5, 3, 4)).astype(np.float32)
    map_Chw[:, 2, 3] = 0
    feature = map_Chw[:, 1, 2]
    found = similarity_map(map_Chw, feature)
    for y in range(3):
        for x in range(4):
            other = map_Chw[:, y, x].astype(float)
            length = np.sqrt((other**2).sum() * (feature.astype(float) ** 2).sum())
            expected = (
                sum(a * b for a, b in zip(other, feature, strict=True)) / length if length else 0
            )
            assert found[y, x] == pytest.approx(expected, abs=1e-9)
    assert found[1, 2] == pytest.approx(1.0) and found[2, 3] == 0.0
    np.testing.assert_allclose(similarity_map(map_Chw, -3 * feature), -found)


def test_another_width_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot be compared"):
        similarity_map(np.ones((5, 3, 4)), np.ones(4))
