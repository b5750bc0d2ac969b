"""A folder with any classes: one config trains on it, scores it and files the result apart."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("mmdet")

from coco_folders import edit, write_folder, write_image
from label_folders import write, yolo_folder
from runs import evaluate, train

from pe_dense.files import file_sha256
from pe_dense.run.checkpoint import load_checkpoint_safely
from pe_dense.run.command_line import sentence
from pe_dense.run.config import load_config, load_template
from pe_dense.run.opened_run import open_run
from pe_dense.run.protocol import protocol_sha256
from pe_dense.run.request import RunRequest

REPO = Path(__file__).resolve().parents[2]
CONFIGS = REPO / "configs" / "detection"
CONFIG = str(CONFIGS / "dino_custom.py")
SMALL = dict(num_queries=60, image_scale=(64, 64), max_iters=3, val_interval=3, batch_size=1,
             holdout_share=0)  # fmt: skip


def options(root: Path, **more: object) -> dict[str, object]:
    return {"data_root": str(root), **SMALL, **more}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "Cats and dogs", num_train=3, num_val=2)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A folder, and a work dir with a detector that saw it twice."""
    place = tmp_path_factory.mktemp("own")
    root = write_folder(place / "set", num_train=3, num_val=2)
    train(CONFIG, options=options(root), work_dir=place / "work")
    return root, place / "work"


def test_the_config_needs_only_the_folder(folder: Path) -> None:
    cfg, template = load_config(CONFIG, options={"data_root": str(folder)})
    assert cfg.classes == ["disc", "box"] and cfg.num_classes == 2
    assert cfg.model.bbox_head.num_classes == 2
    assert cfg.train_dataloader.dataset.dataset.ann_file == "annotations/train.json"
    assert cfg.test_evaluator.ann_file == f"{folder}/annotations/val.json"
    assert cfg.protocol.dataset == "Cats and dogs"
    hashes = {s: file_sha256(folder / f"annotations/{s}.json") for s in ("train", "val")}
    assert dict(cfg.protocol.own_annotations) == {**hashes, "plan": "cpu, 112 px"}
    assert (cfg.image_scale, cfg.batch_size, cfg.max_iters) == ((112, 112), 1, 6000)
    assert template.num_classes == "$data.num_classes", "the protocol does not hold the data"


def test_the_protocol_is_the_same_on_any_data(folder: Path) -> None:
    plain = protocol_sha256(load_template(CONFIG))
    assert protocol_sha256(load_config(CONFIG, options={"data_root": str(folder)})[1]) == plain
    assert protocol_sha256(load_template(CONFIG, options={"lr": 1e-3})) != plain


def test_without_a_folder_the_template_can_be_read_but_not_resolved() -> None:
    assert load_template(CONFIG).protocol.id == "custom-detection"
    with pytest.raises(ValueError, match="data_root=DIR"):
        load_config(CONFIG)


