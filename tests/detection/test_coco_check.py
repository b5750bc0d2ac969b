"""Bad detection data: one sentence that names the file and a remedy, before anything is trained."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("cv2")
pytest.importorskip("mmengine")

import cv2

from pe_dense.data.checks.coco_file import read_coco_file
from pe_dense.data.checks.rules import CheckedData, require_sound
from pe_dense.data.config_datasets import leaf_datasets
from pe_dense.detection import coco_check

CLASSES = ["disc", "box"]
JSON_NAME = "annotations/train.json"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two JPEGs with one box each, one without, and their COCO JSON."""
    folder = tmp_path / "set"
    (folder / "images").mkdir(parents=True)
    (folder / "annotations").mkdir()
    rng = np.random.default_rng(0)
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        picture = rng.integers(0, 255, (48, 64, 3), dtype=np.uint8)
        assert cv2.imwrite(str(folder / "images" / name), picture)
    content = dict(
        images=[
            dict(id=4 + n, file_name=f"{name}.jpg", width=64, height=48)
            for n, name in enumerate("abc")
        ],
        annotations=[
            dict(id=1, image_id=4, category_id=9, bbox=[1, 2, 20, 30], area=600, iscrowd=0),
            dict(id=2, image_id=5, category_id=2, bbox=[5, 5, 10, 10], area=100, iscrowd=0),
        ],
        categories=[dict(id=9, name="disc"), dict(id=2, name="box")],
    )
    (folder / JSON_NAME).write_text(json.dumps(content))
    return folder


def check_config(cfg: dict, splits: tuple[str, ...]) -> CheckedData:
    """The check, and what train.py and test.py do with what it finds."""
    checked = coco_check.check_config(cfg, splits)
    require_sound(checked.findings, cfg.get("accept", ()))
    return checked


def check(root: Path, classes: list[str] = CLASSES) -> CheckedData:
    cfg = config_of(root, classes=classes, num_classes=len(classes))
    return check_config(cfg, ("train",))


def edit(root: Path, change: Callable[[dict], object]) -> None:
    content = json.loads((root / JSON_NAME).read_text())
    change(content)
    (root / JSON_NAME).write_text(json.dumps(content))


def refusal(root: Path, classes: list[str] = CLASSES) -> str:
    """The sentence with which the data set is refused."""
    with pytest.raises(ValueError) as error:
        check(root, classes)
    message = str(error.value)
    assert "\n" not in message
    return message


def test_good_data_passes(root: Path) -> None:
    check(root)


def test_missing_root(root: Path) -> None:
    shutil.rmtree(root)
    message = refusal(root)
    assert f"data_root {root} does not exist" in message
    assert "--cfg-options data_root=DIR" in message and "prepare_data.py" in message


def test_missing_json(root: Path) -> None:
    (root / JSON_NAME).unlink()
    message = refusal(root)
    assert f"{root / JSON_NAME}: does not exist; check data_root" in message


@pytest.mark.parametrize("content", [b"", b"{'a': 1}", b'{"images": [', b"\xff\xfe\x00\x01"])
def test_not_json(root: Path, content: bytes) -> None:
    (root / JSON_NAME).write_bytes(content)
    message = refusal(root)
    assert f"{root / JSON_NAME}: is not JSON" in message and "COCO file is needed" in message


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("[]", "is a list, not a COCO object"),
        ('"images"', "is a str, not a COCO object"),
        ("{}", "it has no list 'images'"),
        ('{"images": []}', "it has no list 'annotations'"),
        ('{"images": [], "annotations": {}, "categories": []}', "it has no list 'annotations'"),
        ('{"images": [], "annotations": []}', "it has no list 'categories'"),
    ],
)
def test_json_that_is_not_coco(root: Path, content: str, words: str) -> None:
    (root / JSON_NAME).write_text(content)
    message = refusal(root)
    assert str(root / JSON_NAME) in message and words in message


@pytest.mark.parametrize(
    ("part", "key"),
    [
        ("images", "id"),
        ("images", "file_name"),
        ("images", "width"),
        ("images", "height"),
        ("annotations", "id"),
        ("annotations", "image_id"),
        ("annotations", "category_id"),
        ("annotations", "bbox"),
        ("annotations", "area"),  # mmdet and the metric both need it
        ("categories", "id"),
        ("categories", "name"),
    ],
)
def test_entry_that_lacks_a_key(root: Path, part: str, key: str) -> None:
    edit(root, lambda content: content[part][1].pop(key))
    message = refusal(root)
    assert str(root / JSON_NAME) in message and f"{part}[1] has no '{key}'" in message


