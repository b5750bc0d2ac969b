"""COCO files as people met them in other tools: refused in one sentence, or right."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("cv2")
pytest.importorskip("mmengine")

from coco_folders import HEIGHT, WIDTH, edit, write_folder

from pe_dense.data.checks.coco_folder import facts
from pe_dense.data.checks.inspection import inspect_folder
from pe_dense.data.checks.many_files import silent
from pe_dense.data.checks.rules import problems, require_sound
from pe_dense.detection.coco_check import check_config


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "set", num_train=3, num_val=2)


def config_of(root: Path, accept: tuple[str, ...] = (), with_masks: bool = False) -> dict:
    """The parts of configs/_base_/own_data.py that the check reads."""
    found = facts(dict(data_root=str(root)))
    cfg: dict = dict(classes=found["classes"], num_classes=found["num_classes"], accept=accept)
    for split in ("train", "val"):
        dataset = dict(
            type="CocoDataset", data_root=str(root), ann_file=found[f"{split}_json"],
            data_prefix=dict(img=found[f"{split}_images"]),
            pipeline=[dict(type="LoadAnnotations", with_mask=with_masks)],
        )  # fmt: skip
        cfg[f"{split}_dataloader"] = dict(dataset=dataset)
        cfg[f"{split}_evaluator"] = dict(type="CocoAP")
    return cfg | dict(test_dataloader=cfg["val_dataloader"], test_evaluator=dict(type="CocoAP"))


def refusal(root: Path, splits: tuple[str, ...] = ("train", "val"), **options: bool) -> str:
    """The sentence of train.py; prepare_data.py finds the same problems."""
    findings = check_config(config_of(root, **options), splits).findings
    inspected = inspect_folder(root, silent, **options).findings
    both = [
        {(f.rule.name, f.count, str(f.examples[:1])) for f in problems(found)}
        for found in (findings, [f for part in inspected.values() for f in part])
    ]
    assert both[0] <= both[1]
    assert splits != ("train", "val") or both[0] == both[1]
    with pytest.raises(ValueError) as error:
        require_sound(findings)
    assert "\n" not in str(error.value)
    return str(error.value)


def edit_train(root: Path, change: Callable[[dict], object]) -> Path:
    file = root / "annotations" / "train.json"
    edit(file, change)
    return file


def test_boxes_as_corners(root: Path) -> None:
    """A converter wrote x1, y1, x2, y2 (MethaneMapper 23)."""
    file = edit_train(root, lambda c: [a.update(bbox=[30, 20, 50, 40]) for a in c["annotations"]])
    message = refusal(root)
    assert message.startswith(f"{file}: annotation 10 has bbox [30.0, 20.0, 50.0, 40.0], which")
    assert "not x1, y1, x2, y2" in message and "--accept boxes-over-the-border" in message


@pytest.mark.parametrize("split", ["train", "val"])
def test_every_annotation_a_crowd(root: Path, split: str) -> None:
    """Masks drawn with a brush are exported with iscrowd 1 (Rectlabel-support 241)."""
    file = root / "annotations" / f"{split}.json"
    edit(file, lambda c: [a.update(iscrowd=1) for a in c["annotations"]])
    assert f"{file}: has" in refusal(root) and "none an object" in refusal(root)


def test_a_box_drawn_from_right_to_left(root: Path) -> None:
    """Negative width and height (mmdetection 3397): refused, or left out on both sides."""
    edit_train(root, lambda c: c["annotations"][0].update(bbox=[30, 20, -10, -9]))
    assert "bbox [30.0, 20.0, -10.0, -9.0]" in refusal(root)
    for splits, name in ((("train", "val"), "val_evaluator"), (("test",), "test_evaluator")):
        edit(root / "annotations" / "val.json",
             lambda c: c["annotations"][0].update(bbox=[30, 20, -10, -9]))  # fmt: skip
        cfg = config_of(root, accept=("negative-boxes",))
        found = check_config(cfg, splits)
        accepted = require_sound(found.findings, cfg["accept"])[0]
        assert accepted.lines(True)[-1].strip() == "accepted: left out of training and of scores"
        assert cfg[name]["leave_out_untrainable"] is True
    cfg = config_of(root)
    check_config(cfg, ("train", "val"))
    assert "leave_out_untrainable" not in cfg["val_evaluator"]


def test_objects_of_area_0_with_an_empty_mask(root: Path) -> None:
    """Hidden people of MOTSynth have area 0 and run lengths of nothing (motsynth-baselines 10)."""
    empty = dict(size=[HEIGHT, WIDTH], counts=[HEIGHT * WIDTH])
    change = dict(area=0.0, segmentation=empty)
    file = edit_train(root, lambda c: c["annotations"][0].update(change))
    assert f"{file}: annotation 10 has bbox" in refusal(root)
    assert "area of 0" in refusal(root) and "masks without a pixel" not in refusal(root)


def polygon(annotation: dict) -> list:
    x, y, w, h = annotation["bbox"]
    return [[x, y, x + w, y, x + w, y + h, x, y + h]]


def draw_masks(root: Path) -> None:
    for split in ("train", "val"):
        edit(
            root / "annotations" / f"{split}.json",
            lambda c: [a.update(segmentation=polygon(a)) for a in c["annotations"]],
        )


@pytest.mark.parametrize(
    ("segmentation", "words"),
    [
        ([[2, 3, 22, 13]], "has a polygon of 4 numbers"),
        ([[2, 3]], "has a polygon of 2 numbers"),
        ([[2, 3, 22, 3, 22]], "has a polygon of 5 numbers"),
        ([], "has no segmentation"),
        (None, "has no segmentation"),
    ],
    ids=["4", "2", "5", "empty", "none"],
)
def test_polygons_of_too_few_points(root: Path, segmentation: object, words: str) -> None:
    """pycocotools takes four numbers for a box (cocoapi 369, mmdetection 7776, 8543)."""
    draw_masks(root)
    for split in ("train", "val"):
        file = root / "annotations" / f"{split}.json"
        good = file.read_text()
        edit(file, lambda c: c["annotations"][1].update(segmentation=segmentation))
        message = refusal(root, with_masks=True)
        assert message.startswith(f"{file}: annotation ") and words in message
        found = check_config(config_of(root), ("train", "val"))
        assert require_sound(found.findings) == []  # boxes can be trained
        file.write_text(good)


def test_a_part_of_a_polygon_that_is_a_box(root: Path) -> None:
    """Several parts, the first of two points (cocoapi 348)."""
    draw_masks(root)
    part = [[2, 3, 2, 5]]
    file = edit_train(root, lambda c: c["annotations"][0]["segmentation"].extend(part))
    assert f"{file}: annotation 10 has a polygon of 4 numbers" in refusal(root, with_masks=True)


def test_run_lengths_of_the_box_alone(root: Path) -> None:
    """Runs that cover the box of the object, not the image (cvat 6487)."""
    draw_masks(root)
    tight = dict(size=[HEIGHT, WIDTH], counts=[0, 200])
    file = edit_train(root, lambda c: c["annotations"][0].update(segmentation=tight))
    message = refusal(root, with_masks=True)
    assert f"{file}: annotation 10 has run lengths that cover 200 px, for 64 x 48 px" in message


def test_sizes_as_stored_of_photos_that_are_shown_turned(root: Path) -> None:
    """Label Studio wrote width and height without the Exif orientation (label-studio 6608)."""
    pil = pytest.importorskip("PIL.Image")
    photo = root / "images" / "t1.jpg"
    image = pil.open(photo)
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(photo, exif=exif)
    message = refusal(root)
    assert f"names {photo}, which has 48 x 64 px, not 64 x 48, turned by its Exif" in message


def test_width_and_height_exchanged(root: Path) -> None:
    """In one entry of the JSON (widerface-coco-convertor 1)."""
    file = edit_train(root, lambda c: c["images"][2].update(width=HEIGHT, height=WIDTH))
    assert f"{file}: images[2] names" in refusal(root) and "not 48 x 64" in refusal(root)


def test_image_ids_that_are_text(root: Path) -> None:
    """CVAT wrote them so (cvat 298)."""

    def change(content: dict) -> None:
        content["images"][0]["id"] = "1"
        for annotation in content["annotations"][:2]:
            annotation["image_id"] = "1"

    file = edit_train(root, change)
    assert refusal(root).startswith(f"{file}: images[0] has an id '1', not an integer")


def test_images_of_train_in_val(root: Path) -> None:
    """Splits of Sen4AgriNet share patches (S4A 9); a copy under another name is found as well."""
    (root / "images" / "v1.jpg").write_bytes((root / "images" / "t2.jpg").read_bytes())
    message = refusal(root)
    assert message.startswith(f"{root / 'images' / 'v1.jpg'}: is trained on as ")
    assert refusal(root, ("test",)) == message  # what is only scored is compared, too
    cfg = config_of(root)
    cfg["val_dataloader"] = None  # and what training does not score
    (shared,) = [f for f in check_config(cfg, ("train", "val")).findings if f.is_problem]
    assert message.startswith(shared.sentence())


@pytest.mark.parametrize(
    ("train", "val", "is_problem"),
    [("train", "val", False), ("val", "val", True), ("own", "val", True), ("train", "own", True)],
)
def test_only_published_files_may_share_images(root: Path, train, val, is_problem) -> None:
    """A config of COCO that trains on val, or on a list of one's own, is no published division."""
    (root / "images" / "v1.jpg").write_bytes((root / "images" / "t2.jpg").read_bytes())
    cfg = config_of(root)
    for split, file in (("train", train), ("val", val)):
        dataset = cfg[f"{split}_dataloader"]["dataset"]
        content = (root / dataset["ann_file"]).read_bytes()
        name = "annotations/own.json" if file == "own" else f"annotations/instances_{file}2017.json"
        (root / name).write_bytes(content)
        dataset["ann_file"] = name
    known = dict(data_facts="pe_dense.detection.known_datasets:facts", dataset_type="CocoDataset")
    cfg |= dict(known, classes=[f"class {i}" for i in range(80)], num_classes=80)
    found = [
        f for f in check_config(cfg, ("train", "val")).findings if f.rule.name == "val-is-train"
    ]
    assert [f.is_problem for f in found] == [is_problem]


