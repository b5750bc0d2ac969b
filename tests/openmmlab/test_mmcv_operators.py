"""mmcv's operators in PyTorch equal the compiled ones, and stand in for them where those fail."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mmcv import ops
from mmcv.ops import RoIAlign, batched_nms, nms, nms_match, roi_align, soft_nms
from mmdet.models.losses import FocalLoss, focal_loss
from mmdet.models.losses.focal_loss import py_sigmoid_focal_loss
from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor
from mmdet.structures.mask import BitmapMasks

from pe_dense.openmmlab import compiled_operators, mmcv_operators
from pe_dense.openmmlab.torch_operators import nms as nms_module
from pe_dense.openmmlab.torch_operators import roi_align as roi_module
from pe_dense.openmmlab.torch_operators.deformable_attention import (
    deformable_attention_by_gathers,
)
from pe_dense.openmmlab.torch_operators.roi_align import BoxGrid
from pe_dense.openmmlab.torch_operators.roi_align_matrices import roi_align_average

REPO = Path(__file__).resolve().parents[2]
GOLDEN = np.load(REPO / "tests" / "golden" / "mmcv_operators.npz")
COMPILED = pytest.param(
    True,
    id="compiled",
    marks=pytest.mark.skipif(not compiled_operators.work_on("cpu"), reason="mmcv has no operators"),
)


@pytest.fixture(params=[pytest.param(False, id="torch"), COMPILED])
def either(request, monkeypatch):
    """Both ways to run an operator, the compiled one where it is there."""
    monkeypatch.setattr(compiled_operators, "work_on", lambda device: request.param)
    return request.param


@pytest.fixture
def in_torch(monkeypatch):
    monkeypatch.setattr(compiled_operators, "work_on", lambda device: False)


def quasi_random(count: int) -> torch.Tensor:
    """(count, 4) numbers in 0..1 that are the same with every version of torch."""
    place = torch.arange(count, dtype=torch.float64)
    return torch.stack(
        [(place * a + 0.13) % 1 for a in (0.618034, 0.414214, 0.732051, 0.236068)], 1
    )


def boxes_case(name: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Boxes and scores without ties: crowded, without area, all at one place, one box."""
    count = {"few": 40, "many": 700, "zero_area": 60, "same": 30, "one": 1}[name]
    u = quasi_random(count)
    corner, size = u[:, :2] * 120, u[:, 2:] * 50 + 1
    if name == "zero_area":
        size[::3] = 0
        corner[:12] = 7
    if name == "same":
        corner, size = corner * 0 + 10, size * 0 + 20
    scores = ((torch.arange(count, dtype=torch.float64) * 0.5698403 + 0.3) % 1) * 0.9 + 0.05
    return torch.cat([corner, corner + size], 1).float(), scores.float()


def roi_case() -> tuple[torch.Tensor, torch.Tensor]:
    """Maps; boxes inside, across the border, far outside, without area, of the whole map."""
    place = torch.arange(2 * 3 * 11 * 14, dtype=torch.float64)
    maps = (torch.sin(place * 12.9898) * 3).view(2, 3, 11, 14).float()
    u = quasi_random(12)
    corner = u[:, :2] * torch.tensor([110.0, 85.0]) - 10
    boxes = torch.cat([corner, corner + u[:, 2:] ** 2 * 70], 1)
    boxes[0] = torch.tensor([16.0, 24, 16, 24])
    boxes[1] = torch.tensor([-200.0, -150, 300, 350])
    boxes[2] = torch.tensor([300.0, 300, 350, 320])
    boxes[3] = torch.tensor([0.0, 0, 112, 88])
    image = (torch.arange(12) % 2)[:, None]
    return maps, torch.cat([image, boxes], 1).float()


CASES = ("few", "many", "zero_area", "same", "one")


# Suppression


@pytest.mark.parametrize("name", CASES)
def test_nms(either, name: str, monkeypatch) -> None:
    boxes, scores = boxes_case(name)
    for block in (nms_module.BLOCK, 7):  # across the borders of blocks, too
        monkeypatch.setattr(nms_module, "BLOCK", block)
        for offset in (0, 1):
            for threshold in (0.3, 0.7):
                found = nms(boxes, scores, threshold, offset=offset)[1]
                assert found.tolist() == GOLDEN[f"nms/{name}/{offset}/{threshold}"].tolist()


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("method", ["naive", "linear", "gaussian"])
def test_soft_nms(either, name: str, method: str) -> None:
    dets, index = soft_nms(*boxes_case(name), 0.3, 0.5, 1e-2, method, 0)
    assert index.tolist() == GOLDEN[f"soft/{name}/{method}/index"].tolist()
    np.testing.assert_allclose(dets, GOLDEN[f"soft/{name}/{method}/dets"], rtol=1e-5)