def test_entry_that_is_no_object(root: Path) -> None:
    edit(root, lambda content: content["images"].append("d.jpg"))
    assert "images[3] has no 'id'" in refusal(root)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: c["annotations"][1].update(image_id=77), "annotation 2 names image 77"),
        (lambda c: c["annotations"][1].update(category_id=5), "annotation 2 names category 5"),
        (lambda c: c["annotations"][1].update(bbox=[1, 2, 3]), "annotation 2 has a bbox [1, 2, 3]"),
        (lambda c: c["annotations"][1].update(bbox=5), "annotation 2 has a bbox"),
        (lambda c: c["annotations"][1].update(bbox=[1, 2, 3, "4"]), "annotation 2 has a bbox"),
        (lambda c: c["annotations"][1].update(bbox=[1, 2, 3, None]), "annotation 2 has a bbox"),
        (lambda c: c["annotations"][1].update(image_id=[4]), "annotation 2 names image"),
    ],
    ids=["image", "category", "short bbox", "number", "text", "null", "list id"],
)
def test_annotation_that_refers_to_nothing(root: Path, change: Callable, words: str) -> None:
    edit(root, change)
    message = refusal(root)
    assert str(root / JSON_NAME) in message and words in message


def test_image_ids_that_are_no_integers(root: Path) -> None:
    """The metric keeps ids as numbers; a text id would fail after the first epoch."""

    def rename(content: dict) -> None:
        content["images"][0]["id"] = "a"
        content["annotations"][0]["image_id"] = "a"

    edit(root, rename)
    assert str(root / JSON_NAME) in refusal(root)


@pytest.mark.parametrize("part", ["images", "annotations"])
def test_ids_given_twice(root: Path, part: str) -> None:
    edit(root, lambda content: content[part].append(dict(content[part][0])))
    message = refusal(root)
    assert str(root / JSON_NAME) in message and f"{part}[" in message and "repeats id" in message


@pytest.mark.parametrize(
    "classes",
    [["disc", "square"], ["disc"], ["disc", "box", "star"], []],
    ids=["names", "too few", "too many", "none"],
)
def test_classes_that_differ_from_the_file(root: Path, classes: list[str]) -> None:
    message = refusal(root, classes)
    assert str(root / JSON_NAME) in message
    assert (
        "2 classes (disc, box)" in message and f"{len(classes)} ({', '.join(classes)})" in message
    )
    assert "set classes and num_classes" in message


@pytest.mark.parametrize("part", ["images", "annotations"])
def test_empty_set(root: Path, part: str) -> None:
    def clear(content: dict) -> None:
        content["annotations"] = []
        content[part] = []

    edit(root, clear)
    message = refusal(root)
    assert str(root / JSON_NAME) in message
    assert ("lists no images" if part == "images" else "no annotations") in message


def test_missing_image(root: Path) -> None:
    (root / "images" / "b.jpg").unlink()
    message = refusal(root)
    assert f"image {root / 'images' / 'b.jpg'} does not exist" in message
    assert str(root / JSON_NAME) in message and "folder of images" in message


def halve(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.write_bytes(b"this is no picture" * 20),
        lambda path: path.write_bytes(b""),
        halve,
    ],
    ids=["garbage", "empty", "truncated"],
)
def test_image_that_cannot_be_decoded(root: Path, spoil: Callable[[Path], object]) -> None:
    spoil(root / "images" / "c.jpg")
    message = refusal(root)
    assert f"image {root / 'images' / 'c.jpg'} cannot be decoded" in message
    assert str(root / JSON_NAME) in message and "replace them" in message


@pytest.mark.parametrize("name", ["garbage", "empty", "truncated", "absent"])
def test_loader_says_what_is_wrong_with_a_file(root: Path, name: str) -> None:
    """The same faults where the check did not look: large sets, files broken later."""
    pytest.importorskip("mmcv")
    from pe_dense.openmmlab.image_loading import LoadImage

    path = root / "images" / "c.jpg"
    assert LoadImage()({"img_path": str(path)})["img"].shape == (48, 64, 3)
    if name == "absent":
        path.unlink()
    elif name == "truncated":
        halve(path)
    else:
        path.write_bytes(b"no picture" if name == "garbage" else b"")
    words = "is missing; check data_root" if name == "absent" else "cannot be decoded"
    with pytest.raises(ValueError, match=f"image {path} {words}"):
        LoadImage()({"img_path": str(path)})


# Whole configs


def config_of(root: Path, **changes: object) -> dict:
    dataset = dict(data_root=str(root), ann_file=JSON_NAME, data_prefix=dict(img="images/"))
    loaders = {f"{s}_dataloader": dict(dataset=copy.deepcopy(dataset)) for s in ("train", "val")}
    return dict(classes=CLASSES, num_classes=2, **loaders) | changes


def test_good_config_passes_and_num_classes_must_agree(root: Path) -> None:
    check_config(config_of(root), ("train",))
    with pytest.raises(ValueError, match="num_classes is 3 but classes names 2: disc, box"):
        check_config(config_of(root, num_classes=3), ("train", "val"))