def test_a_class_that_is_misspelt_in_one_file(root: Path) -> None:
    """'predestrian' (detectron2 4655)."""
    file = root / "annotations" / "val.json"
    edit(file, lambda c: c["categories"][0].update(name="dics"))
    with pytest.raises(ValueError, match=r"val\.json: has 2 classes .* lacks disc and adds dics"):
        require_sound(check_config(config_of(root), ("train", "val")).findings)
    inspected = inspect_folder(root, silent).findings["val"]
    assert [f.rule.name for f in inspected] == ["other-classes"]


def test_a_class_that_is_only_in_val(root: Path) -> None:
    """Ten of twelve classes of Roboflow 100's 'peixos-fish' (roboflow-100-benchmark 45)."""
    edit_train(root, lambda c: [a.update(category_id=9) for a in c["annotations"]])
    edit_train(
        root, lambda c: [a.update(bbox=[i, 3, 9, 9]) for i, a in enumerate(c["annotations"])]
    )
    message = refusal(root)
    assert "has no object of 'box' to train on" in message and "val.json has 2" in message


@pytest.mark.parametrize("name", ["disc", "things"])
def test_a_roboflow_project_called_like_its_class(root: Path, name: str) -> None:
    """The project itself is a category without objects, also where a class has its name."""
    pytest.importorskip("mmdet")
    from pe_dense.detection.coco_dataset import CocoDataset
    from pe_dense.detection.ground_truth import read_ground_truth

    def roboflow(content: dict) -> None:
        for category in content["categories"]:
            category["supercategory"] = name
        content["categories"].insert(0, dict(id=0, name=name, supercategory="none"))

    for split in ("train", "val"):
        edit(root / "annotations" / f"{split}.json", roboflow)
    cfg = config_of(root)
    assert cfg["classes"] == ["disc", "box"]
    assert problems(check_config(cfg, ("train", "val")).findings) == []
    dataset = CocoDataset(
        data_root=str(root), ann_file="annotations/train.json", data_prefix=dict(img="images/"),
        metainfo=dict(classes=cfg["classes"]), pipeline=[],
    )  # fmt: skip
    labels = [i["bbox_label"] for i in dataset.get_data_info(0)["instances"]]
    assert labels == [0, 1]
    truth = read_ground_truth(root / "annotations" / "val.json", cfg["classes"])
    assert truth.num_scored == 4 and truth.num_left_out == 0