@pytest.mark.parametrize("name", CASES)
def test_nms_match(either, name: str) -> None:
    boxes, scores = boxes_case(name)
    groups = nms_match(torch.cat([boxes, scores[:, None]], 1), 0.5)
    flat = [number for group in groups for number in (len(group), *map(int, group))]
    assert flat == GOLDEN[f"match/{name}"].tolist()


def test_of_equal_scores_the_first_is_higher(in_torch) -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 9], [50, 50, 60, 60]]).repeat(200, 1)
    assert nms(boxes, torch.ones(600), 0.5)[1].tolist() == [0, 2]
    assert soft_nms(boxes, torch.ones(600), 0.5, method="naive")[1].tolist()[0] == 0


def test_a_chain_of_covers_is_the_greedy_answer(in_torch) -> None:
    """Each box covers the next: every second survives, whatever the length of the chain."""
    start = torch.arange(300.0)[:, None]
    boxes = torch.cat([start, torch.zeros(300, 1), start + 4, torch.ones(300, 1)], 1)
    kept = nms(boxes, torch.linspace(1, 0.1, 300), 0.5)[1]
    assert kept.tolist() == list(range(0, 300, 2))


def test_nms_of_nothing_of_arrays_and_in_half_precision(in_torch) -> None:
    boxes, index = nms(torch.zeros(0, 4), torch.zeros(0), 0.5)
    assert boxes.shape == (0, 5) and index.shape == (0,)
    assert soft_nms(torch.zeros(0, 4), torch.zeros(0))[1].shape == (0,)
    boxes, scores = boxes_case("few")
    found, index = nms(boxes.numpy(), scores.numpy(), 0.5)
    assert isinstance(found, np.ndarray) and isinstance(index, np.ndarray)
    for kind in (torch.float16, torch.bfloat16):
        expected = nms(boxes.to(kind).float(), scores.to(kind).float(), 0.5)[1]
        found, index = nms(boxes.to(kind), scores.to(kind), 0.5)
        assert torch.equal(index, expected) and found.dtype == kind


def test_half_precision_boxes_never_reach_the_compiled_operator(monkeypatch) -> None:
    monkeypatch.setattr(compiled_operators, "work_on", lambda device: True)
    monkeypatch.setattr(compiled_operators, "compiled_module", lambda: pytest.fail("called"))
    boxes, scores = boxes_case("few")
    with pytest.raises(pytest.fail.Exception, match="called"):  # the control: float32 does
        nms(boxes, scores, 0.5)
    kept = nms_module.nms(boxes.half(), scores.half(), 0.5, 0)
    assert torch.equal(nms(boxes.half(), scores.half(), 0.5)[1], kept)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_numbers_of_two_types_never_reach_the_compiled_operator(either, kind) -> None:
    """It stops at them."""
    boxes, scores = boxes_case("few")
    expected = soft_nms(boxes, scores.to(kind).float())[1]
    assert torch.equal(soft_nms(boxes, scores.to(kind))[1], expected)
    assert torch.equal(
        soft_nms(boxes, (scores * 9).int())[1], soft_nms(boxes, (scores * 9).floor())[1]
    )
    maps, rois = roi_case()
    rois = rois.to(kind)
    found, expected = (roi_align(maps, r, 3, 0.125, 2, "avg", True) for r in (rois, rois.float()))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("setting", [{}, dict(split_thr=10, max_num=50), dict(soft=True)])
def test_nms_by_class(either, setting: dict) -> None:
    boxes, scores = boxes_case("few")
    labels = torch.arange(40) % 3
    options = (
        dict(type="soft_nms" if setting.pop("soft", 0) else "nms", iou_threshold=0.5) | setting
    )
    _, found = batched_nms(boxes, scores, labels, options)
    if options["type"] == "nms":
        alone = [torch.nonzero(labels == c)[:, 0] for c in range(3)]
        kept = {int(i[k]) for i in alone for k in nms(boxes[i], scores[i], 0.5)[1]}
        assert set(found.tolist()) == kept
    assert len(found)


# RoIAlign


