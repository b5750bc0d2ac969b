"""`tools/visualize.py detect`: one picture an image, a sheet of the worst, an index."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("mmdet")

import torch
from coco_folders import edit, write_folder, write_image

from pe_dense.data.picture import read_picture
from pe_dense.detection.pictures import (
    Detector,
    Seen,
    Truth,
    compared,
    look_at,
)
from pe_dense.pictures.boxes import Boxes
from pe_dense.pictures.folder import INDEX, MAX_ON_SHEET, SHEET, write_looks

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


def objects(*corners: tuple[int, int, int, int], **more: object) -> Boxes:
    """Objects of the first class."""
    none = np.zeros(len(corners), int)
    boxes = np.array(corners, dtype=float).reshape(-1, 4)
    return Boxes(boxes, none, is_crowd_Q=none.astype(bool), **more)


def detections(truth: Boxes | None, keep: int) -> Boxes:
    """The truth itself, as far as it is found."""
    truth = objects() if truth is None else truth
    count = min(keep, len(truth.labels_Q))
    scores = np.linspace(0.9, 0.5, count)
    return Boxes(truth.boxes_Q4[:count], truth.labels_Q[:count], scores_Q=scores)


def write(out: Path, files: list, detect: object, objects_of: object, **more: object) -> list[str]:
    """Pictures of what a function detects."""
    return write_looks(
        out, files, lambda file: Seen(read_picture(file), detect(file), objects_of(file)),
        lambda seen, title: look_at(seen, title, CLASSES), 460, **more,
    )  # fmt: skip


def test_truth_is_what_the_json_says(root: Path) -> None:
    truth = Truth(dataset_of(root), CLASSES)
    found = truth(root / "images" / "v1.jpg")
    assert found.labels_Q.tolist() == [0, 1]
    np.testing.assert_allclose(found.boxes_Q4[0], [2, 3, 22.5, 13])
    assert found.masks_QHW is None and not found.is_crowd_Q.any()
    assert truth(root / "images" / "t0.jpg") is None
    assert [file.name for file in truth.files.values()] == [f"v{i}.jpg" for i in range(4)]


def test_truth_with_masks_and_classes_in_another_order(mini_root: Path) -> None:
    dataset = dict(
        type="CocoDataset", data_root=str(mini_root / "coco"), ann_file="annotations/val.json",
        data_prefix=dict(img="images/val/"),
    )  # fmt: skip
    names = ["cross", "ring", "star", "triangle", "box", "disc"]
    truth = Truth(dataset, names)
    for file in truth.files.values():
        found = truth(file)
        if not len(found.labels_Q):
            continue
        assert found.masks_QHW.shape[1:] == read_picture(file).shape[:2]
        for box, mask in zip(found.boxes_Q4, found.masks_QHW):
            ys, xs = np.nonzero(mask)
            ends = [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]
            np.testing.assert_allclose(box, ends, atol=1)


def test_an_image_without_annotations(root: Path) -> None:
    edit(root / "annotations/val.json", lambda c: c.update(annotations=c["annotations"][:2]))
    found = Truth(dataset_of(root), CLASSES)(root / "images" / "v3.jpg")
    assert found.boxes_Q4.shape == (0, 4) and found.masks_QHW is None


def test_masks_of_the_truth_are_drawn_only_beside_masks(mini_root: Path) -> None:
    masks = np.ones((1, 9, 9), bool)
    truth = objects((0, 0, 5, 5), masks_QHW=masks)
    boxes_only = detections(truth, 1)
    assert compared(boxes_only, truth)[0].masks_QHW is None
    assert compared(replace(boxes_only, masks_QHW=masks), truth)[0].masks_QHW is not None


def test_pictures_sheet_and_index(root: Path, tmp_path: Path) -> None:
    truth = Truth(dataset_of(root), CLASSES)
    files = [*truth.files.values(), root / "images" / "t0.jpg"]
    keep = dict(zip(files, (2, 0, 1, 2, 0)))
    steps = []
    lines = write(
        tmp_path / "out", files, lambda f: detections(truth(f), keep[f]), truth,
        on_progress=lambda *step: steps.append(step),
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
    with_truth, alone = (read_picture(tmp_path / "out" / f"{n}.png") for n in ("001_v0", "005_t0"))
    assert with_truth.shape[1] > 1.9 * alone.shape[1]


def test_the_sheet_holds_the_worst(root: Path, tmp_path: Path) -> None:
    names = [f"{i:02d}.jpg" for i in range(MAX_ON_SHEET + 4)]
    for name in names:
        write_image(root / "images" / name)
    files = [root / "images" / name for name in names]
    one = objects((0, 0, 9, 9))
    good = set(files[:4])
    write(tmp_path / "out", files, lambda f: detections(one, int(f in good)), lambda f: one)
    alone = write(tmp_path / "bad", files[4:], lambda f: detections(one, 0), lambda f: one)
    assert len(alone) == MAX_ON_SHEET
    sheets = [read_picture(tmp_path / name / SHEET) for name in ("out", "bad")]
    assert sheets[0].shape == sheets[1].shape
    differing = (sheets[0] != sheets[1]).any(-1).mean()
    assert differing < 0.02, "only the numbers in the captions differ"


def test_an_output_folder_that_holds_something(root: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("precious")
    with pytest.raises(ValueError, match="is not an empty folder"):
        write(tmp_path / "out", [], None, None)
    with pytest.raises(ValueError, match="is not an empty folder"):
        write(tmp_path / "out" / "mine.txt", [], None, None)
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
    cfg = dict(classes=CLASSES, test_dataloader=dict(dataset=dataset_of(root, pipeline=pipeline)))
    detector = Detector(FixedDetector(), cfg, score_thr=0.3)
    seen = detector.see(root / "images" / "v0.jpg")
    assert seen.detected.boxes_Q4.tolist() == [[2, 4, 18, 16]]
    assert seen.detected.labels_Q.tolist() == [1] and seen.truth.labels_Q.tolist() == [0, 1]
    assert seen.detected.masks_QHW.shape == (1, 48, 64) == (1, *seen.image_HW3.shape[:2])
    words = detector.look_at(seen, "").words
    assert words == "F1 0.67  right   1  wrong   0  missed   1"
    with pytest.raises(ValueError, match=r"absent.jpg is missing"):
        detector.see(root / "absent.jpg")
    assert [file.name for file in detector.spread_files(2)] == ["v0.jpg", "v3.jpg"]
    assert len(detector.spread_files(None)) == 4


def test_images_without_annotations_can_be_named(root: Path) -> None:
    dataset = dataset_of(root, pipeline=[]) | dict(ann_file="none.json")
    cfg = dict(classes=CLASSES, test_dataloader=dict(dataset=dataset))
    detector = Detector(FixedDetector(), cfg, 0.3)
    assert detector.truth is None
    with pytest.raises(ValueError, match=r"none.json does not exist; pass --cfg-options"):
        detector.spread_files(24)


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
    from runs import train

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
