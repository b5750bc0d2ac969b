"""Loading and augmentation of depth maps against hand-solved cases and slow versions."""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

pytest.importorskip("mmseg")

from mmengine.registry import TRANSFORMS, init_default_scope

import pe_dense.depth  # noqa: F401
from pe_dense.data.depth_map import metres, read_depth_steps
from pe_dense.depth.depth_transforms import (
    BrightnessJitter,
    DepthRandomCrop,
    KBCrop,
    LoadDepth,
    NYUTrainCrop,
    PackDepthInputs,
    RotateDepth,
)


@pytest.fixture(autouse=True)
def scope():
    init_default_scope("mmseg")


def numbered(height, width):
    """Image and depth whose values name their place: 1 + row * width + column."""
    place_HW = np.arange(1, height * width + 1, dtype=np.float32).reshape(height, width)
    image_HWC = (place_HW[..., None] % np.array([251, 241, 239])).astype(np.uint8)
    return dict(
        img=image_HWC,
        img_path="a.jpg",
        depth_map_path="a.png",
        gt_depth_map=place_HW,
        seg_fields=["gt_depth_map"],
        ori_shape=(height, width),
        img_shape=(height, width),
    )


def sample_of(path, shape=(4, 6), **more):
    return dict(
        depth_map_path=str(path), ori_shape=shape, depth_scale=1000.0, seg_fields=[], **more
    )


# Loading


@pytest.mark.parametrize("scale", [1000.0, 256.0])
def test_metres_are_steps_over_scale(tmp_path, scale):
    steps = np.array([[0, 1, 256, 1000, 2560, 65535]] * 4, np.uint16)
    cv2.imwrite(str(tmp_path / "d.png"), steps)
    found = LoadDepth().transform(sample_of(tmp_path / "d.png") | dict(depth_scale=scale))
    depth = found["gt_depth_map"]
    assert depth.dtype == np.float32 and found["seg_fields"] == ["gt_depth_map"]
    np.testing.assert_allclose(depth, steps.astype(float) / scale, rtol=1e-6)


def test_the_rotation_of_bits_is_undone():
    """Millimetres, written as SUN RGB-D does: shifted up by three, the top bits come in below."""
    for mm in (0, 1, 7, 8, 2345, 8000, 10000, 65535):
        stored = ((mm << 3) & 0xFFFF) | (mm >> 13)
        found = metres(np.array([[stored]], np.uint16), 1000.0, bit_rotation=3)
        assert found.item() == pytest.approx(mm / 1000)


@pytest.mark.parametrize(("scale", "rotation"), [(0, 0), (-1, 0), (1000, 16), (1000, -1)])
def test_scales_that_cannot_be(scale, rotation):
    with pytest.raises(ValueError, match="depth scale|bit_rotation"):
        metres(np.ones((1, 1), np.uint16), scale, rotation)


def test_files_that_hold_no_depth(tmp_path):
    ones = np.ones((4, 6), np.uint16)
    cases = {
        "eight.png": (ones.astype(np.uint8), "is uint8 and not uint16"),
        "colour.png": (np.ones((4, 6, 3), np.uint16), "has 3 channels"),
        "zero.png": (ones * 0, "is 0 everywhere"),
        "size.png": (np.ones((6, 4), np.uint16), "is 6x4 px but its image is 4x6"),
    }
    for name, (values, words) in cases.items():
        cv2.imwrite(str(tmp_path / name), values)
        with pytest.raises(ValueError, match=f"{name}.*{words}"):
            LoadDepth().transform(sample_of(tmp_path / name))
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nno")
    (tmp_path / "empty.png").write_bytes(b"")
    for name in ("broken.png", "empty.png"):
        with pytest.raises(ValueError, match=f"{name}: cannot be decoded"):
            LoadDepth().transform(sample_of(tmp_path / name))
    with pytest.raises(ValueError, match=r"absent.png: does not exist"):
        read_depth_steps(tmp_path / "absent.png")


# Crops


def test_the_nyu_crop_by_its_corners():
    found = NYUTrainCrop().transform(numbered(480, 640))
    depth = found["gt_depth_map"]
    assert depth.shape == found["img"].shape[:2] == found["img_shape"] == (427, 565)
    assert depth[0, 0] == 1 + 45 * 640 + 43 and depth[-1, -1] == 1 + 471 * 640 + 607
    with pytest.raises(ValueError, match=r"a.jpg is 471x640"):
        NYUTrainCrop().transform(numbered(471, 640))


