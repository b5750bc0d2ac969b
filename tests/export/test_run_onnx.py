"""The runner without torch: its arithmetic is OpenCV's, mmcv's and ours."""

import ast

import cv2
import numpy as np
import pytest
import torch
from export_case import REPO, runner_module
from mmcv.image import rescale_size

from pe_dense.detection.deta_transforms import detr_size
from pe_dense.detection.suppression import grouped_nms
from pe_dense.openmmlab.resizing import size_within
from pe_dense.pixelwise.banded_inference import reference_labels
from pe_dense.pixelwise.windows import slide_windows

runner = runner_module()


def test_it_imports_no_torch():
    tree = ast.parse((REPO / "docs/run_onnx.py").read_text())
    names = {
        a.name.split(".")[0] for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names
    }
    names |= {n.module.split(".")[0] for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
    assert names == {"argparse", "json", "numpy", "onnxruntime", "pathlib", "PIL", "sys"}


def test_pictures_are_resized_as_opencv_does_to_the_last_bit():
    generator = np.random.default_rng(0)
    for place in range(40):
        old, new = generator.integers(1, 90, (2, 2)).tolist()
        if place % 8 == 0:
            old = [2 * side for side in new]
        picture = generator.integers(0, 256, (*old, 3), dtype=np.uint8)
        expected = cv2.resize(picture, new[::-1], interpolation=cv2.INTER_LINEAR)
        np.testing.assert_array_equal(
            runner.resize_bilinear(picture, new), expected, str((old, new))
        )


def test_sizes_are_those_of_the_pipelines():
    generator = np.random.default_rng(1)
    for height, width in generator.integers(1, 2000, (300, 2)).tolist():
        scale = tuple(generator.integers(8, 900, 2).tolist())
        expected = rescale_size((width, height), scale)[::-1]
        assert runner.size_within(height, width, scale) == tuple(max(1, s) for s in expected)
        one = runner.size_within(height, width, scale, "one_division")
        assert one == size_within((height, width), scale, True)
        if min(height, width) > 20:
            assert runner.short_side_size(height, width, 480, 800) == detr_size(
                height, width, 480, 800
            )


@pytest.mark.parametrize("sizes", [(37, 50, 37, 50), (37, 50, 80, 61), (64, 64, 20, 33)])
def test_labels_are_those_of_the_reference(sizes):
    size, original = sizes[:2], sizes[2:]
    for windows in ([(0, 0, 64, 64)], slide_windows((64, 64), (32, 32), (20, 20))):
        boxes = [
            w if hasattr(w, "top") else slide_windows((64, 64), (64, 64), (1, 1))[0]
            for w in windows
        ]
        logits = [torch.randn(5, 4, 4, generator=torch.Generator().manual_seed(i))
                  for i in range(len(boxes))]  # fmt: skip
        expected = reference_labels(logits, boxes, size, original)
        parts = [(x.numpy(), (b.top, b.left), b.size) for x, b in zip(logits, boxes, strict=True)]
        found = runner.labels_of(parts, size, original)
        assert (found != expected.numpy()).mean() < 1e-3  # equal but for ties in the last bit


def test_suppression_is_ours():
    generator = torch.Generator().manual_seed(0)
    corners = torch.rand(80, 2, generator=generator)
    boxes = torch.cat([corners, corners + 0.3], 1)
    scores = torch.rand(80, generator=generator)
    labels = torch.randint(0, 3, (80,), generator=generator)
    found = runner.suppressed(
        dict(boxes=boxes.numpy(), scores=scores.numpy(), labels=labels.numpy()), 0.5
    )
    assert found.tolist() == grouped_nms(boxes, scores, labels, 0.5).tolist()
    assert 10 < len(found) < 70
    nothing = dict(boxes=np.zeros((0, 4)), scores=np.zeros(0), labels=np.zeros(0, int))
    assert len(runner.suppressed(nothing, 0.5)) == 0


def test_a_file_of_another_kind_is_refused(tmp_path):
    onnx = pytest.importorskip("onnx")
    value = onnx.helper.make_tensor_value_info
    nodes = [onnx.helper.make_node("Identity", ["x"], ["y"])]
    graph = onnx.helper.make_graph(nodes, "g", [value("x", 1, [1])], [value("y", 1, [1])])
    file = tmp_path / "other.onnx"
    opset = [onnx.helper.make_opsetid("", 18)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opset, ir_version=9), file)
    with pytest.raises(ValueError, match="not written by tools/export.py"):
        runner.ExportedModel(file)


def test_a_file_that_is_none_ends_with_a_sentence(tmp_path, monkeypatch, capsys):
    (tmp_path / "broken.onnx").write_bytes(b"no graph")
    for name in ("broken.onnx", "absent.onnx"):
        words = ["run_onnx.py", str(tmp_path / name), "a.jpg", "--out", str(tmp_path / "out")]
        monkeypatch.setattr("sys.argv", words)
        with pytest.raises(SystemExit) as ended:
            runner.main()
        assert ended.value.code == 2
        said = capsys.readouterr().err
        assert said.startswith("error: ") and f"{name} cannot be opened by onnxruntime" in said
        assert said.count("\n") == 1
