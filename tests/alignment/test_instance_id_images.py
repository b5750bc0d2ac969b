"""Instance maps from COCO annotations, and what the teacher makes of them."""

import json

import numpy as np
import pytest
import torch

from pe_dense.alignment.instance_mask_teacher import InstanceMaskTeacher
from pe_dense.data.instance_id_images import CocoInstanceIds, paint_instances
from pe_dense.data.photo_jitter import AspectJitterResize, PackImages, RandomMirror
from pe_dense.mini_world.formats import MiniWorldConfig, build_mini_world
from pe_dense.mini_world.world import make_image


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    root = tmp_path_factory.mktemp("world") / "mini"
    build_mini_world(root, MiniWorldConfig(train=3, val=1, clips=2, frames=3, image_size=96))
    return root


def coco(world, **options):
    return CocoInstanceIds(world / "coco", "annotations/train.json", "images/train", **options)


def test_coco_maps_are_the_masks_that_were_drawn(world):
    images = coco(world)
    assert len(images) == 3
    for index in range(3):
        frame = make_image(0, "train", index, 96)
        objects = [item for item in frame.objects if item.is_annotated]
        ids = images[index]["instance_ids"]
        assert ids.shape == (96, 96) and ids.max() == len(objects)
        for number, item in enumerate(objects, start=1):
            np.testing.assert_array_equal(ids == number, frame.ids == item.track_id)


def test_whole_path_from_the_mini_world_to_tokens(world):
    images = coco(world, pipeline=[AspectJitterResize(64), RandomMirror(), PackImages()])
    packed = [images[i] for i in range(3)]
    inputs = torch.stack([p["inputs"] for p in packed]).flip(1).float() / 255
    samples = [p["data_samples"] for p in packed]
    tokens = InstanceMaskTeacher(points_per_side=16)(inputs, (8, 8), samples)
    assert tokens.shape == (3, 64, 256) and bool(torch.isfinite(tokens).all())
    assert samples[0].instance_ids.shape == (64, 64)


def square(top, left, side):
    right, bottom = left + side, top + side
    return [[left, top, right, top, right, bottom, left, bottom]]


def test_smaller_instances_lie_on_top_and_crowds_are_void_below():
    masks = [
        {"segmentation": square(2, 2, 2), "is_void": False},
        {"segmentation": square(1, 1, 5), "is_void": False},
        {"segmentation": {"size": [8, 8], "counts": [0, 64]}, "is_void": True},
        {"segmentation": [], "is_void": False},
    ]
    expected = np.full((8, 8), -1)
    expected[1:6, 1:6] = 2
    expected[2:4, 2:4] = 1
    np.testing.assert_array_equal(paint_instances(masks, (8, 8)), expected)
    np.testing.assert_array_equal(paint_instances([], (2, 3)), np.zeros((2, 3)))
    with pytest.raises(ValueError, match="a mask is"):
        paint_instances(masks[2:3], (8, 9))


def test_broken_annotation_is_skipped_and_listed(world, tmp_path):
    import shutil

    shutil.copytree(world / "coco", tmp_path / "coco")
    path = tmp_path / "coco/annotations/train.json"
    content = json.loads(path.read_text())
    first = content["images"][0]["id"]
    for item in content["annotations"]:
        if item["image_id"] == first:
            item["segmentation"]["size"] = [5, 5]
    path.write_text(json.dumps(content))
    listed = tmp_path / "list.txt"
    images = coco(tmp_path, unreadable_list=listed)
    assert images[0]["sample_idx"] == 1
    assert len(listed.read_text().splitlines()) == 1


def test_bad_files(world, tmp_path):
    with pytest.raises(ValueError, match="cannot be read as JSON"):
        CocoInstanceIds(tmp_path, "none.json")
    for content, words in (
        ({"images": []}, "no COCO file with masks"),
        ({"images": [], "annotations": []}, "names no image"),
        ([], "no COCO file with masks"),
    ):
        (tmp_path / "a.json").write_text(json.dumps(content))
        with pytest.raises(ValueError, match=words):
            CocoInstanceIds(tmp_path, "a.json")
