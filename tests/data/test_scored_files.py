"""Files that count: of which items, in which order, hashed once and again when they change."""

from __future__ import annotations

from pathlib import Path

import pytest

from pe_dense.data import scored_files as module
from pe_dense.data.scored_files import hashes_of, scored_files
from pe_dense.files import file_sha256


class Listed:
    """A data set of given entries."""

    def __init__(self, infos, ann_file=""):
        self.infos, self.ann_file = infos, ann_file

    def __len__(self):
        return len(self.infos)

    def get_data_info(self, index):
        return self.infos[index]


class Together:
    def __init__(self, *datasets):
        self.datasets = datasets


class Part:
    """As HoldoutSubset: entries of an inner set."""

    def __init__(self, dataset, part):
        self.dataset, self.part = dataset, part

    def __len__(self):
        return len(self.dataset)

    def get_data_info(self, index):
        return self.dataset.get_data_info(index)


@pytest.fixture
def folder(tmp_path):
    """Six files."""
    for name in ("a/1.jpg", "a/2.jpg", "b/1.jpg", "1.png", "2.png", "labels.json"):
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(name)
    return tmp_path


def pairs(folder, *names, key="seg_map_path"):
    return [
        {"img_path": str(folder / name), key: str(folder / f"{Path(name).stem}.png")}
        for name in names
    ]


def test_pictures_with_label_maps(folder):
    for key in ("seg_map_path", "depth_map_path"):
        found = scored_files(Listed(pairs(folder, "a/1.jpg", "a/2.jpg", key=key)))
        assert found.labels is None
        assert [item.name for item in found.items] == ["1.jpg", "2.jpg"]
        assert found.items[0].files == (str(folder / "a/1.jpg"), str(folder / "1.png"))


def test_folders_stand_in_names_only_where_they_must(folder):
    found = scored_files(Listed(pairs(folder, "a/1.jpg", "b/1.jpg")))
    assert [item.name for item in found.items] == ["a/1.jpg", "b/1.jpg"]


def test_names_of_a_list_win(folder):
    infos = pairs(folder, "a/1.jpg", "b/1.jpg")
    for info, name in zip(infos, ("office/7.jpg", "study/7.jpg"), strict=True):
        info["image_id"] = name
    found = scored_files(Listed(infos))
    assert [item.name for item in found.items] == ["office/7.jpg", "study/7.jpg"]


def test_pictures_whose_labels_lie_in_one_file(folder):
    infos = [{"img_path": str(folder / "a/1.jpg"), "img_id": 1}]
    found = scored_files(Listed(infos, str(folder / "labels.json")))
    assert found.labels == str(folder / "labels.json")
    assert str(folder / "labels.json") in found.paths
    assert scored_files(Listed(infos)) is None  # nobody knows the labels


def test_videos_with_masks_and_without_those_that_choose(folder):
    frames = (str(folder / "a/1.jpg"), str(folder / "a/2.jpg"))
    video = {"video": "bear", "frame_paths": frames, "mask_paths": (str(folder / "1.png"), None)}
    other = {"video": "cow", "frame_paths": frames, "mask_paths": (), "purpose": "select"}
    (item,) = scored_files(Listed([other, {**video, "purpose": "report"}])).items
    assert item.name == "bear"
    assert item.files == (*frames, str(folder / "1.png"))


def test_sequences_with_their_ground_truth(tmp_path):
    truth = tmp_path / "MOT17-02" / "gt" / "gt.txt"
    truth.parent.mkdir(parents=True)
    truth.write_text("1,1,0,0,5,5,1,1,1\n")
    frames = [{"img_path": "img1/1.jpg", "sequence_dir": str(tmp_path / "MOT17-02")}]
    (item,) = scored_files(Listed([{"video_id": 0, "images": frames}])).items
    assert (item.name, item.files) == ("MOT17-02", ("img1/1.jpg", str(truth)))


def test_held_out_images_do_not_count(folder):
    held = Part(Listed(pairs(folder, "b/1.jpg")), "holdout")
    found = scored_files(Together(held, Listed(pairs(folder, "a/1.jpg", "a/2.jpg"))))
    assert [item.name for item in found.items] == ["1.jpg", "2.jpg"]


def test_the_file_of_labels_is_found_through_a_part(folder):
    inner = Listed([{"img_path": str(folder / "a/1.jpg")}], str(folder / "labels.json"))
    assert scored_files(Part(inner, "train")).labels == str(folder / "labels.json")


def test_two_items_of_one_name_are_refused(folder):
    with pytest.raises(ValueError, match=r"1\.jpg is scored twice"):
        scored_files(Listed(pairs(folder, "a/1.jpg", "a/1.jpg")))


def test_data_sets_that_tell_nothing_have_no_hash():
    assert scored_files(Listed([])) is None
    assert scored_files(Listed([{"text": "a cat"}])) is None
    assert scored_files([1, 2, 3]) is None


def test_hashes_are_those_of_the_bytes(folder):
    files = scored_files(Listed(pairs(folder, "a/1.jpg", "a/2.jpg")))
    hashes = hashes_of(files)
    assert hashes == {path: file_sha256(path) for path in files.paths}
    assert len(hashes) == 4


def test_a_file_is_hashed_once_while_it_stays(folder, monkeypatch):
    monkeypatch.setattr("pe_dense.data.checks.remembered.SETTLED_S", -10.0)  # files are new here
    files = scored_files(Listed(pairs(folder, "a/1.jpg", "a/2.jpg")))
    read = []
    monkeypatch.setattr(module, "file_sha256", lambda path: read.append(path) or file_sha256(path))
    first = hashes_of(files)
    assert len(read) == 4
    assert hashes_of(files) == first and len(read) == 4
    (folder / "a" / "2.jpg").write_text("another")
    second = hashes_of(files)
    changed = [path for path in first if first[path] != second[path]]
    assert changed == [str(folder / "a" / "2.jpg")]


def test_a_missing_picture_is_named(folder):
    files = scored_files(Listed(pairs(folder, "a/1.jpg", "a/2.jpg")))
    (folder / "a" / "2.jpg").unlink()
    with pytest.raises(ValueError, match=r"a/2\.jpg: cannot be read \(No such file"):
        hashes_of(files)
