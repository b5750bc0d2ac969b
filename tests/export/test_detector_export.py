"""Detectors as programs: what predict gives, and operators that ONNX has by other names."""

import numpy as np
import pytest
import torch

pytest.importorskip("mmdet")

from export_case import in_torch, spread, untrained_run
from torch import nn

from pe_dense.export.agreement import Detections, detection_difference
from pe_dense.export.checkpoint_program import Wanted, checkpoint_program
from pe_dense.export.program import Program, Sizes
from pe_dense.export.writing import write_checked
from pe_dense.openmmlab.exported_operators import kept_in_groups, regions
from pe_dense.predict.predictor import Predictor

SMALL = dict(image_scale=(64, 64))
CASES = {
    "deta": ("configs/detection/deta_pe_t16_mini.py", dict(SMALL, num_queries=20)),
    "dino": ("configs/detection/dino_pe_t16_mini.py", dict(SMALL, num_queries=8)),
    "vitdet": ("configs/detection/vitdet_pe_t16_mini.py", dict(SMALL, canvas=64)),
}


@pytest.mark.parametrize("name", CASES)
def test_a_program_finds_what_predict_finds(name, tmp_path):
    config, options = CASES[name]
    run = spread(untrained_run(config, tmp_path, **options))
    picture = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    picture[10:30, 20:50] = 200
    expected = Predictor(run, "cpu").predict_batch([picture])[0]
    for where in ("inside",) if name == "vitdet" else ("inside", "outside"):
        program = checkpoint_program(run, Wanted(suppression=where))
        assert (program.sizes.height, program.sizes.width) == (64, 64)
        found = in_torch(program)(picture)
        sides = [
            Detections(boxes / 64, scores, labels)
            for boxes, scores, labels in (
                (found["boxes"], found["scores"], found["labels"]),
                (expected.boxes_Q4, expected.scores_Q, expected.labels_Q),
            )
        ]
        difference = detection_difference(*sides, limit=1e-4, floor=0.0)
        assert difference.alone == 0 and difference.largest < 1e-4, (where, difference)
        assert difference.compared > 5
    if expected.masks_QHW is not None:
        same = min(len(found["masks"]), 5)
        assert (found["masks"][:same] != expected.masks_QHW[:same]).mean() < 1e-3


class Operators(nn.Module):
    def forward(self, image):
        corners = image[0, 0, :20, :2].sort(dim=0, stable=True).values / 4
        boxes = torch.cat([corners, corners + image[0, 1, :20, :2] / 8 + 1], 1)
        kept = kept_in_groups(boxes, torch.arange(20) % 3, 3, 0.4)
        return kept.float(), regions(image[:, :, ::2].transpose(2, 3), boxes, 3, 0.5, 0)


def test_onnx_has_the_operators_under_names_of_its_own(tmp_path):
    pytest.importorskip("onnxruntime")
    program = Program(
        Operators(), nn.Identity(), "features", ("kept", "regions"), Sizes(40, 30), {}
    )
    written = write_checked(program, tmp_path / "o.onnx")
    assert {"NonMaxSuppression", "RoiAlign", "TopK"} <= written.operators.keys()
    kept = program.module(*program.example((1, 40, 30), 0))[0]
    assert 0 < kept.sum() < 20


def test_what_a_detector_cannot_be_is_said(tmp_path):
    config, options = CASES["vitdet"]
    run = untrained_run(config, tmp_path, **options)
    with pytest.raises(ValueError, match="leave --nms outside out"):
        checkpoint_program(run, Wanted(suppression="outside"))
    with pytest.raises(ValueError, match="is exported for one size only"):
        checkpoint_program(run, Wanted(open_size=True))


def test_mask2former_is_refused_by_its_name(tmp_path):
    config = "configs/segmentation/mask2former_pe_t16_mini.py"
    run = untrained_run(config, tmp_path, layers=[0], crop_size=(64, 64), image_scale=(64, 64))
    with pytest.raises(ValueError, match=r"decode_head \w*Mask2FormerHead is not exported"):
        checkpoint_program(run, Wanted())


@pytest.mark.parametrize("task", ["segmentation", "depth"])
def test_windows_lie_where_predict_has_them(task, tmp_path):
    slide = dict(mode="slide", crop_size=(64, 64), stride=(48, 48))
    options = {"layers": [1], "model.test_cfg": slide}
    if task == "segmentation":
        options["image_scale"] = (130, 100)
    run = untrained_run(f"configs/{task}/linear_pe_t16_mini.py", tmp_path, **options)
    picture = np.random.default_rng(0).integers(0, 256, (100, 130, 3), dtype=np.uint8)
    picture[10:60, 20:80] = 200  # no multiple of the patch: padding moves the last window
    expected = Predictor(run, "cpu").predict_batch([picture])[0]
    found = in_torch(checkpoint_program(run, Wanted()))(picture)
    if task == "segmentation":
        assert (found["labels"] != expected.labels_HW).mean() < 1e-3
    else:
        difference = np.abs(found["depth"] - expected.depth_HW).max()
        assert difference < 1e-3 * np.ptp(expected.depth_HW)
