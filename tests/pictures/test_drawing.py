"""Layout of pictures: colours, sizes, scale bars, legends, tags, sheets."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("cv2")

from pe_dense.pictures.colours import PAPER, class_colour
from pe_dense.pictures.drawing import (
    contact_sheet,
    free_place,
    number_texts,
    picture_scale,
    round_values,
    stacked,
    with_legend,
)


def share_of(picture: np.ndarray, colour: tuple[int, int, int]) -> float:
    return float((picture == colour).all(-1).mean())


def test_colours_are_stable_and_distinct() -> None:
    colours = [class_colour(k) for k in range(365)]
    assert len(set(colours)) == 365 and colours == [class_colour(k) for k in range(365)]
    gaps = [
        np.abs(np.subtract(a, b)).sum() for i, a in enumerate(colours[:10]) for b in colours[:i]
    ]
    assert min(gaps) > 60
    assert all(max(colour) > 150 for colour in colours), "visible on dark ground"


@pytest.mark.parametrize(
    ("size", "scale"),
    [((1, 1), 640.0), ((100, 50), 7.0), ((640, 10), 1.0), ((1100, 800), 1.0), ((2000, 4400), 0.25)],
)
def test_small_images_are_enlarged_and_large_ones_reduced(size: tuple, scale: float) -> None:
    assert picture_scale(*size) == scale


def test_numbers_of_the_scale_bar() -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        low = float(rng.uniform(-50, 50))
        high, most = low + float(10 ** rng.uniform(-2, 3)), int(rng.integers(2, 9))
        values = round_values(low, high, most)
        assert len(values) <= most and all(low - 1e-6 <= v <= high + 1e-6 for v in values)
        assert len({*np.diff(values).round(9)}) <= 1
        assert len(set(number_texts(values))) == len(values)
    assert round_values(-50, 50, 5) == [-40, -20, 0, 20, 40]
    with pytest.raises(ValueError, match="is empty"):
        round_values(2.0, 2.0)


def test_a_legend_shows_what_fits_and_counts_the_rest() -> None:
    picture = np.full((20, 400, 3), 50, np.uint8)
    entries = [(class_colour(k), f"class {k}") for k in range(30)]
    one, four = (with_legend(picture, entries, ["facts"], "x.jpg", rows) for rows in (1, 4))
    shown = [[k for k in range(30) if share_of(p, class_colour(k))] for p in (one, four)]
    assert 0 < len(shown[0]) < len(shown[1]) < 30 and shown[1] == list(range(len(shown[1])))
    assert (four[:20] == picture).all() and four.shape[1] == 400


def test_a_title_stands_beside_the_names_where_there_is_room() -> None:
    picture = np.full((20, 400, 3), 50, np.uint8)
    beside, below = (with_legend(picture, [(class_colour(0), "a")], (), t) for t in ("x", "x" * 99))
    assert beside.shape[0] < below.shape[0]


def test_a_tag_takes_the_first_place_that_is_free() -> None:
    corners, tag, size = [(0, 0), (40, 0), (0, 40)], (20, 10), (50, 50)
    assert free_place(corners, tag, [], size) == (0, 0, 20, 10)
    assert free_place(corners, tag, [(5, 5, 9, 9)], size) == (30, 0, 50, 10)  # moved inside
    assert free_place(corners, tag, [(0, 0, 50, 10)], size) == (0, 40, 20, 50)
    assert free_place(corners, tag, [(0, 0, 50, 50)], size) == (0, 0, 20, 10)


def test_pictures_of_unequal_width_are_stacked_on_paper() -> None:
    found = stacked([np.zeros((2, 5, 3), np.uint8), np.zeros((3, 8, 3), np.uint8)])
    assert found.shape == (5, 8, 3) and (found[:2, 5:] == PAPER).all() and not found[2:].any()


def test_contact_sheet() -> None:
    pictures = [np.full((40, 100 + 10 * k, 3), 50, np.uint8) for k in range(3)]
    sheet = contact_sheet(pictures, ["a", "b", "c"])
    assert sheet.shape[1] == 2 * (120 + 10) + 10 and sheet.shape[0] > 2 * 40
    assert share_of(sheet, (50, 50, 50)) == pytest.approx(40 * 330 / (sheet.size / 3))
    with pytest.raises(ValueError, match="at least one picture"):
        contact_sheet([], [])