@pytest.mark.parametrize("mode", ["avg", "max"])
@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("ratio", [0, 1, 2, 3])
def test_roi_align_and_its_gradient(either, mode: str, aligned: bool, ratio: int) -> None:
    maps, rois = roi_case()
    maps.requires_grad_()
    pooled = roi_align(maps, rois, (5, 3), 0.125, ratio, mode, aligned)
    (pooled * torch.linspace(-1, 1, pooled.numel()).view(pooled.shape)).sum().backward()
    key = f"roi/{mode}/{int(aligned)}/{ratio}"
    np.testing.assert_allclose(pooled.detach(), GOLDEN[f"{key}/values"], rtol=1e-5, atol=1e-5)
    # A maximum over no sample has no place, and no gradient; the compiled form gives pixel 0 one.
    gradient = GOLDEN[f"{key}/gradient"].copy()
    found = maps.grad.numpy().copy()
    if mode == "max":
        gradient[:, :, 0, 0] = found[:, :, 0, 0] = 0
    np.testing.assert_allclose(found, gradient, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("mode", ["avg", "max"])
def test_maps_with_channels_side_by_side_are_read_as_any_other(either, mode: str) -> None:
    """As a norm over channels leaves them; the compiled operator heeds no strides."""
    maps = torch.randn(1, 3, 8, 10)
    rois = torch.tensor([[0.0, 1, 2, 20, 17], [0, 3, 3, 30, 30]])
    apart = maps.to(memory_format=torch.channels_last)
    found = [roi_align(m, rois, 3, 0.25, 0, mode, True) for m in (maps, apart)]
    torch.testing.assert_close(*found)


@pytest.mark.parametrize("ratio", [0, 2])
def test_pixels_with_weights_equal_the_matrices(ratio: int) -> None:
    maps, rois = (array.double() for array in roi_case())
    found = roi_module.roi_align(maps, rois, BoxGrid((4, 6), 0.125, ratio))
    expected = roi_align_average(maps, rois, (4, 6), 0.125, ratio)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("mode", ["avg", "max"])
def test_the_gradient_of_the_torch_form_itself(mode: str) -> None:
    maps, rois = (array.double() for array in roi_case())
    maps.requires_grad_()
    grid = BoxGrid((2, 3), 0.125, 2)
    assert torch.autograd.gradcheck(
        lambda m: roi_module.roi_align(m, rois[:5], grid, mode), (maps,), eps=1e-6, atol=1e-4
    )


@pytest.mark.parametrize("mode", ["avg", "max"])
def test_chunks_change_nothing(mode: str, monkeypatch) -> None:
    maps, rois = roi_case()
    whole = roi_module.roi_align(maps, rois, BoxGrid((7, 7), 0.125), mode)
    monkeypatch.setattr(roi_module, "MAX_ENTRIES", 500)
    chunked = roi_module.roi_align(maps, rois, BoxGrid((7, 7), 0.125), mode)
    torch.testing.assert_close(chunked, whole)


def test_the_maximum_of_nan_is_nan(in_torch) -> None:
    maps = torch.ones(1, 2, 6, 6)
    maps[0, 1, 2, 2] = torch.nan
    pooled = roi_align(maps, torch.tensor([[0.0, 0, 0, 6, 6]]), 1, 1.0, 0, "max", True)
    assert pooled[0, 0].item() == 1 and pooled[0, 1].isnan().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_low_precision_maps(in_torch, dtype) -> None:
    maps, rois = roi_case()
    exact = RoIAlign((7, 7), 0.125)(maps.to(dtype).float(), rois)
    found = RoIAlign((7, 7), 0.125)(maps.to(dtype), rois)
    assert found.dtype == dtype
    torch.testing.assert_close(found, exact.to(dtype))


@pytest.mark.parametrize("mode", ["avg", "max"])
def test_no_box_keeps_the_graph(in_torch, mode: str) -> None:
    maps = torch.randn(2, 4, 8, 8, requires_grad=True)
    pooled = roi_align(maps, torch.zeros(0, 5), (7, 7), 0.25, 0, mode, True)
    assert pooled.shape == (0, 4, 7, 7)
    pooled.sum().backward()
    assert not maps.grad.any()


def test_boxes_upside_down_or_without_a_place_give_zeros() -> None:
    nan = float("nan")
    rois = torch.tensor([[0.0, 40, 40, 8, 8], [0, nan, nan, nan, nan], [0, 1, 1, nan, 4]])
    for ratio in (0, 2):
        found = roi_module.roi_align(torch.ones(1, 2, 8, 8), rois, BoxGrid((2, 2), 0.125, ratio))
        assert found.isfinite().all() and not found[1].any()
    assert not roi_module.roi_align(torch.ones(1, 2, 8, 8), rois, BoxGrid((2, 2), 0.125)).any()


def test_a_box_of_no_image_is_refused() -> None:
    rois = torch.tensor([[0.0, 0, 0, 1, 1], [2, 0, 0, 1, 1]])
    for function in (
        lambda: roi_module.roi_align(torch.ones(2, 1, 4, 4), rois, BoxGrid((2, 2))),
        lambda: roi_align_average(torch.ones(2, 1, 4, 4), rois, (2, 2)),
    ):
        with pytest.raises(ValueError, match=r"boxes of images 0\.\.2 for a batch of 2"):
            function()


def test_an_extractor_over_levels_and_masks(monkeypatch) -> None:
    extractor = SingleRoIExtractor(
        dict(type="RoIAlign", output_size=7, sampling_ratio=0), 3, featmap_strides=[4, 8, 16]
    )
    place = torch.arange(2 * 3 * 64 * 96).view(2, 3, 64, 96) * 0.37
    levels = [place[:, :, ::n, ::n].sin() for n in (1, 2, 4)]
    masks = BitmapMasks(
        (np.sin(np.arange(5 * 60 * 80)) > 0.2).reshape(5, 60, 80).astype("u1"), 60, 80
    )
    corners = np.array([[3.0, 4, 50, 44], [0, 0, 80, 60], [10, 10, 12, 30]], dtype=np.float32)
    _, rois = roi_case()
    found = []
    for works in (False, compiled_operators.work_on("cpu")):
        with monkeypatch.context() as patch:
            patch.setattr(compiled_operators, "work_on", lambda device, works=works: works)
            cropped = masks.crop_and_resize(corners, (28, 28), np.array([4, 0, 2]), binarize=False)
            found.append((extractor(levels, rois), torch.from_numpy(cropped.masks)))
    expected = torch.stack(
        [roi_align_average(levels[0], rois, (7, 7), 0.25)[i] for i in range(len(rois))]
    )
    small = (rois[:, 3] - rois[:, 1]) * (rois[:, 4] - rois[:, 2]) < 112**2 - 1
    torch.testing.assert_close(found[0][0][small], expected[small], rtol=1e-5, atol=1e-5)
    for first, second in zip(*found, strict=True):
        torch.testing.assert_close(first, second, rtol=1e-5, atol=1e-5)


# Focal losses


@pytest.mark.parametrize("weighted", [False, True])
def test_sigmoid_focal_loss_and_its_gradient(either, weighted: bool) -> None:
    logits = torch.linspace(-30, 30, 28).view(7, 4).requires_grad_()
    labels = torch.tensor([0, 1, 2, 3, 4, 4, 1])
    weight = torch.tensor([1.0, 0.5, 2.0, 3.0]) if weighted else None
    found = ops.sigmoid_focal_loss(logits, labels, 2.0, 0.25, weight, "sum")
    (gradient,) = torch.autograd.grad(found, logits)
    one_hot = torch.nn.functional.one_hot(labels, 5)[:, :4]
    rows = torch.ones(7) if weight is None else torch.cat([weight, torch.ones(1)])[labels]
    expected = py_sigmoid_focal_loss(logits, one_hot, weight=rows, reduction="sum")
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(gradient, torch.autograd.grad(expected, logits)[0])


def test_mmdet_s_loss_for_gpus_comes_here(in_torch) -> None:
    logits = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 1, 2, 3, 4, 4])
    expected = FocalLoss(use_sigmoid=True)(logits, labels)
    torch.testing.assert_close(focal_loss.sigmoid_focal_loss(logits, labels), expected)