def test_the_kb_crop_is_what_is_scored():
    found = KBCrop().transform(numbered(375, 1242))
    depth = found["gt_depth_map"]
    assert depth.shape == found["ori_shape"] == found["img_shape"] == (352, 1216)
    assert depth[0, 0] == 1 + 23 * 1242 + 13 and depth[-1, -1] == 1 + 374 * 1242 + 1228
    with pytest.raises(ValueError, match="KB crop"):
        KBCrop().transform(numbered(351, 1242))


def test_random_crops_cut_image_and_depth_alike_and_reach_every_place():
    np.random.seed(0)  # noqa: NPY002
    crop, corners = DepthRandomCrop((3, 4)), set()
    for _ in range(200):
        source = numbered(5, 6)
        found = crop.transform(dict(source))
        row, column = divmod(int(found["gt_depth_map"][0, 0]) - 1, 6)
        corners.add((row, column))
        box = slice(row, row + 3), slice(column, column + 4)
        np.testing.assert_array_equal(found["gt_depth_map"], source["gt_depth_map"][box])
        np.testing.assert_array_equal(found["img"], source["img"][box])
    assert corners == {(r, c) for r in range(3) for c in range(3)}


def test_crops_that_cannot_be():
    with pytest.raises(ValueError, match="crop_size 6x6 is larger than image a.jpg with 5x6"):
        DepthRandomCrop((6, 6)).transform(numbered(5, 6))
    with pytest.raises(ValueError, match="positive height and width"):
        DepthRandomCrop((0, 6))


# Turning and mirroring


def test_rotation_takes_the_nearest_depth_and_leaves_the_corners_unknown(monkeypatch):
    height, width, angle = 40, 60, 2.0
    drawn = iter([0.1, angle])
    monkeypatch.setattr("pe_dense.depth.depth_transforms._uniform", lambda low, high: next(drawn))
    source = numbered(height, width)
    found = RotateDepth().transform(dict(source))["gt_depth_map"]
    # Slow: where each pixel comes from, clockwise about the centre.
    middle_y, middle_x, turn = (height - 1) / 2, (width - 1) / 2, math.radians(angle)
    wrong = compared = 0
    for y in range(height):
        for x in range(width):
            dy, dx = y - middle_y, x - middle_x
            from_x = middle_x + math.cos(turn) * dx + math.sin(turn) * dy
            from_y = middle_y - math.sin(turn) * dx + math.cos(turn) * dy
            near_edge = any(abs(v % 1 - 0.5) < 0.05 for v in (from_x, from_y))
            if near_edge:  # OpenCV rounds places to 1/32 pixel
                continue
            row, column = round(from_y), round(from_x)
            inside = 0 <= row < height and 0 <= column < width
            expected = source["gt_depth_map"][row, column] if inside else 0
            wrong += found[y, x] != expected
            compared += 1
    assert compared > 1500 and wrong == 0
    assert (found == 0).any()
    assert set(np.unique(found)) <= {0, *source["gt_depth_map"].ravel().tolist()}


def test_rotation_turns_with_its_chance_within_its_range():
    np.random.seed(0)  # noqa: NPY002
    same = sum(
        np.array_equal(RotateDepth().transform(numbered(30, 40))["img"], numbered(30, 40)["img"])
        for _ in range(200)
    )
    assert 70 < same < 130
    still = RotateDepth(prob=0).transform(numbered(9, 9))
    np.testing.assert_array_equal(still["gt_depth_map"], numbered(9, 9)["gt_depth_map"])
    with pytest.raises(ValueError, match="prob is 2"):
        RotateDepth(prob=2)
    with pytest.raises(ValueError, match="degree is -1"):
        RotateDepth(degree=-1)


def test_mmseg_s_flip_mirrors_depth_too():
    flip = TRANSFORMS.build(dict(type="RandomFlip", prob=1.0))
    source = numbered(5, 6)
    found = flip(dict(source))
    np.testing.assert_array_equal(found["gt_depth_map"], source["gt_depth_map"][:, ::-1])
    np.testing.assert_array_equal(found["img"], source["img"][:, ::-1])


# Colours


