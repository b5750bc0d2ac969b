"""Instance maps from COCO annotations, and what the teacher makes of them."""

import json

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.registry import DATASETS

from pe_dense.alignment.instance_mask_teacher import InstanceMaskTeacher
from pe_dense.alignment.mask_check import check_config
from pe_dense.data.instance_id_images import CocoInstanceIds, paint_instances
from pe_dense.data.photo_jitter import AspectJitterResize, PackImages, RandomMirror
from pe_dense.mini_world.formats import MiniWorldConfig, build_mini_world
from pe_dense.mini_world.world import make_image
from pe_dense.run.config import check_data


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
    ]
    expected = np.full((8, 8), -1)
    expected[1:6, 1:6] = 2
    expected[2:4, 2:4] = 1
    np.testing.assert_array_equal(paint_instances(masks, (8, 8)), expected)
    np.testing.assert_array_equal(paint_instances([], (2, 3)), np.zeros((2, 3)))
    with pytest.raises(ValueError, match="a mask is"):
        paint_instances(masks[2:3], (8, 9))


SIDE = 40


def folder(root, **changed):
    """Two images with a square each; `changed` goes into the first annotation."""
    content = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "square"}]}
    for number in (1, 2):
        name = f"{number}.png"
        cv2.imwrite(str(root / name), np.full((SIDE, SIDE, 3), 60 * number, np.uint8))
        content["images"].append({"id": number, "file_name": name, "width": SIDE, "height": SIDE})
        content["annotations"].append(
            {"id": number, "image_id": number, "category_id": 1, "bbox": [4, 4, 10, 10],
             "area": 100, "iscrowd": 0, "segmentation": square(4, 4, 10)}
        )  # fmt: skip
    content["annotations"][0] |= changed
    (root / "a.json").write_text(json.dumps(content))
    return content


def config(root, accept=()):
    dataset = {"type": "CocoInstanceIds", "data_root": str(root), "ann_file": "a.json"}
    check = "pe_dense.alignment.mask_check:check_config"
    return ConfigDict(train_dataloader={"dataset": dataset}, data_check=check, accept=list(accept))


FAULTS = {
    "a polygon of 4 numbers": ({"segmentation": [[1, 1, 20, 20]]}, "a polygon of 4 numbers"),
    "an odd count": ({"segmentation": [[1, 1, 20, 1, 20, 20, 3]]}, "a polygon of 7 numbers"),
    "texts": ({"segmentation": [["1", "1", "20", "1", "20", "20"]]}, "has a polygon"),
    "a flat list": ({"segmentation": [1, 1, 20, 1, 20, 20]}, "has a segmentation"),
    "nan": ({"segmentation": [[float("nan"), 1, 20, 1, 20, 20]]}, "numbers of pixels"),
    "outside": ({"segmentation": [[500, 500, 600, 500, 600, 600]]}, "in an image of 40 x 40"),
    "shares": ({"segmentation": [[0.1, 0.1, 0.3, 0.1, 0.3, 0.3]]}, "a mask without a pixel"),
    "none": ({"segmentation": None}, "has no segmentation"),
    "empty": ({"segmentation": []}, "has no segmentation"),
    "short runs": ({"segmentation": {"size": [40, 40], "counts": [10, 20]}}, "cover 30 px"),
    "negative runs": ({"segmentation": {"size": [40, 40], "counts": [10, -20, 1610]}}, "cover"),
    "text runs": ({"segmentation": {"size": [40, 40], "counts": "zzzz"}}, "run lengths that"),
    "another size": ({"segmentation": {"size": [5, 5], "counts": [0, 25]}}, "for 5 x 5 px"),
    "flag as text": ({"iscrowd": "0"}, "has iscrowd '0'"),
    "unlisted image": ({"image_id": 9}, "names image 9, which is not listed"),
    "unlisted class": ({"category_id": 9}, "names category 9, which is not listed"),
}


@pytest.mark.parametrize("changed, words", FAULTS.values(), ids=FAULTS)
def test_faults_of_masks_are_refused_as_in_detection(changed, words, tmp_path):
    folder(tmp_path, **changed)
    with pytest.raises(ValueError, match=rf"a\.json: annotation 1 .*{words}") as built:
        CocoInstanceIds(tmp_path, "a.json")
    with pytest.raises(ValueError, match=r"a\.json") as checked:
        check_data(config(tmp_path), ("train", "val"))
    assert str(checked.value).split(" (besides")[0] == str(built.value).split(" (besides")[0]


def test_repeated_image_ids_are_refused(tmp_path):
    content = folder(tmp_path)
    content["images"][1]["id"] = 1
    (tmp_path / "a.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"images\[1\] repeats id 1"):
        CocoInstanceIds(tmp_path, "a.json")


@pytest.mark.parametrize("flag", ["iscrowd", "ignore"])
def test_what_is_ignored_is_void(flag, tmp_path):
    content = folder(tmp_path, **{flag: 1})
    images = CocoInstanceIds(tmp_path, "a.json")
    assert np.unique(images[0]["instance_ids"]).tolist() == [-1, 0]
    assert np.unique(images[1]["instance_ids"]).tolist() == [0, 1]
    content["annotations"][1][flag] = 1
    (tmp_path / "a.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match="none an object"):
        CocoInstanceIds(tmp_path, "a.json")


def test_what_is_accepted_reaches_the_data_set(tmp_path):
    folder(tmp_path, bbox=[4, 4, -10, 10])
    with pytest.raises(ValueError, match="--accept negative-boxes"):
        CocoInstanceIds(tmp_path, "a.json")
    cfg = config(tmp_path, accept=["negative-boxes"])
    assert check_data(cfg, ("train",)) == [f"negative-boxes (1 in {tmp_path.name}/a.json)"]
    images = DATASETS.build(cfg.train_dataloader.dataset)
    assert np.unique(images[0]["instance_ids"]).tolist() == [-1, 0]  # left out: says nothing


def test_images_of_another_size_are_refused_and_missing_ones_are_skipped(tmp_path):
    folder(tmp_path)
    (tmp_path / "1.png").unlink()
    found = check_config(config(tmp_path), ("train",))
    assert [f.rule.name for f in found.findings] == ["missing-images"]
    assert not found.findings[0].is_problem
    images = CocoInstanceIds(tmp_path, "a.json", unreadable_list=tmp_path / "list.txt")
    assert images[0]["sample_idx"] == 1
    assert len((tmp_path / "list.txt").read_text().splitlines()) == 1
    cv2.imwrite(str(tmp_path / "1.png"), np.zeros((SIDE, 5, 3), np.uint8))
    with pytest.raises(ValueError, match=r"1\.png"):
        check_data(config(tmp_path), ("train", "val"))


def test_images_without_masks_have_no_check(tmp_path):
    cfg = config(tmp_path)
    cfg.train_dataloader.dataset = {"type": "UnlabelledImages", "data_root": str(tmp_path)}
    assert check_data(cfg, ("train",)) == []


def test_bad_files(tmp_path):
    with pytest.raises(ValueError, match=r"none\.json: does not exist"):
        CocoInstanceIds(tmp_path, "none.json")
    parts = {"images": [], "annotations": [], "categories": []}
    for content, words in (
        ({"images": []}, "has no list 'annotations'"),
        (parts, "lists no images"),
        ([], "is a list, not a COCO object"),
    ):
        (tmp_path / "a.json").write_text(json.dumps(content))
        with pytest.raises(ValueError, match=words):
            CocoInstanceIds(tmp_path, "a.json")