def test_every_split_asked_for_is_checked_and_no_other(root: Path) -> None:
    cfg = config_of(root)
    cfg["val_dataloader"]["dataset"]["ann_file"] = "annotations/val.json"
    check_config(cfg, ("train",))
    with pytest.raises(ValueError, match="annotations/val.json: does not exist"):
        check_config(cfg, ("train", "val"))


def test_data_sets_inside_wrappers_are_checked(root: Path) -> None:
    cfg = config_of(root)
    inner = cfg["train_dataloader"]["dataset"]
    other = {**inner, "ann_file": "absent.json"}
    wrapped = dict(
        type="RepeatDataset", dataset=dict(type="ConcatDataset", datasets=[inner, other])
    )
    assert list(leaf_datasets(wrapped)) == [(inner, False), (other, False)]
    cfg["train_dataloader"]["dataset"] = wrapped
    with pytest.raises(ValueError, match="absent.json: does not exist"):
        check_config(cfg, ("train",))


# Real files


def test_mini_world_passes(mini_root: Path) -> None:
    coco = mini_root / "coco"
    for split in ("train", "val"):
        ann_file = coco / "annotations" / f"{split}.json"
        names = read_coco_file(ann_file).class_names()
        dataset = dict(
            data_root=str(coco), ann_file=str(ann_file.relative_to(coco)),
            data_prefix=dict(img=f"images/{split}/"),
        )  # fmt: skip
        loader = dict(train_dataloader=dict(dataset=dataset))
        check_config(dict(classes=names, num_classes=len(names), **loader), ("train",))


def test_bccd_passes(bccd_root: Path) -> None:
    cfg = config_of(bccd_root, classes=["RBC", "WBC", "Platelets"], num_classes=3)
    cfg["val_dataloader"]["dataset"]["ann_file"] = "annotations/val.json"
    assert "RBC" in check_config(cfg, ("train", "val")).table


def test_more_detections_than_queries_can_give(root: Path) -> None:
    model = dict(num_queries=10, test_cfg=dict(max_per_img=100))
    with pytest.raises(ValueError, match="max_per_img is 100.*20 detections"):
        check_config(config_of(root, model=model), ("train",))


# What was let through before


@pytest.mark.parametrize("value", [None, 5, ["a.jpg"], ""], ids=str)
def test_file_names_that_are_no_text(root: Path, value: object) -> None:
    edit(root, lambda content: content["images"][1].update(file_name=value))
    message = refusal(root)
    assert str(root / JSON_NAME) in message and "images[1] has a file_name" in message


@pytest.mark.parametrize("value", [None, 5, ["disc"], " "], ids=str)
def test_class_names_that_are_no_text(root: Path, value: object) -> None:
    edit(root, lambda content: content["categories"][0].update(name=value))
    message = refusal(root)
    assert str(root / JSON_NAME) in message and "categories[0] has a name" in message


def test_a_size_that_is_not_the_image_s(root: Path) -> None:
    edit(root, lambda content: content["images"][1].update(width=48, height=64))
    message = refusal(root)
    assert "b.jpg, which has 64 x 48 px, not 48 x 64" in message


def test_no_box_that_could_be_used(root: Path) -> None:
    def normalise(content: dict) -> None:
        for annotation in content["annotations"]:
            annotation["bbox"] = [0.1, 0.2, 0.5, 0.5]

    edit(root, normalise)
    assert "annotation 1 has bbox [0.1, 0.2, 0.5, 0.5] (and 1 more" in refusal(root)
    assert "multiply x and w by the width" in refusal(root)


@pytest.mark.parametrize("name", ["LvisDataset", "LVISV1Dataset"])
def test_lvis_names_its_images_by_address(root: Path, name: str) -> None:
    def rename(content: dict) -> None:
        for image in content["images"]:
            image["coco_url"] = f"http://images.cocodataset.org/images/{image.pop('file_name')}"

    edit(root, rename)
    cfg = config_of(root)
    dataset = dict(type=name, data_root=str(root), ann_file=JSON_NAME, data_prefix=dict(img=""))
    cfg["train_dataloader"]["dataset"] = dataset
    check_config(cfg, ("train",))
    (root / "images" / "b.jpg").unlink()
    with pytest.raises(ValueError, match=r"images/b.jpg does not exist"):
        check_config(cfg, ("train",))


def test_the_table_counts_classes_by_split(root: Path) -> None:
    table = coco_check.check_config(config_of(root), ("train", "val")).table
    rows = [line.split() for line in table.splitlines()]
    assert rows[0] == ["train", "val"] and ["images", "3", "3"] in rows
    assert ["without", "objects", "1", "1"] in rows
    assert rows[-2:] == [["disc", "1", "(1)", "1", "(1)"], ["box", "1", "(1)", "1", "(1)"]]
