"""The score of an exported file: that of the checkpoint if it finds the same, else its own."""

import json

import numpy as np
import pytest

pytest.importorskip("mmdet")

from export_case import untrained_run

from pe_dense.data.picture import read_picture
from pe_dense.export.file_score import score_file, score_path, scored_run, told_scores
from pe_dense.files import file_sha256
from pe_dense.predict.model import load
from pe_dense.run.request import RunRequest

CASES = {
    "segmentation": (
        "configs/segmentation/linear_pe_t16_mini.py",
        dict(layers=[1], image_scale=(96, 64), crop_size=(64, 64)),
    ),
    "depth": ("configs/depth/linear_pe_t16_mini.py", dict(layers=[1], crop_size=(64, 64))),
    "detection": (
        "configs/detection/dino_pe_t16_mini.py", dict(image_scale=(64, 64), num_queries=8)
    ),
}  # fmt: skip
FOLDERS = dict(segmentation="ade", depth="nyu", detection="coco")  # of the mini world


def as_predict(model):
    """What docs/run_onnx.py gives, made by predict."""

    def run(picture):
        found = model(picture)
        if model.task == "segmentation":
            return dict(labels=found.labels_HW)
        if model.task == "depth":
            return dict(depth=found.depth_HW)
        return dict(boxes=found.boxes_Q4, scores=found.scores_Q, labels=found.labels_Q)

    return run


def otherwise(task, root):
    """A runner that does not find what the model finds: one value, or boxes as annotated."""
    known = {}
    if task == "detection":
        truth = json.loads((root / "annotations/val.json").read_text())
        places = {item["id"]: place for place, item in enumerate(truth["categories"])}
        for image in truth["images"]:
            own = [a for a in truth["annotations"] if a["image_id"] == image["id"]]
            boxes = np.array([a["bbox"] for a in own], float).reshape(-1, 4)
            boxes[:, 2:] += boxes[:, :2]
            labels = np.array([places[a["category_id"]] for a in own], int)
            picture = read_picture(next((root / "images").rglob(image["file_name"])))
            known[picture.tobytes()] = dict(boxes=boxes, scores=np.ones(len(own)), labels=labels)

    def run(picture):
        if task == "detection":
            return known[picture.tobytes()]
        if task == "segmentation":
            return dict(labels=np.full(picture.shape[:2], 3))
        return dict(depth=np.full(picture.shape[:2], 9.5))

    return run


@pytest.mark.parametrize("task", CASES)
def test_a_file_that_finds_the_same_has_the_score_of_its_checkpoint(task, mini_root, tmp_path):
    config, options = CASES[task]
    file = untrained_run(config, tmp_path, data_root=str(mini_root / FOLDERS[task]), **options).file
    request = RunRequest("", work_dir=tmp_path / "test", argv=["tools/export.py", "--score"])
    exported = tmp_path / "model.onnx"
    exported.write_bytes(b"of no matter: the runner is made up")
    found = score_file(scored_run(request, file), request, exported, as_predict(load(file)))
    assert found["scores"]["file"] == pytest.approx(found["scores"]["checkpoint"], abs=1e-6)
    assert json.loads(score_path(exported).read_text()) == json.loads(json.dumps(found))
    assert found["file"]["sha256"] == file_sha256(exported)
    assert found["checkpoint_sha256"] == file_sha256(file)
    assert found["protocol"]["id"].startswith(f"mini-{task}") and found["data"]["sha256"]
    assert str(tmp_path) not in score_path(exported).read_text()
    metric = found["protocol"]["metric"]
    assert f"{metric} of the file" in told_scores(found, exported)[0]
    before = found["scores"]["checkpoint"]
    run_picture = otherwise(task, mini_root / FOLDERS[task])
    found = score_file(scored_run(request, file), request, exported, run_picture)
    assert found["scores"]["checkpoint"] == before
    assert found["scores"]["file"][metric] != before[metric]
    if task == "detection":
        assert found["scores"]["file"][metric] == pytest.approx(1.0)
    difference = found["difference"]
    assert difference["value"] == found["scores"]["file"][metric] - before[metric]
    if difference["low"] is not None:
        assert difference["low"] <= difference["value"] <= difference["high"]


def test_what_a_file_is_not_told_cannot_be_scored(mini_root, tmp_path):
    config, options = CASES["detection"]
    file = untrained_run(config, tmp_path, data_root=str(mini_root / "coco"), **options).file
    with pytest.raises(ValueError, match="scores several views of a picture"):
        scored_run(RunRequest("", options=dict(tile=(64, 64))), file)
