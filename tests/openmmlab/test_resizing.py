"""Resize as the libraries do it, but for sides that they would round to nothing."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("mmdet")
pytest.importorskip("mmseg")

from mmdet.datasets.transforms import Resize as MMDetResize
from mmdet.structures.bbox import HorizontalBoxes
from mmdet.structures.mask import BitmapMasks
from mmengine.registry import TRANSFORMS, init_default_scope

import pe_dense.detection
import pe_dense.segmentation  # noqa: F401


def resize_of(scope: str, kind: str = "Resize", **more: object):
    """The transform that a config of this scope gets."""
    init_default_scope(scope)
    return TRANSFORMS.build(dict(type=kind, scale=(64, 64), keep_ratio=True, **more))


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
    found = resize_of("mmdet")(sample(*size))
    assert found["img"].shape[:2] == found["img_shape"] == expected
    assert found["gt_masks"].masks.shape[1:] == found["gt_seg_map"].shape == expected
    right, low = expected[1] / 2, expected[0]
    np.testing.assert_allclose(found["gt_bboxes"].tensor.numpy()[0, 2:], (right, low), rtol=1e-6)
    without_boxes = {key: sample(*size)[key] for key in ("img", "gt_seg_map", "seg_fields")}
    found = resize_of("mmseg")(without_boxes)
    assert found["img"].shape[:2] == found["gt_seg_map"].shape == expected


def test_a_random_resize_goes_on_with_other_pictures() -> None:
    resize = resize_of("mmdet", "RandomResize", ratio_range=(1.0, 1.0))
    assert resize(sample(2, 900))["img"].shape[:2] == (1, 64)
    assert resize(sample(32, 64))["img"].shape[:2] == (32, 64)
    assert resize.resize.keep_ratio


@pytest.mark.parametrize("size", [(48, 64), (20, 640), (5, 320)])
def test_other_pictures_are_resized_as_mmdet_does(size: tuple[int, int]) -> None:
    ours = resize_of("mmdet")(sample(*size))
    theirs = MMDetResize(scale=(64, 64), keep_ratio=True)(sample(*size))
    np.testing.assert_array_equal(ours["img"], theirs["img"])
    assert ours["scale_factor"] == theirs["scale_factor"]