def test_home_is_expanded_in_every_config(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    bccd = str(REPO / "configs" / "detection" / "dino_pe_t16_bccd.py")
    cfg, _ = load_config(bccd, options={"data_root": "~/bccd"})
    assert cfg.val_evaluator.ann_file == "/home/somebody/bccd/annotations/val.json"
    assert load_config(bccd, options={"data_root": "a/~b/"})[0].data_root == "a/~b/"


def test_the_table_is_printed_before_training(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from pe_dense.run.config import check_data

    cfg, _ = load_config(CONFIG, options=options(folder))
    check_data(cfg, ("train", "val"))
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["train", "val"] in rows and ["images", "3", "2"] in rows
    assert ["disc", "3", "(3)", "2", "(2)"] in rows
    plan = "plan (cpu): image_side=64 batch_size=1 max_iters=3 val_interval=3 lr=0.00028"
    assert plan.split() in rows


def test_other_processes_print_nothing(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from pe_dense.run.config import check_data

    monkeypatch.setenv("RANK", "1")
    check_data(load_config(CONFIG, options=options(folder))[0], ("train", "val"))
    assert "images" not in capsys.readouterr().out


@pytest.mark.slow
def test_train_score_and_record(trained: tuple[Path, Path], tmp_path: Path) -> None:
    root, work = trained
    meta = load_checkpoint_safely(str(work / "iter_3.pth"))["meta"]["pe_dense"]
    assert meta["classes"] == ["disc", "box"]
    hashes = {s: file_sha256(root / f"annotations/{s}.json") for s in ("train", "val")}
    assert meta["own_annotations"] == {**hashes, "plan": "cpu, 112 px"}
    arguments = dict(config=CONFIG, checkpoint=work, options=options(root), work_dir=tmp_path / "l")
    evaluate(**arguments, records=tmp_path / "records")
    (file,) = (tmp_path / "records").rglob("*.json")
    record = json.loads(file.read_text())
    assert record["protocol"]["id"].startswith("custom-detection.mod-")  # the settings of this test
    assert ".data-" in record["protocol"]["id"] and record["dataset"]["name"] == "set"
    assert all(sha in record["notes"] for sha in hashes.values())

    # Other annotations to score on are another protocol, whose record stands beside the first.
    edit(root / "annotations/val.json", lambda c: c["annotations"].pop())
    evaluate(**arguments, records=tmp_path / "records")
    files = (tmp_path / "records").rglob("*.json")
    assert len({json.loads(file.read_text())["protocol"]["id"] for file in files}) == 2


@pytest.mark.slow
@pytest.mark.parametrize("divisor", [16, 128])
def test_images_with_fewer_tokens_than_queries(divisor: int, folder: Path, tmp_path: Path) -> None:
    small = {**options(folder), "num_queries": 100, "image_scale": (48, 48)}
    small["model.data_preprocessor.pad_size_divisor"] = divisor
    train(CONFIG, options=small, work_dir=tmp_path / "work")
    scores = evaluate(CONFIG, tmp_path / "work", options=small, work_dir=tmp_path / "test")
    assert 0 <= scores["AP"] <= 1


@pytest.mark.slow
@pytest.mark.parametrize("size", [(640, 20), (3, 4000)])
@pytest.mark.parametrize("config", ["dino_custom", "deta_custom"])
def test_very_narrow_images(config: str, size: tuple[int, int], tmp_path: Path) -> None:
    """One among images of usual shape, and narrow ones alone in the batches of validation."""
    width, height = size
    root = write_folder(tmp_path / "set", num_train=2, num_val=1)
    for split, names in (("train", ["t0.jpg"]), ("val", ["v0.jpg"])):

        def reshape(content: dict, names: list[str] = names) -> None:
            for image in content["images"]:
                if image["file_name"] in names:
                    image.update(width=width, height=height)
            for annotation in content["annotations"]:
                if annotation["image_id"] == content["images"][0]["id"]:
                    annotation.update(bbox=[0, 0, width, height], area=width * height)

        edit(root / "annotations" / f"{split}.json", reshape)
        write_image(root / "images" / names[0], width, height)
    short = dict(
        data_root=str(root), max_iters=3, val_interval=3, image_scale=(320, 320), holdout_share=0
    )
    runner = train(str(CONFIGS / f"{config}.py"), options=short, work_dir=tmp_path / "work")
    assert runner.iter == 3
    assert all(bool(p.isfinite().all()) for p in runner.model.parameters())


@pytest.mark.slow
def test_other_classes_are_refused(trained: tuple[Path, Path], tmp_path: Path) -> None:
    _, work = trained
    other = write_folder(tmp_path / "other", num_train=3, num_val=2)
    for split in ("train", "val"):
        edit(other / f"annotations/{split}.json", lambda c: c["categories"].reverse())
    with pytest.raises(ValueError) as error:
        open_run(RunRequest(CONFIG, options=options(other)), work)
    message = sentence(error.value)
    assert "trained on 2 classes (disc, box)" in message
    assert "the data have 2 classes (box, disc)" in message


@pytest.mark.slow
def test_a_run_does_not_go_on_with_other_annotations(
    trained: tuple[Path, Path], tmp_path: Path
) -> None:
    _, work = trained
    other = write_folder(tmp_path / "other", num_train=4, num_val=2)
    with pytest.raises(ValueError, match=r"other settings \(own_annotations\)"):
        train(CONFIG, options=options(other), work_dir=work, resume=True)


@pytest.mark.slow
def test_data_without_iscrowd_are_scored(trained: tuple[Path, Path], tmp_path: Path) -> None:
    """Many exporters leave it out; pycocotools stumbles over that."""

    def without_crowds(content: dict) -> None:
        for annotation in content["annotations"]:
            annotation.pop("iscrowd")

    _, work = trained
    root = write_folder(tmp_path / "plain", num_train=3, num_val=2)
    for split in ("train", "val"):
        edit(root / f"annotations/{split}.json", without_crowds)
    scores = evaluate(
        CONFIG, work, options=options(root), work_dir=tmp_path / "l", records=tmp_path / "r"
    )
    assert "AP" in scores


def train_refusal(root: Path, work: Path) -> str:
    with pytest.raises(ValueError) as error:
        train(CONFIG, options=options(root), work_dir=work)
    assert not work.exists()
    return sentence(error.value)


def test_bad_data_are_refused_before_training(folder: Path, tmp_path: Path) -> None:
    work = tmp_path / "work"
    train_json = folder / "annotations" / "train.json"
    good = train_json.read_text()
    for change, words in (
        (lambda c: c["images"][0].update(file_name=5), "file_name 5"),
        (lambda c: c["categories"][0].update(name=5), "has a name 5"),
        (lambda c: c["annotations"][0].update(bbox=[float("nan")] * 4), "not four numbers"),
        (lambda c: [a.update(bbox=[0.1, 0.1, 0.2, 0.2]) for a in c["annotations"]], "in pixels"),
        (lambda c: c["images"][0].update(width=63), "has 64 x 48 px, not 63 x 48"),
        (lambda c: c["categories"][0].update(name=" "), "has a name ' ', not a text"),
        (lambda c: c["annotations"].clear(), "has no annotations"),
    ):
        edit(train_json, change)
        assert words in train_refusal(folder, work)
        train_json.write_text(good)
    write_image(folder / "images" / "t0.jpg", 48, 64)
    assert "has 48 x 64 px, not 64 x 48" in train_refusal(folder, work)


def test_a_project_name_of_roboflow_is_no_class(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "set", num_train=3, num_val=2)

    def roboflow(content: dict) -> None:
        for category in content["categories"]:
            category["supercategory"] = "things"
        content["categories"].insert(0, dict(id=0, name="things", supercategory="none"))

    for split in ("train", "val"):
        edit(root / f"annotations/{split}.json", roboflow)
    cfg, _ = load_config(CONFIG, options=options(root))
    assert cfg.classes == ["disc", "box"]
    from pe_dense.run.config import check_data

    check_data(cfg, ("train", "val"))


MASKS = dict(max_iters=3, val_interval=3, batch_size=1, image_scale=(64, 64), width=32,
             holdout_share=0)  # fmt: skip


def with_masks(content: dict) -> None:
    for annotation in content["annotations"]:
        x, y, w, h = annotation["bbox"]
        annotation["segmentation"] = [[x, y, x + w, y, x + w, y + h, x, y + h]]


@pytest.mark.slow
def test_own_masks_are_trained_and_scored(folder: Path, tmp_path: Path) -> None:
    config = str(CONFIGS / "vitdet_custom.py")
    for split in ("train", "val"):
        edit(folder / f"annotations/{split}.json", with_masks)
    cfg, _ = load_config(config, options=dict(data_root=str(folder), **MASKS))
    assert cfg.model.roi_head.mask_head.num_classes == 2
    train(config, options=dict(data_root=str(folder), **MASKS), work_dir=tmp_path / "work")
    state = load_checkpoint_safely(str(tmp_path / "work" / "iter_3.pth"))["state_dict"]
    assert any(name.startswith("roi_head.mask_head") for name in state)


@pytest.mark.slow
def test_data_without_masks_are_refused_and_boxes_are_an_option(
    folder: Path, tmp_path: Path
) -> None:
    config, given = str(CONFIGS / "vitdet_custom.py"), dict(data_root=str(folder), **MASKS)
    with pytest.raises(ValueError, match=r"has no segmentation .*masks=False"):
        train(config, options=given, work_dir=tmp_path / "refused")
    runner = train(config, options={**given, "masks": False}, work_dir=tmp_path / "work")
    assert not any("mask_head" in name for name, _ in runner.model.named_parameters())


@pytest.mark.slow
def test_yolo_labels_are_trained_and_scored_as_they_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = yolo_folder(tmp_path / "yolo")
    config, given = str(CONFIGS / "vitdet_custom.py"), dict(data_root=str(root), **MASKS)
    runner = train(config, options={**given, "masks": False}, work_dir=tmp_path / "work")
    assert len(runner.train_dataloader.dataset) == 2 and runner.cfg.classes == ["cat", "big dog"]
    assert "yolo labels; splits: data.yaml" in capsys.readouterr().out
    write(root / "labels/train/z.txt", "0 .5 .5 .1 .1\n")
    with pytest.raises(ValueError, match=r"z\.txt: has no picture .*--accept labels-without-image"):
        train(config, options={**given, "masks": False}, work_dir=tmp_path / "refused")


@pytest.mark.parametrize("name", ["deta", "dino"])
def test_the_former_names_are_the_former_recipes(name: str, folder: Path) -> None:
    cfg, _ = load_config(CONFIGS / f"{name}_pe_custom.py", options={"data_root": str(folder)})
    assert tuple(cfg.image_scale) == (512, 512) and cfg.batch_size == 2
    assert (cfg.max_iters, cfg.val_interval, cfg.lr) == (3000, 500, 4e-4)
    assert cfg.protocol.version == 1