def test_softmax_focal_loss_and_its_gradient(either) -> None:
    logits = torch.linspace(-3, 3, 20).sin().mul(4).view(5, 4).requires_grad_()
    labels = torch.tensor([0, 3, -1, 2, 1])
    found = ops.softmax_focal_loss(logits, labels, 2.0, 0.25, None, "mean")
    (gradient,) = torch.autograd.grad(found, logits)
    prob = logits.softmax(1)[torch.arange(5), labels.clamp(min=0)]
    expected = (-0.25 * (1 - prob) ** 2 * prob.log() * (labels >= 0)).sum() / 5
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(gradient, torch.autograd.grad(expected, logits)[0])


# Deformable attention


def attention_case(dtype=torch.float64):
    shapes = torch.tensor([[5, 7], [3, 4], [1, 2]])
    tokens = int(shapes.prod(1).sum())
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(2, tokens, 3, 4, generator=generator, dtype=dtype)
    places = torch.rand(2, 6, 3, 3, 2, 2, generator=generator, dtype=dtype) * 1.4 - 0.2
    places[0, 0] = 0.0  # on the border
    places[0, 1] = 1.0
    places[0, 2] = 9.0  # far outside
    weights = torch.rand(2, 6, 3, 3, 2, generator=generator, dtype=dtype)
    return values, shapes, places, weights


