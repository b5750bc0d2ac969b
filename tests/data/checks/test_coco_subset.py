"""Parts of a COCO JSON: nothing is lost, nothing is half written, the original stays."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("cv2")

from coco_folders import content_of, edit, write_folder, write_split

from pe_dense.data.checks import coco_subset
from pe_dense.data.checks.coco_file import read_coco_file
from pe_dense.data.checks.coco_subset import copy_subset, divide, split_json, write_existing

NAMES = [f"{i}.jpg" for i in range(20)]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_split(tmp_path, "labels.json", "images", NAMES)
    edit(tmp_path / "labels.json", lambda c: c.update(licenses=[{"id": 1}], extra="\u00e9"))
    return tmp_path


def load(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def test_the_two_parts_are_the_whole(root: Path) -> None:
    before = (root / "labels.json").read_bytes()
    train, val = split_json(root, "labels.json", 0.2, seed=0)
    assert (train, val) == (root / "annotations/train.json", root / "annotations/val.json")
    whole, parts = load(root / "labels.json"), [load(train), load(val)]
    assert [len(part["images"]) for part in parts] == [16, 4]
    for key in ("images", "annotations"):
        together = sorted((item for part in parts for item in part[key]), key=lambda i: i["id"])
        assert together == whole[key]
    for part in parts:
        ids = {image["id"] for image in part["images"]}
        assert {a["image_id"] for a in part["annotations"]} == ids
        for key in ("info", "licenses", "categories", "extra"):
            assert part[key] == whole[key]
    assert (root / "labels.json").read_bytes() == before
    assert [p.name for p in (root / "annotations").iterdir() if p.name.startswith(".")] == []


def test_the_seed_decides(tmp_path: Path) -> None:
    chosen = []
    for n, seed in enumerate((0, 0, 1)):
        write_split(tmp_path / str(n), "labels.json", "images", NAMES)
        chosen.append(split_json(tmp_path / str(n), "labels.json", 0.2, seed)[1].read_bytes())
    assert chosen[0] == chosen[1] != chosen[2]


def test_a_file_with_the_name_of_a_part_is_not_overwritten(tmp_path: Path) -> None:
    write_split(tmp_path, "annotations/train.json", "images", NAMES)
    before = (tmp_path / "annotations/train.json").read_bytes()
    train, val = split_json(tmp_path, "annotations/train.json", 0.25)
    assert (train.name, val.name) == ("train_split.json", "val_split.json")
    assert (tmp_path / "annotations/train.json").read_bytes() == before
    from pe_dense.data.checks.coco_folder import find_splits

    assert find_splits(tmp_path) == ("annotations/train_split.json", "annotations/val_split.json")


def test_what_is_there_already_is_kept(root: Path) -> None:
    split_json(root, "labels.json", 0.2)
    before = (root / "annotations/val.json").read_bytes()
    split_json(root, "labels.json", 0.2)  # the same again is no conflict
    with pytest.raises(ValueError, match="exists and holds something else"):
        split_json(root, "labels.json", 0.5)
    assert (root / "annotations/val.json").read_bytes() == before


def test_an_interrupted_write_leaves_nothing_behind(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copies = []

    def stop(*arguments: object) -> None:
        copies.append(arguments)
        if len(copies) == 2:
            Path(arguments[1]).write_text('{"images": [')  # half of a file
            raise KeyboardInterrupt
        copy_subset(*arguments)

    monkeypatch.setattr(coco_subset, "copy_subset", stop)
    with pytest.raises(KeyboardInterrupt):
        split_json(root, "labels.json", 0.2)
    assert list((root / "annotations").iterdir()) == []
    monkeypatch.undo()
    split_json(root, "labels.json", 0.2)


def test_a_split_cut_short_between_its_files_is_completed(root: Path) -> None:
    train, val = split_json(root, "labels.json", 0.2)
    content = val.read_bytes()
    val.unlink()
    split_json(root, "labels.json", 0.2)
    assert val.read_bytes() == content and train.is_file()


@pytest.mark.parametrize("share", [0.0, 1.0, -0.2, 20.0, float("nan")])
def test_a_share_that_is_none(root: Path, share: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        split_json(root, "labels.json", share)
    assert not (root / "annotations").exists()


def test_a_file_with_faults_is_not_split(root: Path) -> None:
    edit(root / "labels.json", lambda c: c["annotations"][0].update(image_id=999))
    with pytest.raises(ValueError, match="names image 999"):
        split_json(root, "labels.json", 0.2)
    assert not (root / "annotations").exists()


@pytest.mark.parametrize("share", [0.01, 0.99])
def test_neither_part_is_empty(root: Path, share: float) -> None:
    train, val = split_json(root, "labels.json", share)
    assert len(load(train)["images"]) >= 1 and len(load(val)["images"]) >= 1


def test_one_image_cannot_be_divided(tmp_path: Path) -> None:
    write_split(tmp_path, "labels.json", "images", ["a.jpg"])
    with pytest.raises(ValueError, match="at least two"):
        split_json(tmp_path, "labels.json", 0.5)


def test_classes_are_divided_evenly(tmp_path: Path) -> None:
    """A class on 10 of 200 images would often miss a plain random fifth by half."""
    content = content_of([f"{i}.jpg" for i in range(200)])
    content["annotations"] = [
        a for a in content["annotations"] if a["category_id"] == 9 or a["image_id"] <= 10
    ]
    (tmp_path / "x.json").write_text(json.dumps(content))
    coco = read_coco_file(tmp_path / "x.json")
    for seed in range(5):
        is_val = divide(coco, 0.2, seed)
        assert is_val.sum() == 40 and is_val[:10].sum() == 2


def test_augmented_copies_stay_together(tmp_path: Path) -> None:
    names = [f"pic{i}_jpg.rf.{h}.jpg" for i in range(10) for h in ("a1", "b2", "c3")]
    (tmp_path / "x.json").write_text(json.dumps(content_of(names)))
    is_val = divide(read_coco_file(tmp_path / "x.json"), 0.3, 0)
    groups = is_val.reshape(10, 3)
    assert (groups.all(1) | ~groups.any(1)).all() and groups.all(1).sum() == 3


def test_empty_lists_are_copied(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text('{"images": [], "annotations": [], "categories": []}')
    copy_subset(tmp_path / "x.json", tmp_path / "y.json", set())
    assert load(tmp_path / "y.json") == load(tmp_path / "x.json")


# A copy without the images that have no file


def objects365(tmp_path: Path, missing: int, total: int = 2000) -> tuple[Path, Path, Path]:
    folder = tmp_path / "train" / "patch0"
    folder.mkdir(parents=True)
    names = [f"images/v1/patch0/{i}.jpg" for i in range(total)]
    for name in names[missing:]:
        (folder / Path(name).name).write_bytes(b"")
    source = tmp_path / "train.json"
    source.write_text(json.dumps(content_of(names)))
    return source, tmp_path / "fixmiss.json", tmp_path / "train"


def test_images_without_a_file_are_left_out(tmp_path: Path) -> None:
    source, target, images = objects365(tmp_path, missing=2)
    assert write_existing(source, target, images, "objects365") == 2
    content = load(target)
    assert len(content["images"]) == 1998 and len(content["annotations"]) == 2 * 1998
    assert min(image["id"] for image in content["images"]) == 3
    with pytest.raises(ValueError, match="exists already"):
        write_existing(source, target, images, "objects365")


def test_a_download_that_is_not_finished(tmp_path: Path) -> None:
    source, target, images = objects365(tmp_path, missing=100)
    with pytest.raises(ValueError, match="finish the download first"):
        write_existing(source, target, images, "objects365")
    assert not target.exists()


def test_others_may_read_the_parts(tmp_path: Path) -> None:
    """Files made by tempfile would be private."""
    write_folder(tmp_path)
    (tmp_path / "annotations" / "val.json").unlink()
    source = tmp_path / "annotations" / "train.json"
    train, _ = split_json(tmp_path, "annotations/train.json", 0.5)
    assert train.stat().st_mode == source.stat().st_mode
