"""Resize as the libraries do it, but for sides that they would round to nothing."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("mmdet")
pytest.importorskip("mmseg")

from mmdet.datasets.transforms import Resize as MMDetResize
from mmdet.registry import TRANSFORMS as MMDET
from mmdet.structures.bbox import HorizontalBoxes
from mmdet.structures.mask import BitmapMasks
from mmengine.registry import init_default_scope
from mmseg.registry import TRANSFORMS as MMSEG

import pe_dense.detection
import pe_dense.segmentation  # noqa: F401


def sample(height: int, width: int) -> dict:
    rng = np.random.default_rng(0)
    mask = np.ones((1, height, width), np.uint8)
    return dict(
        img=rng.integers(0, 255, (height, width, 3)).astype(np.uint8),
        gt_bboxes=HorizontalBoxes(np.array([[0, 0, width / 2, height]], np.float32)),
        gt_masks=BitmapMasks(mask, height, width),
        gt_seg_map=rng.integers(0, 3, (height, width)).astype(np.uint8),
        seg_fields=["gt_seg_map"],
    )


@pytest.mark.parametrize(("size", "expected"), [((3, 4000), (1, 64)), ((4000, 3), (64, 1))])
def test_no_side_is_lost(size: tuple[int, int], expected: tuple[int, int]) -> None:
    found = MMDET.build(dict(type="Resize", scale=(64, 64), keep_ratio=True))(sample(*size))
    assert found["img"].shape[:2] == found["img_shape"] == expected
    assert found["gt_masks"].masks.shape[1:] == found["gt_seg_map"].shape == expected
    right, low = expected[1] / 2, expected[0]
    np.testing.assert_allclose(found["gt_bboxes"].tensor.numpy()[0, 2:], (right, low), rtol=1e-6)
    without_boxes = {key: sample(*size)[key] for key in ("img", "gt_seg_map", "seg_fields")}
    found = MMSEG.build(dict(type="Resize", scale=(64, 64), keep_ratio=True))(without_boxes)
    assert found["img"].shape[:2] == found["gt_seg_map"].shape == expected


def test_a_random_resize_goes_on_with_other_pictures() -> None:
    init_default_scope("mmdet")
    settings = dict(type="RandomResize", scale=(64, 64), ratio_range=(1.0, 1.0), keep_ratio=True)
    resize = MMDET.build(settings)
    assert resize(sample(2, 900))["img"].shape[:2] == (1, 64)
    assert resize(sample(32, 64))["img"].shape[:2] == (32, 64)
    assert resize.resize.keep_ratio


@pytest.mark.parametrize("size", [(48, 64), (20, 640), (5, 320)])
def test_other_pictures_are_resized_as_mmdet_does(size: tuple[int, int]) -> None:
    settings = dict(scale=(64, 64), keep_ratio=True)
    ours = MMDET.build(dict(type="Resize", **settings))(sample(*size))
    theirs = MMDetResize(**settings)(sample(*size))
    np.testing.assert_array_equal(ours["img"], theirs["img"])
    assert ours["scale_factor"] == theirs["scale_factor"]