def test_jitter_by_hand(monkeypatch):
    drawn = iter([0.0, 1.1, 0.8, 1.0, 0.9, 1.05])
    monkeypatch.setattr("pe_dense.depth.depth_transforms._uniform", lambda low, high: next(drawn))
    pixels = np.array([[[0, 10, 100], [255, 200, 250]]], np.uint8)
    found = BrightnessJitter().transform(dict(img=pixels))["img"]
    expected = [
        [min(255, float(v) ** 1.1 * 0.8 * c) for v, c in zip(p, (1, 0.9, 1.05), strict=True)]
        for p in pixels[0]
    ]
    assert found.dtype == np.float32
    np.testing.assert_allclose(found[0], expected, rtol=1e-5)


def test_jitter_with_a_peak_keeps_black_and_white(monkeypatch):
    drawn = iter([0.0, 0.9, 1.0, 1.0, 1.0, 1.0])
    monkeypatch.setattr("pe_dense.depth.depth_transforms._uniform", lambda low, high: next(drawn))
    pixels = np.array([[[0, 255, 51]]], np.uint8)
    found = BrightnessJitter(peak=255).transform(dict(img=pixels))["img"]
    np.testing.assert_allclose(found[0, 0], [0, 255, 255 * 0.2**0.9], rtol=1e-5)


def test_jitter_stays_in_range_and_repeats_with_the_seed():
    def draws():
        np.random.seed(3)  # noqa: NPY002
        return [BrightnessJitter().transform(numbered(4, 5))["img"] for _ in range(40)]

    first, second = draws(), draws()
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    assert all(a.min() >= 0 and a.max() <= 255 for a in first)
    assert 8 < sum(a.dtype == np.uint8 for a in first) < 32
    assert BrightnessJitter(prob=0).transform(numbered(4, 5))["img"].dtype == np.uint8


@pytest.mark.parametrize(
    "bad", [dict(prob=-0.1), dict(gamma=(0, 1)), dict(brightness=(1.2, 0.8)), dict(peak=0)]
)
def test_jitter_that_cannot_be(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        BrightnessJitter(**bad)


# Packing


def test_packing():
    packed = PackDepthInputs().transform(
        DepthRandomCrop((3, 4)).transform(numbered(5, 6) | dict(sequence="s", image_id="i"))
    )
    sample = packed["data_samples"]
    depth = sample.gt_depth_map.data
    assert depth.shape == (1, 3, 4) and depth.dtype == torch.float32
    assert packed["inputs"].shape == (3, 3, 4)
    meta = sample.metainfo
    assert (meta["sequence"], meta["image_id"], meta["img_shape"]) == ("s", "i", (3, 4))
    assert meta["ori_shape"] == (5, 6) and meta["img_path"] == "a.jpg"


def test_packing_refuses_steps():
    results = numbered(5, 6)
    results["gt_depth_map"] = results["gt_depth_map"].astype(np.uint16)
    with pytest.raises(ValueError, match=r"a.png is uint16"):
        PackDepthInputs().transform(results)


TOOLBOX = np.load(Path(__file__).resolve().parents[1] / "golden/depth_toolbox_transforms.npz")


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    ("name", "transform"),
    [
        ("rotate", RotateDepth(prob=0.5, degree=2.5)),
        ("crop", DepthRandomCrop(crop_size=(12, 15))),
        ("colour", BrightnessJitter(prob=0.5, brightness=(0.75, 1.25))),
    ],
)
def test_transforms_draw_and_give_what_those_of_the_toolbox_do(name, transform, seed):
    results = dict(img=TOOLBOX["image"].copy(), gt_depth_map=TOOLBOX["depth"].astype(np.float32))
    np.random.seed(seed)  # noqa: NPY002 (what mmcv draws from)
    found = transform(results)
    known = TOOLBOX[f"{name}.{seed}.image"]
    np.testing.assert_allclose(found["img"], known, rtol=2e-6, atol=0)
    if name != "colour":
        np.testing.assert_array_equal(
            found["gt_depth_map"].astype(np.float16), TOOLBOX[f"{name}.{seed}.depth"]
        )


@pytest.mark.parametrize(
    ("name", "transform", "size"),
    [("NYUCrop", NYUTrainCrop(), (480, 640)), ("KBCrop", KBCrop(), (375, 1242))],
)
def test_border_crops_are_those_of_the_toolbox(name, transform, size):
    rows, columns = np.mgrid[: size[0], : size[1]]
    depth = (rows * 2000 + columns).astype(np.float32)
    found = transform(dict(img=np.zeros((*size, 3), np.uint8), gt_depth_map=depth))["gt_depth_map"]
    top, bottom, left, right = TOOLBOX[name]
    np.testing.assert_array_equal(found, depth[top:bottom, left:right])
