"""Resize as the libraries do it, but for sides that they would round to nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("mmdet")
pytest.importorskip("mmseg")

from mmdet.datasets.transforms import Resize as MMDetResize
from mmdet.structures.bbox import HorizontalBoxes
from mmdet.structures.mask import BitmapMasks
from mmengine.registry import TRANSFORMS, init_default_scope
from mmseg.datasets.transforms import Resize as MMSegResize

import pe_dense.detection
import pe_dense.segmentation  # noqa: F401
from pe_dense.openmmlab.resizing import size_within


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


# ---- antialiased, as DINOv3 ----------------------------------------------------------------------

GOLDEN = np.load(Path(__file__).resolve().parents[1] / "golden/dinov3_resize.npz")


def antialiasing(side: int, kind: str = "Resize", **more: object):
    init_default_scope("mmseg")
    options = dict(scale=(99_999_999, side), keep_ratio=True, antialias=True, **more)
    return TRANSFORMS.build(dict(type=kind, **options))


@pytest.mark.parametrize("case", range(4))
@pytest.mark.parametrize("kind", ["Resize", "RandomResize"])
def test_images_labels_and_sizes_are_those_of_dinov3(case: int, kind: str) -> None:
    more = dict(ratio_range=(1.0, 1.0)) if kind == "RandomResize" else {}
    resize = antialiasing(int(GOLDEN[f"side_{case}"]), kind, **more)
    image_bgr = np.ascontiguousarray(GOLDEN[f"image_{case}"][..., ::-1])
    labels = GOLDEN[f"labels_{case}"]
    found = resize(dict(img=image_bgr, gt_seg_map=labels, seg_fields=["gt_seg_map"]))
    expected = GOLDEN[f"resized_{case}"]
    np.testing.assert_array_equal(found["img"][..., ::-1], expected)
    np.testing.assert_array_equal(found["gt_seg_map"], GOLDEN[f"resized_labels_{case}"])
    assert found["gt_seg_map"].dtype == np.uint8
    assert found["img_shape"] == expected.shape[:2]
    scales = (expected.shape[1] / labels.shape[1], expected.shape[0] / labels.shape[0])
    assert found["scale_factor"] == pytest.approx(scales)


def test_sides_between_two_pixels_are_rounded_as_there() -> None:
    """mmcv rounds the product of a rounded quotient: another size for each of these."""
    for height, width, side, new_height, new_width in GOLDEN["sizes"].tolist():
        found = antialiasing(side)(dict(img=np.zeros((height, width, 3), np.uint8)))
        assert found["img"].shape[:2] == (new_height, new_width)


def test_the_longer_side_stays_within_its_bound() -> None:
    assert size_within((100, 400), (200, 100), True) == (50, 200)
    assert size_within((400, 100), (200, 100), True) == (200, 50)
    assert size_within((1, 4000), (64, 64), True) == (1, 64)
    assert size_within((10, 20), (7, 5), False) == (5, 7)


def test_without_the_option_nothing_changes() -> None:
    one = sample(48, 64)
    del one["gt_bboxes"], one["gt_masks"]
    ours = resize_of("mmseg")(dict(one))
    theirs = MMSegResize(scale=(64, 64), keep_ratio=True)(dict(one))
    for key in ("img", "gt_seg_map"):
        np.testing.assert_array_equal(ours[key], theirs[key])


def test_what_cannot_be_antialiased_is_refused() -> None:
    with pytest.raises(ValueError, match="antialias=True and backend='pillow'"):
        antialiasing(64, backend="pillow")
    with pytest.raises(ValueError, match="float32; it needs uint8"):
        antialiasing(64)(dict(img=np.zeros((8, 8, 3), np.float32)))
