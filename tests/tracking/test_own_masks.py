"""Masks in the forms that people have."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("mmengine")

from video_folders import save_indexed

from pe_dense.mini_world.formats import davis_palette
from pe_dense.tracking.own_masks import object_ids, read_object_masks, read_own_mask


def grid(*values: int) -> np.ndarray:
    return np.array([values, values[::-1]], np.uint8)


def test_an_indexed_png_holds_ids(tmp_path: Path) -> None:
    save_indexed(tmp_path / "m.png", grid(0, 1, 7, 255))
    np.testing.assert_array_equal(read_own_mask(tmp_path / "m.png"), grid(0, 1, 7, 255))


@pytest.mark.parametrize(
    ("stored", "ids"),
    [
        (grid(0, 255, 0), grid(0, 1, 0)),  # one object, whatever stands for it
        (grid(0, 128, 0), grid(0, 1, 0)),
        (grid(0, 3, 0), grid(0, 3, 0)),
        (grid(0, 1, 2, 14), grid(0, 1, 2, 14)),
        (grid(0, 1, 255), grid(0, 1, 255)),  # 255 is void beside ids
        (grid(0, 0, 0), grid(0, 0, 0)),
        (grid(0, 65) > 0, grid(0, 1)),  # of one bit
        (grid(0, 1).astype(np.uint16) * 65535, grid(0, 1)),
        (grid(0, 2).astype(np.uint16), grid(0, 2)),
    ],
    ids=str,
)
def test_greys_are_ids_or_one_object(tmp_path: Path, stored: np.ndarray, ids: np.ndarray) -> None:
    Image.fromarray(stored).save(tmp_path / "m.png")
    np.testing.assert_array_equal(read_own_mask(tmp_path / "m.png"), ids)


def test_colours_of_davis_are_their_places_in_its_palette(tmp_path: Path) -> None:
    ids = grid(0, 1, 2, 5)
    Image.fromarray(davis_palette().reshape(-1, 3)[ids].astype(np.uint8)).save(tmp_path / "m.png")
    np.testing.assert_array_equal(read_own_mask(tmp_path / "m.png"), ids)
    white = np.zeros((2, 3, 3), np.uint8)
    white[0, 0] = 255
    Image.fromarray(white).save(tmp_path / "w.png")
    assert read_own_mask(tmp_path / "w.png").tolist() == [[1, 0, 0], [0, 0, 0]]


def test_alpha_of_a_black_background_is_dropped(tmp_path: Path) -> None:
    white, alpha = Image.fromarray(grid(0, 255)), Image.fromarray(grid(0, 255))
    Image.merge("RGBA", [white, white, white, alpha]).save(tmp_path / "m.png")
    np.testing.assert_array_equal(read_own_mask(tmp_path / "m.png"), grid(0, 1))


def test_masks_of_single_objects_are_one_map(tmp_path: Path) -> None:
    Image.fromarray(grid(255, 255, 0, 0)).save(tmp_path / "a.png")
    Image.fromarray(grid(0, 255, 255, 0)).save(tmp_path / "b.png")
    found = read_object_masks({2: tmp_path / "a.png", 5: tmp_path / "b.png"})
    assert found.tolist() == [[2, 2, 5, 0], [0, 5, 2, 2]]  # the lowest id where both are


@pytest.mark.parametrize(
    ("picture", "words"),
    [
        (Image.fromarray(grid(0, 90, 200)), "grey with 2 values up to 200"),
        (Image.fromarray(np.full((2, 2, 3), 77, np.uint8)), r"\(77, 77, 77\) is none of DAVIS"),
        (Image.merge("LA", [Image.fromarray(grid(v, 255)) for v in (255, 0)]), "transparent"),
        (b"no picture", "cannot be decoded"),
        (None, "is missing"),
    ],
    ids=["greys", "colours", "alpha", "broken", "absent"],
)
def test_what_names_no_object_is_refused(tmp_path: Path, picture, words: str) -> None:
    path = tmp_path / "m.png"
    if isinstance(picture, bytes):
        path.write_bytes(picture)
    elif picture is not None:
        picture.save(path)
    with pytest.raises(ValueError, match=words) as caught:
        read_own_mask(path)
    assert "m.png" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_masks_of_objects_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    Image.fromarray(grid(255, 0)).save(tmp_path / "a.png")
    Image.fromarray(grid(255, 0, 0)).save(tmp_path / "wide.png")
    Image.fromarray(grid(1, 2)).save(tmp_path / "two.png")
    with pytest.raises(ValueError, match="save masks of a video at one size"):
        read_object_masks({1: tmp_path / "a.png", 2: tmp_path / "wide.png"})
    with pytest.raises(ValueError, match=r"two\.png is that of one object"):
        read_object_masks({1: tmp_path / "two.png"})
    with pytest.raises(ValueError, match="300 objects"):
        object_ids([str(n) for n in range(300)])
