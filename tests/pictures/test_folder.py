"""The folder of pictures: numbers, names, refusals, an index below its heading."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("cv2")

from pe_dense.data.picture import read_picture
from pe_dense.pictures.folder import INDEX, Folder, Look, write_looks

PICTURE = np.arange(60, dtype=np.uint8).reshape(4, 5, 3)


def test_a_picture_comes_back_as_it_was(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "out")
    assert folder.add(7, "x" * 99, PICTURE) == f"007_{'x' * 60}.png"
    assert (read_picture(tmp_path / "out" / f"007_{'x' * 60}.png") == PICTURE).all()
    assert Folder(tmp_path / "more", 1000).stem(7, "x") == "0007_x"


def test_the_index_stands_below_its_heading(tmp_path: Path) -> None:
    assert Folder(tmp_path / "a").close(["b", "c"], "whose") == ["b", "c"]
    assert (tmp_path / "a" / INDEX).read_text() == "whose\nb\nc\n"


def test_what_cannot_be_compared_is_told_with_its_image(tmp_path: Path) -> None:
    def look_at(seen: str, title: str) -> Look:
        raise ValueError(f"{seen} of {title}")

    with pytest.raises(ValueError, match="image dir/a.png: class 9 of a.png"):
        write_looks(tmp_path / "a", [Path("dir/a.png")], lambda file: "class 9", look_at, 300)
    with pytest.raises(ValueError, match="at least one picture"):
        write_looks(tmp_path / "b", [], lambda file: None, look_at, 300)