def test_gathers_equal_grid_sample() -> None:
    values, shapes, places, weights = attention_case()
    inputs = [values.requires_grad_(), places.requires_grad_(), weights.requires_grad_()]
    plain = ops.multi_scale_deform_attn.multi_scale_deformable_attn_pytorch
    results = []
    for function in (deformable_attention_by_gathers, plain):
        mixed = function(values, shapes, places, weights)
        gradients = torch.autograd.grad(mixed.square().sum(), inputs)
        results.append((mixed, *gradients))
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


def test_mmcv_s_function_for_gpus_comes_here(either) -> None:
    values, shapes, places, weights = attention_case(torch.float32)
    inputs = [values.requires_grad_(), places.requires_grad_(), weights.requires_grad_()]
    starts = shapes.prod(1).cumsum(0) - shapes.prod(1)
    function = ops.multi_scale_deform_attn.MultiScaleDeformableAttnFunction
    found = function.apply(values, shapes, starts, places, weights, 64)
    expected = deformable_attention_by_gathers(values, shapes, places, weights)
    torch.testing.assert_close(found, expected)
    pairs = [torch.autograd.grad(mixed.square().sum(), inputs) for mixed in (found, expected)]
    for first, second in zip(*pairs, strict=True):
        torch.testing.assert_close(first, second)


# The module


def test_an_operator_without_a_torch_form_says_its_name(monkeypatch) -> None:
    monkeypatch.setattr(compiled_operators, "work_on", lambda device: False)
    monkeypatch.setattr(compiled_operators, "problem_on", lambda device: "none here")
    with pytest.raises(
        NotImplementedError,
        match=r"operator 'deform_conv_forward' .* on cpu .*\(none here\): `make operators`",
    ):
        ops.deform_conv2d(torch.rand(1, 3, 8, 8), torch.zeros(1, 18, 8, 8), torch.rand(4, 3, 3, 3))


def test_versions_are_not_asked_of_the_compiled_module(monkeypatch) -> None:
    monkeypatch.setattr(compiled_operators, "compiled_module", lambda: pytest.fail("called"))
    assert "not asked" in ops.get_compiling_cuda_version() + ops.get_compiler_version()


HIDE = """
import importlib.machinery, sys
real = importlib.machinery.PathFinder.find_spec
def find_spec(name, path=None, target=None):
    return None if name == "mmcv._ext" else real(name, path, target)
importlib.machinery.PathFinder.find_spec = find_spec
"""
WITHOUT = """
import pe_dense
import mmdet.models, mmseg.models, mmcv.ops, torch
from pe_dense.openmmlab import compiled_operators
assert compiled_operators.problem_on("cpu") == compiled_operators.NONE
boxes = torch.tensor([[0., 0, 9, 9], [0, 0, 9, 8]])
assert mmcv.ops.nms(boxes, torch.ones(2), 0.5)[1].tolist() == [0]
"""
LATE = """
import mmcv.ops, mmcv.ops.nms, sys
assert mmcv.ops.nms.__module__ == "mmcv.ops.nms"
import pe_dense
from pe_dense.openmmlab.mmcv_operators import MODULE
assert sys.modules["mmcv._ext"] is sys.modules["mmcv.ops.nms"].ext_module is MODULE
"""


def run_python(program: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(REPO), "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-c", program]
    return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=REPO)


def test_the_stack_imports_where_mmcv_was_not_compiled() -> None:
    done = run_python(HIDE + WITHOUT)
    assert done.returncode == 0, done.stderr
    plain = run_python(HIDE + "import mmcv.ops")
    assert "mmcv._ext" in plain.stderr  # what happens without pe_dense


@pytest.mark.skipif(not compiled_operators.work_on("cpu"), reason="mmcv has no operators")
def test_parts_of_mmcv_imported_before_are_served_too() -> None:
    done = run_python(LATE)
    assert done.returncode == 0, done.stderr


def test_names_are_served_only_as_functions() -> None:
    module = sys.modules["mmcv._ext"]
    assert module is mmcv_operators.MODULE
    assert callable(module.nms) and not hasattr(module, "__path__")
