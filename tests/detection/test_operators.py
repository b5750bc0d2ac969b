"""Operators on a machine whose mmcv has no CUDA kernels; CPU tensors stand in for CUDA ones."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from mmcv import ops
from mmcv.ops import RoIAlign, batched_nms, nms, nms_match, soft_nms
from mmdet.models.losses import FocalLoss, focal_loss
from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor
from mmdet.structures.mask import BitmapMasks
from mmdet.structures.mask import structures as mask_structures

from pe_dense.detection import operators
from pe_dense.detection.roi_align import roi_align_average

MMCV_NMS, MMCV_ROI_ALIGN = operators.MMCV_NMS, operators.MMCV_ROI_ALIGN


@pytest.fixture
def without_kernels(monkeypatch):
    """A machine with a GPU and a CPU-only mmcv; everything is put back afterwards."""
    places = [
        (focal_loss, "sigmoid_focal_loss"),
        (operators.nms_module, "ext_module"),
        *[(m, "roi_align") for m in (operators.roi_align_module, mask_structures, ops)],
    ]
    for module, name in places:
        monkeypatch.setattr(module, name, getattr(module, name))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(operators, "cuda_operators_work", lambda: False)
    operators._warn_once.cache_clear()


@pytest.fixture
def forced(without_kernels, monkeypatch):
    """The replacements installed, and tensors of every device treated as having no kernel."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert operators.use_torch_where_cuda_is_missing()
    asked = []
    monkeypatch.setattr(operators, "has_kernel", lambda device: asked.append(device))
    return asked


# Decision


def test_only_cuda_tensors_of_a_cpu_only_build_have_no_kernel(monkeypatch):
    for works in (True, False):
        monkeypatch.setattr(operators, "cuda_operators_work", lambda works=works: works)
        assert operators.has_kernel("cpu")
        assert operators.has_kernel("cuda") == works


def test_falls_back_only_where_the_kernels_are_missing(without_kernels, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(operators, "cuda_operators_work", lambda: True)
        assert not operators.use_torch_where_cuda_is_missing()
    assert ops.roi_align is MMCV_ROI_ALIGN

    with pytest.warns(UserWarning, match="do not run on this GPU.*NMS runs on the CPU") as caught:
        assert operators.use_torch_where_cuda_is_missing()
        assert operators.use_torch_where_cuda_is_missing()
    assert len(caught) == 1
    assert mask_structures.roi_align is ops.roi_align is operators.roi_align_anywhere


def test_nothing_changes_without_a_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert not operators.use_torch_where_cuda_is_missing()
    assert ops.roi_align is MMCV_ROI_ALIGN


def test_cpu_tensors_keep_mmcv_s_kernels(without_kernels, monkeypatch):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        operators.use_torch_where_cuda_is_missing()
    monkeypatch.setattr(operators, "roi_align_average", None)  # would fail if it were called
    maps, rois = case(1)
    expected = MMCV_ROI_ALIGN(maps, rois, (3, 3), 0.125)
    assert torch.equal(RoIAlign((3, 3), 0.125)(maps, rois), expected)


# NMS


def crowd(count=400, seed=0):
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator) * 200
    size = torch.rand(count, 2, generator=generator) * 60 + 1
    scores = torch.rand(count, generator=generator)
    labels = torch.randint(0, 5, (count,), generator=generator)
    return torch.cat([corner, corner + size], 1), scores, labels


def assert_same(found, expected):
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


NMS_CALLS = {
    "nms": lambda b, s, _: nms(b, s, 0.4),
    "offset": lambda b, s, _: nms(b, s, 0.4, offset=1),
    "score threshold": lambda b, s, _: nms(b, s, 0.4, score_threshold=0.5, max_num=7),
    "batched": lambda b, s, i: batched_nms(b, s, i, dict(type="nms", iou_threshold=0.5)),
    "split": lambda b, s, i: batched_nms(
        b, s, i, dict(type="nms", iou_threshold=0.5, split_thr=10, max_num=50)
    ),
    "agnostic": lambda b, s, i: batched_nms(b, s, i, dict(iou_threshold=0.5), class_agnostic=True),
    "soft": lambda b, s, _: soft_nms(b, s, 0.4, method="linear"),
    "batched soft": lambda b, s, i: batched_nms(b, s, i, dict(type="soft_nms", iou_threshold=0.5)),
}


@pytest.mark.parametrize("name", NMS_CALLS)
def test_nms_of_every_kind(name, request):
    expected = NMS_CALLS[name](*crowd())
    asked = request.getfixturevalue("forced")
    assert_same(NMS_CALLS[name](*crowd()), expected)
    assert bool(asked) != ("soft" in name)  # mmcv moves boxes of soft-NMS by itself


def test_nms_of_nothing_and_of_arrays(forced):
    boxes, index = nms(torch.zeros(0, 4), torch.zeros(0), 0.5)
    assert boxes.shape == (0, 5) and index.shape == (0,)
    boxes, scores, _ = crowd(20)
    found, index = nms(boxes.numpy(), scores.numpy(), 0.5)
    assert isinstance(found, np.ndarray) and isinstance(index, np.ndarray)
    assert nms_match(torch.cat([boxes, scores[:, None]], 1), 0.5)  # other operators are still there


def test_half_precision_boxes(forced):
    boxes, scores, _ = crowd(50)
    half = boxes.half(), scores.half()
    kept = MMCV_NMS(half[0].float(), half[1].float(), iou_threshold=0.5, offset=0)
    found, index = nms(*half, 0.5)
    assert torch.equal(index, kept) and found.dtype == torch.float16


