"""Layouts are recognised; what is missing or ambiguous is one sentence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("cv2")

from coco_folders import content_of, edit, write_folder, write_split

from pe_dense.data.checks.coco_folder import facts, find_images, find_splits, single_json
from pe_dense.data.checks.inspection import inspect_folder
from pe_dense.data.checks.many_files import silent

LAYOUTS = {
    "plain": ("annotations/train.json", "images", "annotations/val.json", "images"),
    "folders": ("annotations/train.json", "images/train", "annotations/val.json", "images/val"),
    "valid": ("annotations/train.json", "train/images", "annotations/valid.json", "valid/images"),
    "coco": (
        "annotations/instances_train2017.json", "train2017",
        "annotations/instances_val2017.json", "val2017",
    ),
    "no year": (
        "annotations/instances_train.json", "train", "annotations/instances_val.json", "val",
    ),
    "roboflow": ("train/_annotations.coco.json", "train", "valid/_annotations.coco.json", "valid"),
    "root": ("train.json", "data", "val.json", "data"),
    "same folder": ("train.json", "", "val.json", ""),
    "unusual": ("annotations/train.json", "a/b/left", "annotations/val.json", "a/b/right"),
}  # fmt: skip


@pytest.mark.parametrize("name", LAYOUTS)
def test_layouts_are_found(tmp_path: Path, name: str) -> None:
    train_json, train_images, val_json, val_images = LAYOUTS[name]
    write_split(tmp_path, train_json, train_images, ["t0.jpg", "t1.jpg"])
    write_split(tmp_path, val_json, val_images, ["v0.jpg"], first_id=50)
    found = facts(dict(data_root=str(tmp_path)))
    assert (found["train_json"], found["val_json"]) == (train_json, val_json)
    assert (tmp_path / found["train_images"] / "t0.jpg").is_file()
    assert (tmp_path / found["val_images"] / "v0.jpg").is_file()
    assert found["classes"] == ["disc", "box"] and found["num_classes"] == 2
    assert found["name"] == tmp_path.name
    assert len(found["train_sha256"]) == len(found["val_sha256"]) == 64


def test_bccd(bccd_root: Path) -> None:
    found = facts(dict(data_root=str(bccd_root)))
    assert found["classes"] == ["RBC", "WBC", "Platelets"]
    assert found["train_images"] == found["val_images"] == "images/"
    # The hash that the published protocol states.
    assert found["val_sha256"].startswith("5e32c539c7101a0d")


def test_names_given_by_the_user_count(tmp_path: Path) -> None:
    write_folder(tmp_path)
    write_split(tmp_path, "more/test.json", "elsewhere", ["x0.jpg"], first_id=900)
    names = dict(data_root=str(tmp_path), val_json="more/test.json", val_images="elsewhere")
    found = facts(names)
    assert found["val_json"] == "more/test.json" and found["val_images"] == "elsewhere"
    assert found["train_json"] == "annotations/train.json"
    only_train = facts(dict(data_root=str(tmp_path), train_json="more/test.json"))
    assert only_train["train_json"] == "more/test.json"
    assert only_train["val_json"] == "annotations/val.json"


def test_sub_folders_in_file_names(tmp_path: Path) -> None:
    write_split(tmp_path, "annotations/train.json", "images", ["a/x.jpg", "b/x.jpg"])
    assert find_images(tmp_path, "annotations/train.json", ["a/x.jpg", "b/x.jpg"]) == "images/"


def test_the_folder_with_most_of_the_images_counts(tmp_path: Path) -> None:
    names = [f"{i}.jpg" for i in range(10)]
    write_split(tmp_path, "annotations/train.json", "train", names)
    write_split(tmp_path, "annotations/other.json", "images", names[:1])
    assert find_images(tmp_path, "annotations/train.json", names) == "train/"


def test_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    write_folder(tmp_path / "mine")
    assert facts(dict(data_root="~/mine"))["num_classes"] == 2


def test_a_folder_to_test_on_needs_no_training_annotations(tmp_path: Path) -> None:
    write_folder(tmp_path)
    (tmp_path / "annotations" / "train.json").unlink()
    found = facts(dict(data_root=str(tmp_path)))
    assert found["train_json"] == "annotations/train.json" and found["train_sha256"] is None
    assert found["classes"] == ["disc", "box"]


def refusal(root: Path, **names: str) -> str:
    with pytest.raises(ValueError) as error:
        facts(dict(data_root=str(root), **names))
    assert "\n" not in str(error.value)
    return str(error.value)


def test_data_root_must_be_given_and_be_there(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--cfg-options data_root=DIR"):
        facts(dict(data_root=None))
    assert f"{tmp_path / 'absent'} does not exist" in refusal(tmp_path / "absent")


def test_no_validation_says_how_to_split(tmp_path: Path) -> None:
    write_folder(tmp_path)
    (tmp_path / "annotations" / "val.json").unlink()
    message = refusal(tmp_path)
    assert "none to validate on" in message
    assert f"prepare_data.py coco-format {tmp_path} --split 0.2" in message


def test_one_json_says_how_to_split(tmp_path: Path) -> None:
    write_split(tmp_path, "labels.json", "images", ["a.jpg"])
    message = refusal(tmp_path)
    assert "labels.json" in message and "--split 0.2" in message


def test_nothing_that_looks_like_annotations(tmp_path: Path) -> None:
    assert "it has no JSON at all" in refusal(tmp_path)
    (tmp_path / "a.json").write_text("{}")
    (tmp_path / "b.json").write_text("{}")
    assert "it has a.json, b.json" in refusal(tmp_path)


def test_two_years_are_ambiguous(tmp_path: Path) -> None:
    for year in ("2014", "2017"):
        for split in ("train", "val"):
            write_split(tmp_path, f"annotations/instances_{split}{year}.json", "images", ["a.jpg"])
    message = refusal(tmp_path)
    assert "several pairs" in message and "train_json=" in message
    given = dict(train_json="annotations/instances_train2014.json",
                 val_json="annotations/instances_val2014.json")  # fmt: skip
    assert find_splits(tmp_path, **given) == tuple(given.values())


def test_years_that_do_not_agree_are_no_pair(tmp_path: Path) -> None:
    write_split(tmp_path, "annotations/instances_train2014.json", "images", ["a.jpg"])
    write_split(tmp_path, "annotations/instances_val2017.json", "images", ["b.jpg"])
    assert find_splits(tmp_path)[1] == "annotations/instances_val2017.json"


@pytest.mark.parametrize("name", ["train_json", "val_json"])
def test_a_named_file_must_exist(tmp_path: Path, name: str) -> None:
    write_folder(tmp_path)
    message = refusal(tmp_path, **{name: "annotations/absent.json"})
    assert message.startswith(f"{name} {tmp_path / 'annotations' / 'absent.json'} does not exist")


def test_a_named_image_folder_must_exist(tmp_path: Path) -> None:
    write_folder(tmp_path)
    assert "image folder" in refusal(tmp_path, train_images="pictures")


def test_images_that_are_nowhere(tmp_path: Path) -> None:
    write_folder(tmp_path)
    train = tmp_path / "annotations" / "train.json"
    edit(train, lambda c: [image.update(file_name="zz") for image in c["images"]])
    message = refusal(tmp_path)
    assert (
        "no image was found" in message
        and "looked for zz" in message
        and "train_images=" in message
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [("{", "is not JSON"), ("[]", "is a list"), ("{}", "no list 'images'")],
)
def test_a_file_that_is_not_coco(tmp_path: Path, text: str, words: str) -> None:
    write_folder(tmp_path)
    (tmp_path / "annotations" / "train.json").write_text(text)
    assert words in refusal(tmp_path)


def test_no_classes_at_all(tmp_path: Path) -> None:
    write_folder(tmp_path)
    content = {**content_of(["t0.jpg"]), "annotations": [], "categories": []}
    (tmp_path / "annotations" / "train.json").write_text(json.dumps(content))
    assert "lists no categories" in refusal(tmp_path)


def test_the_json_to_split(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="none"):
        single_json(tmp_path)
    write_split(tmp_path, "labels.json", "images", ["a.jpg"])
    assert single_json(tmp_path) == "labels.json"
    write_split(tmp_path, "other.json", "images", ["a.jpg"])
    with pytest.raises(ValueError, match="labels.json, other.json.*--json"):
        single_json(tmp_path)
    write_split(tmp_path, "annotations/train.json", "images", ["a.jpg"])
    assert single_json(tmp_path) == "annotations/train.json"


def test_absolute_file_names(tmp_path: Path) -> None:
    """As FiftyOne and detectron2 write them: the folder of images does not matter."""
    write_folder(tmp_path / "set")
    for split in ("train", "val"):
        edit(
            tmp_path / "set/annotations" / f"{split}.json",
            lambda c: [
                image.update(file_name=str(tmp_path / "set/images" / image["file_name"]))
                for image in c["images"]
            ],
        )
    found = facts(dict(data_root=str(tmp_path / "set")))
    assert found["train_images"] == found["val_images"] == ""
    inspection = inspect_folder(tmp_path / "set", silent)
    assert inspection.num_problems == 0, inspection.text()
    (tmp_path / "set/images/v1.jpg").unlink()
    inspection = inspect_folder(tmp_path / "set", silent)
    assert f"{tmp_path}/set/images/v1.jpg does not exist" in inspection.text()
    assert inspection.num_problems == 1


def test_the_same_names_in_several_folders(tmp_path: Path) -> None:
    """Visible and infrared pictures of one scene: which are meant must be said."""
    for kind in ("visible", "infrared"):
        write_split(tmp_path, "annotations/train.json", f"train/{kind}", ["t0.png", "t1.png"])
        write_split(tmp_path, "annotations/val.json", f"val/{kind}", ["v0.png"], first_id=50)
    message = refusal(tmp_path)
    for words in ("val/visible", "val/infrared", "train_images=... val_images=..."):
        assert words in message
    given = dict(train_images="train/visible", val_images="val/visible")
    found = facts(dict(data_root=str(tmp_path), **given))
    assert (found["train_images"], found["val_images"]) == tuple(given.values())
    assert "train/infrared" in inspect_folder(tmp_path, silent).text()
    images = {"train": "train/visible", "val": "val/infrared"}
    inspection = inspect_folder(tmp_path, silent, images=images)
    assert inspection.num_problems == 0
    rows = [line.split() for line in inspection.text().splitlines()]
    assert ["images", "in", "train/visible", "val/infrared"] in rows
    # A usual place goes before others, and copies of the same images are no question.
    write_split(tmp_path, "annotations/val.json", "images/val", ["v0.png"], first_id=50)
    assert find_images(tmp_path, "annotations/val.json", ["v0.png"]) == "images/val/"
    for name in ("t0.png", "t1.png"):
        pixels = (tmp_path / "train/visible" / name).read_bytes()
        (tmp_path / "train/infrared" / name).write_bytes(pixels)
    names = ["t0.png", "t1.png"]
    assert find_images(tmp_path, "annotations/train.json", names) == "train/infrared/"