def test_categories_in_another_order_and_large_ids(root: Path) -> None:
    """Labels follow names; ids that differ in the last digit above 2^53 stay apart."""

    def change(content: dict) -> None:
        content["categories"].reverse()
        for image in content["images"]:
            image["id"] += 2**60
        for annotation in content["annotations"]:
            annotation["image_id"] += 2**60

    edit(root / "annotations" / "val.json", change)
    found = check_config(config_of(root), ("train", "val"))
    assert problems(found.findings) == []
    rows = [line.split() for line in found.table.splitlines()]
    assert ["disc", "3", "(3)", "2", "(2)"] in rows


def test_a_filter_that_leaves_nothing(root: Path) -> None:
    cfg = config_of(root)
    cfg["train_dataloader"]["dataset"]["filter_cfg"] = dict(filter_empty_gt=True, min_size=49)
    with pytest.raises(ValueError, match="train.json: has 3 of 3 images that .* leaves out; lower"):
        require_sound(check_config(cfg, ("train",)).findings)


def test_what_is_known_is_not_read_again(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither JSON nor images, once the files have settled; every change is seen."""
    from pe_dense.data.checks import coco_split, remembered

    monkeypatch.setattr(remembered, "SETTLED_S", -60.0)  # files of this moment are settled
    first = check_config(config_of(root), ("train", "val"))

    def read(*args: object) -> None:
        raise AssertionError("read again")

    with monkeypatch.context() as patch:
        for name in ("read_coco_file", "read_images", "image_findings", "repeated_images"):
            patch.setattr(coco_split, name, read)
        assert check_config(config_of(root), ("train", "val")) == first
    (root / "images" / "t0.jpg").unlink()
    assert "t0.jpg does not exist" in refusal(root)