# RoIAlign


def case(images=2, seed=0, dtype=torch.float32):
    """Maps; boxes inside, across the border, far outside, without area, of the whole map."""
    generator = torch.Generator().manual_seed(seed)
    maps = torch.randn(images, 4, 21, 30, generator=generator, dtype=dtype)
    corner = torch.rand(30, 2, generator=generator) * torch.tensor([260.0, 190.0]) - 20
    size = torch.rand(30, 2, generator=generator) ** 2 * 200
    boxes = torch.cat([corner, corner + size], 1)
    boxes[0] = torch.tensor([16.0, 24, 16, 24])
    boxes[1] = torch.tensor([-400.0, -300, 800, 900])
    boxes[2] = torch.tensor([600.0, 600, 700, 650])
    boxes[3] = torch.tensor([0.0, 0, 240, 168])
    image = torch.randint(0, images, (30, 1), generator=generator)
    return maps, torch.cat([image, boxes], 1).to(dtype)


@pytest.mark.parametrize("mode", ["avg", "max"])
@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("ratio", [0, 1, 2, 3])
def test_roi_align_and_its_gradient(forced, mode, aligned, ratio):
    results = []
    for function in (MMCV_ROI_ALIGN, ops.roi_align):
        maps, rois = case()
        maps.requires_grad_()
        pooled = function(maps, rois, (7, 5), 0.125, ratio, mode, aligned)
        weight = torch.randn(pooled.shape, generator=torch.Generator().manual_seed(1))
        weight[:3] = 0 if mode == "max" else weight[:3]  # a maximum over no sample has no gradient
        (pooled * weight).sum().backward()
        results.append((pooled.detach(), maps.grad))
    for found, expected in zip(results[1], results[0], strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert forced


def test_roi_align_in_float64_agrees_to_its_precision():
    maps, rois = case(dtype=torch.float64)
    expected = MMCV_ROI_ALIGN(maps, rois, (4, 6), 0.125, 0, "avg", True)
    found = roi_align_average(maps, rois, (4, 6), 0.125)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_chunks_change_nothing(monkeypatch):
    maps, rois = case(3)
    whole = roi_align_average(maps, rois, (7, 7), 0.125)
    monkeypatch.setattr("pe_dense.detection.roi_align.MAX_NUMBERS", 2000)
    torch.testing.assert_close(roi_align_average(maps, rois, (7, 7), 0.125), whole)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_low_precision_maps(forced, dtype):
    maps, rois = case()
    exact = MMCV_ROI_ALIGN(maps.to(dtype).float(), rois, (7, 7), 0.125)
    found = RoIAlign((7, 7), 0.125)(maps.to(dtype), rois)
    assert found.dtype == dtype
    torch.testing.assert_close(found, exact.to(dtype))


def test_no_box_keeps_the_graph(forced):
    maps = torch.randn(2, 4, 8, 8, requires_grad=True)
    pooled = RoIAlign((7, 7), 0.25)(maps, torch.zeros(0, 5))
    assert pooled.shape == (0, 4, 7, 7)
    pooled.sum().backward()
    assert not maps.grad.any()


def test_boxes_upside_down_or_without_a_place_give_zeros():
    maps = torch.ones(1, 2, 8, 8)
    nan = float("nan")
    rois = torch.tensor([[0.0, 40, 40, 8, 8], [0, nan, nan, nan, nan]])
    assert not roi_align_average(maps, rois, (2, 2), 0.125).any()


def test_a_box_of_no_image_is_refused():
    with pytest.raises(ValueError, match=r"boxes of images 0\.\.2 for a batch of 2"):
        roi_align_average(
            torch.ones(2, 1, 4, 4), torch.tensor([[0.0, 0, 0, 1, 1], [2, 0, 0, 1, 1]]), (2, 2)
        )


# Through mmdet


def test_masks_are_cropped_the_same(request):
    generator = np.random.default_rng(0)
    masks = BitmapMasks((generator.random((5, 60, 80)) > 0.5).astype(np.uint8), 60, 80)
    boxes = np.array([[3.0, 4, 50, 44], [0, 0, 80, 60], [10, 10, 12, 30]], dtype=np.float32)
    index = np.array([4, 0, 2])
    expected = masks.crop_and_resize(boxes, (28, 28), index, binarize=False).masks
    asked = request.getfixturevalue("forced")
    found = masks.crop_and_resize(boxes, (28, 28), index, binarize=False).masks
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert asked


def test_an_extractor_over_levels(request):
    extractor = SingleRoIExtractor(
        dict(type="RoIAlign", output_size=7, sampling_ratio=0), 4, featmap_strides=[4, 8, 16]
    )
    generator = torch.Generator().manual_seed(0)
    levels = [torch.randn(2, 4, 64 // n, 96 // n, generator=generator) for n in (1, 2, 4)]
    _, rois = case()
    expected = extractor(levels, rois)
    asked = request.getfixturevalue("forced")
    torch.testing.assert_close(extractor(levels, rois), expected, rtol=1e-5, atol=1e-5)
    assert len(asked) >= 2


def test_focal_loss_takes_the_plain_path(forced):
    logits = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 1, 2, 3, 4, 4])
    found = focal_loss.sigmoid_focal_loss(logits, labels)
    expected = FocalLoss(use_sigmoid=True)(logits, labels)
    torch.testing.assert_close(found, expected)
