"""The resizing rule against the reference's table, and what the transforms do to boxes."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmdet.structures.bbox import HorizontalBoxes
from PIL import Image

from pe_dense.detection.deta_transforms import DETAResize, DETAScaleJitter, detr_size


@pytest.mark.parametrize(
    ("width", "height", "expected"),
    [
        (640, 480, (1792, 1344)),
        (640, 427, (1792, 1196)),
        (427, 640, (1196, 1792)),
        (640, 426, (1792, 1193)),
        (500, 375, (1792, 1344)),
        (612, 612, (1792, 1792)),
    ],
)
def test_evaluation_sizes_of_the_reference(width, height, expected):
    assert detr_size(height, width, 1792, 1792) == expected[::-1]
    results = DETAResize(canvas=1824)(dict(img=picture(height, width)))
    assert results["img"].shape == (*expected[::-1], 3)
    assert results["img_shape"] == expected[::-1]


def test_short_side_without_limit_and_with_one():
    assert detr_size(100, 200, 400, None) == (400, 800)
    assert detr_size(200, 100, 400, 600) == (600, 300)
    assert detr_size(3, 1, 5, 7) == (6, 2)  # round(7 / 3) = 2, then truncation


def test_the_longer_side_never_leaves_the_canvas():
    longest = 0
    for height in range(20, 1400, 3):
        size = detr_size(height, 640, 1792, 1792)
        longest = max(longest, *size)
    assert longest <= 1824 - 1


def test_a_line_of_pixels_stays_one():
    assert detr_size(3, 4000, 1792, 1792) == (1, 1333)
    assert detr_size(4001, 1, 1792, 1792) == (1792, 1)
    assert DETAResize(canvas=128)(dict(img=picture(2, 900)))["img"].shape == (1, 96, 3)


def picture(height, width, seed=0):
    generator = np.random.default_rng(seed)
    return generator.integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_pixels_are_pillows():
    image = picture(30, 40)
    resized = DETAResize(short=60, backend="pillow")(dict(img=image))["img"]
    expected = np.asarray(Image.fromarray(image).resize((80, 60), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(resized, expected)


@pytest.mark.parametrize("antialias", [False, True])
def test_views_are_resized_twice_and_not_rounded(antialias):
    image = picture(48, 64)
    first = DETAResize(canvas=128)(dict(img=image))["img"]
    view = DETAResize(canvas=128, view=72, antialias=antialias)(dict(img=image))
    size = tuple(int(72 / 96 * side) for side in first.shape[:2])
    assert view["img_shape"] == size == view["img"].shape[:2]
    planes = torch.from_numpy(first.copy()).permute(2, 0, 1)[None].float()
    expected = F.interpolate(planes, size, mode="bilinear", antialias=antialias)[0]
    np.testing.assert_array_equal(view["img"], expected.permute(1, 2, 0).numpy())
    scale_x, scale_y = view["scale_factor"]
    assert (64 * scale_x, 48 * scale_y) == pytest.approx((size[1], size[0]))


def test_boxes_follow_the_image():
    boxes = HorizontalBoxes(torch.tensor([[10.0, 20, 30, 40]]))
    results = DETAResize(short=96)(dict(img=picture(48, 64), gt_bboxes=boxes))
    assert results["gt_bboxes"].tensor.tolist() == [[20, 40, 60, 80]]


@pytest.mark.parametrize("seed", range(12))
def test_jitter_stays_on_the_canvas_and_keeps_boxes_inside(seed):
    np.random.seed(seed)  # noqa: NPY002
    boxes = HorizontalBoxes(torch.tensor([[50.0, 60, 300, 200], [0, 0, 639, 10]]))
    results = dict(
        img=picture(427, 640),
        img_shape=(427, 640),
        gt_bboxes=boxes,
        gt_bboxes_labels=np.array([3, 4]),
        gt_ignore_flags=np.zeros(2, dtype=bool),
    )
    out = DETAScaleJitter(canvas=640)(results)
    height, width = out["img"].shape[:2]
    assert max(height, width) < 640
    assert len(out["gt_bboxes_labels"]) == len(out["gt_bboxes"])
    corners = out["gt_bboxes"].tensor
    assert (corners >= 0).all()
    assert (corners[:, 2] <= width).all()
    assert (corners[:, 3] <= height).all()


def test_jitter_draws_both_branches_reproducibly():
    def sizes(seed):
        np.random.seed(seed)  # noqa: NPY002
        jitter = DETAScaleJitter(canvas=1024)
        return [jitter(dict(img=picture(480, 640)))["img"].shape[:2] for _ in range(12)]

    assert sizes(1) == sizes(1)
    found = sizes(1)
    assert len(set(found)) > 4
    ratios = {round(width / height, 2) for height, width in found}
    assert len(ratios) > 2  # crops have other shapes than 4:3


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, "give at least one"),
        (dict(short=0), "above 0"),
        (dict(canvas=32), "above 0"),
        (dict(canvas=640, short=600), "give one of both"),
        (dict(short=[400, 500], view=-1), "above 0"),
    ],
)
def test_bad_sides_are_refused(settings, words):
    with pytest.raises(ValueError, match=words):
        DETAResize(**settings)


def test_a_canvas_too_small_for_the_jitter_is_refused():
    with pytest.raises(ValueError, match="leaves no size from 480 on"):
        DETAScaleJitter(canvas=480)


def test_views_with_annotations_are_refused():
    boxes = HorizontalBoxes(torch.tensor([[10.0, 20, 30, 40]]))
    with pytest.raises(ValueError, match="load annotations after it"):
        DETAResize(canvas=128, view=64)(dict(img=picture(48, 64), gt_bboxes=boxes))
