"""`tools/visualize.py detect`: one picture an image, a sheet of the worst, an index."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("mmdet")

import torch
from coco_folders import edit, write_folder, write_image

from pe_dense.detection.pictures import (
    Detections,
    Detector,
    Objects,
    Truth,
    compared,
    write_pictures,
)
from pe_dense.pictures.folder import INDEX, MAX_ON_SHEET, SHEET, read_image

REPO = Path(__file__).resolve().parents[2]
CLASSES = ["disc", "box"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_folder(tmp_path / "set", num_train=1, num_val=4)


def dataset_of(root: Path, **more: object) -> dict:
    return dict(
        type="CocoDataset", data_root=str(root), ann_file="annotations/val.json",
        data_prefix=dict(img="images/"), **more,
    )  # fmt: skip


def detections(objects: Objects | None, keep: int) -> Detections:
    """The truth itself, as far as it is found."""
    count = 0 if objects is None else min(keep, len(objects.labels_G))
    boxes = np.zeros((0, 4)) if objects is None else objects.boxes_G4[:count]
    labels = np.zeros(0, int) if objects is None else objects.labels_G[:count]
    return Detections(boxes, np.linspace(0.9, 0.5, count), labels, None)


def test_truth_is_what_the_json_says(root: Path) -> None:
    truth = Truth(dataset_of(root), CLASSES)
    objects = truth.objects(root / "images" / "v1.jpg")
    assert objects.labels_G.tolist() == [0, 1]
    np.testing.assert_allclose(objects.boxes_G4[0], [2, 3, 22.5, 13])
    assert objects.masks_GHW is None and not objects.is_crowd_G.any()
    assert truth.objects(root / "images" / "t0.jpg") is None
    assert [file.name for file in truth.spread_files(None)] == [f"v{i}.jpg" for i in range(4)]
    assert [file.name for file in truth.spread_files(2)] == ["v0.jpg", "v3.jpg"]


def test_truth_with_masks_and_classes_in_another_order(mini_root: Path) -> None:
    dataset = dict(
        type="CocoDataset", data_root=str(mini_root / "coco"), ann_file="annotations/val.json",
        data_prefix=dict(img="images/val/"),
    )  # fmt: skip
    names = ["cross", "ring", "star", "triangle", "box", "disc"]
    truth = Truth(dataset, names)
    for file in truth.spread_files(None):
        objects = truth.objects(file)
        if not len(objects.labels_G):
            continue
        assert objects.masks_GHW.shape[1:] == read_image(file).shape[:2]
        for box, mask in zip(objects.boxes_G4, objects.masks_GHW):
            ys, xs = np.nonzero(mask)
            ends = [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]
            np.testing.assert_allclose(box, ends, atol=1)


def test_an_image_without_annotations(root: Path) -> None:
    edit(root / "annotations/val.json", lambda c: c.update(annotations=c["annotations"][:2]))
    objects = Truth(dataset_of(root), CLASSES).objects(root / "images" / "v3.jpg")
    assert objects.boxes_G4.shape == (0, 4) and objects.masks_GHW is None


def test_masks_of_the_truth_are_drawn_only_beside_masks(mini_root: Path) -> None:
    objects = Objects(
        np.array([[0.0, 0, 5, 5]]), np.zeros(1, int), np.zeros(1, bool), np.ones((1, 9, 9), bool)
    )
    boxes_only = detections(objects, 1)
    assert compared(boxes_only, objects)[0].masks_QHW is None
    with_masks = Detections(
        boxes_only.boxes_Q4, boxes_only.scores_Q, boxes_only.labels_Q, np.ones((1, 9, 9), bool)
    )
    assert compared(with_masks, objects)[0].masks_QHW is not None


def test_pictures_sheet_and_index(root: Path, tmp_path: Path) -> None:
    truth = Truth(dataset_of(root), CLASSES)
    files = [*truth.spread_files(None), root / "images" / "t0.jpg"]
    keep = dict(zip(files, (2, 0, 1, 2, 0)))
    steps = []
    lines = write_pictures(
        tmp_path / "out", files, lambda f: detections(truth.objects(f), keep[f]), truth.objects,
        CLASSES, lambda *step: steps.append(step),
    )  # fmt: skip
    pictures = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert pictures == [
        "001_v0.png", "002_v1.png", "003_v2.png", "004_v3.png", "005_t0.png", INDEX, SHEET,
    ]  # fmt: skip
    assert (tmp_path / "out" / INDEX).read_text().splitlines() == lines
    assert [line[:7] for line in lines] == ["F1 0.00", "F1 0.67", "F1 1.00", "F1 1.00", "F1    -"]
    assert [line.split()[-2] for line in lines][:2] == ["002_v1.png", "003_v2.png"]
    assert "right   1  wrong   0  missed   1" in lines[1]
    assert lines[-1].endswith(str(root / "images" / "t0.jpg")) and "detected   0" in lines[-1]
    assert steps[-1] == (5, 5)
    with_truth, alone = (read_image(tmp_path / "out" / f"{n}.png") for n in ("001_v0", "005_t0"))
    assert with_truth.shape[1] > 1.9 * alone.shape[1]


def test_the_sheet_holds_the_worst(root: Path, tmp_path: Path) -> None:
    names = [f"{i:02d}.jpg" for i in range(MAX_ON_SHEET + 4)]
    for name in names:
        write_image(root / "images" / name)
    files = [root / "images" / name for name in names]
    one = Objects(np.array([[0.0, 0, 9, 9]]), np.zeros(1, int), np.zeros(1, bool), None)
    good = set(files[:4])
    write_pictures(
        tmp_path / "out", files, lambda f: detections(one, int(f in good)), lambda f: one, CLASSES
    )
    alone = write_pictures(
        tmp_path / "bad", files[4:], lambda f: detections(one, 0), lambda f: one, CLASSES
    )
    assert len(alone) == MAX_ON_SHEET
    sheets = [read_image(tmp_path / name / SHEET) for name in ("out", "bad")]
    assert sheets[0].shape == sheets[1].shape
    differing = (sheets[0] != sheets[1]).any(-1).mean()
    assert differing < 0.02, "only the numbers in the captions differ"


def test_an_output_folder_that_holds_something(root: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("precious")
    with pytest.raises(ValueError, match="is not an empty folder"):
        write_pictures(tmp_path / "out", [], lambda f: None, lambda f: None, CLASSES)
    with pytest.raises(ValueError, match="is not an empty folder"):
        write_pictures(tmp_path / "out" / "mine.txt", [], lambda f: None, lambda f: None, CLASSES)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]


class FixedDetector(torch.nn.Module):
    """Finds the same two boxes in the image that the pipeline made, given in its pixels."""

    def test_step(self, batch: dict) -> list:
        from mmengine.structures import InstanceData

        (sample,) = batch["data_samples"]
        (image,) = batch["inputs"]
        assert image.shape[1:] == (24, 32), "resized as the config says"
        factor = torch.tensor(sample.scale_factor).repeat(2)
        sample.pred_instances = InstanceData(
            bboxes=torch.tensor([[1.0, 2, 9, 8], [0, 0, 5, 5]]) / factor,
            scores=torch.tensor([0.9, 0.2]),
            labels=torch.tensor([1, 0]),
            masks=torch.ones(2, 48, 64, dtype=torch.bool),
        )
        return [sample]


def test_the_detector_loads_as_the_config_tests(root: Path) -> None:
    from mmengine.registry import init_default_scope

    import pe_dense.openmmlab.image_loading  # noqa: F401

    init_default_scope("mmdet")
    pipeline = [
        dict(type="LoadImage"),
        dict(type="Resize", scale=(32, 24), keep_ratio=True),
        dict(type="LoadAnnotations", with_bbox=True),
        dict(type="PackDetInputs", meta_keys=("img_id", "img_path", "scale_factor")),
    ]
    detect = Detector(FixedDetector(), dataset_of(root, pipeline=pipeline), score_thr=0.3)
    found = detect(root / "images" / "v0.jpg")
    assert found.boxes_Q4.tolist() == [[2, 4, 18, 16]] and found.labels_Q.tolist() == [1]
    assert found.masks_QHW.shape == (1, 48, 64)
    with pytest.raises(ValueError, match=r"absent.jpg is missing"):
        detect(root / "absent.jpg")


# The tool


def run_tool(*words: object) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, str(REPO / "tools" / "visualize.py"), *map(str, words)],
        cwd=REPO, capture_output=True, text=True, check=False, timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPO)},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--image", "absent.jpg"], "image absent.jpg does not exist"),
        (["--score-thr", "30"], "--score-thr is 30.0"),
        (["--images", "0"], "neither a positive number nor 'all'"),
        (["--images", "3", "--image", "x.jpg"], "not allowed with"),
    ],
)
def test_wrong_words_are_one_line(tmp_path: Path, words: list[str], message: str) -> None:
    done = run_tool("detect", "CONFIG", "CHECKPOINT", "--out", tmp_path / "out", *words)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert message in done.stderr and done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_trained_detector_from_the_command_line(mini_root: Path, tmp_path: Path) -> None:
    from pe_dense.run.training import train

    config = REPO / "configs" / "detection" / "atss_pe_t16_mini.py"
    root = mini_root / "coco"
    options = dict(data_root=str(root), max_epochs=1, val_interval=1, batch_size=12)
    train(str(config), options=options, work_dir=tmp_path / "work")
    words = ["--cfg-options", *(f"{key}={value}" for key, value in options.items())]
    done = run_tool(
        "detect", config, tmp_path / "work", "--out", tmp_path / "a", "--images", "all", *words
    )
    assert done.returncode == 0, done.stderr
    assert f"{tmp_path / 'a'}: 6 pictures, worst.png, index.txt" in done.stdout
    assert len(list((tmp_path / "a").glob("*.png"))) == 7
    foreign = tmp_path / "foreign.png"
    write_image(foreign, 80, 50)
    done = run_tool(
        "detect", config, tmp_path / "work", "--out", tmp_path / "b", "--image", foreign, *words
    )
    assert done.returncode == 0, done.stderr
    assert "F1    -" in done.stdout and (tmp_path / "b" / "001_foreign.png").is_file()
