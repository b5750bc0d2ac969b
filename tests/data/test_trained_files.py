"""The hash of training data: other for every other label or picture, the same for a copy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import ClassVar

import pytest

from pe_dense.data.holdout import HoldoutSubset
from pe_dense.data.trained_files import trained_sha256


class Maps:
    """Pictures with a label map each, as the data sets of segmentation are."""

    def __init__(self, folder: Path, names: str = "ab") -> None:
        self.folder, self.names = folder, names

    def __len__(self) -> int:
        return len(self.names)

    def get_data_info(self, index: int) -> dict[str, str]:
        name = self.names[index]
        return {
            "img_path": str(self.folder / f"{name}.jpg"),
            "seg_map_path": str(self.folder / f"{name}.png"),
        }


class Boxes(Maps):
    """Pictures whose labels are in one file, as COCO's are."""

    def __init__(self, folder: Path, names: str = "ab") -> None:
        super().__init__(folder, names)
        self.ann_file = str(folder / "labels.json")

    def get_data_info(self, index: int) -> dict[str, str]:
        return {"img_path": super().get_data_info(index)["img_path"]}


class Wrapper:
    def __init__(self, dataset: object) -> None:
        self.dataset = dataset


class Joined:
    def __init__(self, *datasets: object) -> None:
        self.datasets = datasets


class Untold:
    """A data set of which nothing is known."""

    def __len__(self) -> int:
        return 1

    def get_data_info(self, index: int) -> dict[str, str]:
        return {}


def write(folder: Path) -> Path:
    folder.mkdir()
    for name in "ab":
        (folder / f"{name}.jpg").write_text(f"picture {name}")
        (folder / f"{name}.png").write_text(f"labels of {name}")
    (folder / "labels.json").write_text(json.dumps({"boxes": [1, 2]}))
    return folder


@pytest.mark.parametrize("kind", [Maps, Boxes])
def test_a_copy_in_another_folder_and_order_is_the_same(tmp_path, kind):
    a, b = write(tmp_path / "one"), write(tmp_path / "two")
    found = trained_sha256(kind(a))
    assert found == trained_sha256(kind(b, "ba")) == trained_sha256(Wrapper(kind(b)))
    assert len(found) == 64
    halves = Joined(kind(a, "a"), Wrapper(kind(b, "b")))
    assert trained_sha256(halves) == found


@pytest.mark.parametrize(
    ("kind", "file", "content"),
    [
        (Maps, "a.png", "labels of somebody"),
        (Maps, "b.jpg", "another picture"),
        (Boxes, "labels.json", json.dumps({"boxes": [1, 3]})),  # of the same length
        (Boxes, "b.jpg", "another picture"),
    ],
)
def test_another_label_or_picture_is_seen(tmp_path, kind, file, content):
    folder = write(tmp_path / "one")
    before = trained_sha256(kind(folder))
    (folder / file).write_text(content)
    changed = trained_sha256(kind(folder))
    (folder / file).unlink()
    assert len({before, changed, trained_sha256(kind(folder))}) == 3
    assert trained_sha256(kind(folder, "a")) not in (before, changed)


def test_what_tells_of_no_files_has_no_hash(tmp_path):
    assert trained_sha256(Untold()) is None
    assert trained_sha256(Joined(Maps(write(tmp_path / "one")), Untold())) is None
    assert trained_sha256(object()) is None
    assert trained_sha256(Joined()) is None


def test_names_that_are_no_text(tmp_path):
    """A file name in Latin-1 on Linux comes as a lone surrogate."""

    class Named:
        def __len__(self):
            return 1

        def get_data_info(self, index):
            return dict(img_path=str(tmp_path / "stra\udcdfe.jpg"), seg_map_path="a.png")

    assert len(trained_sha256(Named())) == 64


class Held(Maps):
    """Pictures enough to hold some out."""

    metainfo: ClassVar[dict] = {}

    def full_init(self) -> None:
        """Nothing is to be read."""


def test_what_is_held_out_is_not_trained_on(tmp_path):
    """A run that goes on would train on what chooses its checkpoint."""
    folder, names = tmp_path, "abcdefghijkl"
    for name in names:
        (folder / f"{name}.jpg").write_text(name)
        (folder / f"{name}.png").write_text(name)
    tenth, half = (HoldoutSubset(Held(folder, names), "train", share=s, group="image")
                   for s in (1 / 12, 0.5))  # fmt: skip
    kept = "".join(names[i] for i in half.indices)
    assert 0 < len(kept) < len(tenth.indices) < len(names)
    assert trained_sha256(half) == trained_sha256(Maps(folder, kept))
    assert len({trained_sha256(d) for d in (tenth, half, Held(folder, names))}) == 3
    assert trained_sha256(Wrapper(half)) == trained_sha256(half)
