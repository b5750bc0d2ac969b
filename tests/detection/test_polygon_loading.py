"""Masks as polygons: exact boxes, run lengths beside polygons, crowds, whole numbers, configs."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from mmcv.transforms import Compose
from mmdet.datasets.transforms import RandomFlip
from mmdet.structures.mask import PolygonMasks
from mmdet.utils import register_all_modules
from mmengine.registry import TRANSFORMS
from PIL import Image
from pycocotools import mask as coding

from pe_dense.detection.coco_dataset import CocoDataset
from pe_dense.detection.large_scale_jitter import LargeScaleJitter
from pe_dense.detection.polygon_loading import LoadPolygons, polygons_of, rectangles_of
from pe_dense.run.config import load_config

CONFIGS = Path(__file__).resolve().parents[2] / "configs/detection"
CROSS = [[8.0, 0, 12, 0, 12, 20, 8, 20], [0.0, 8, 20, 8, 20, 12, 0, 12]]


def covered(parts, height, width):
    """Pixels of polygons, as pycocotools draws them."""
    return PolygonMasks([parts], height, width).to_ndarray()[0].astype(bool)


@pytest.mark.parametrize("seed", range(6))
def test_rectangles_cover_a_bitmap_exactly_and_never_twice(seed):
    rng = np.random.default_rng(seed)
    mask = rng.random((17, 23)) < (0.1, 0.5, 0.9)[seed % 3]
    parts = rectangles_of(mask)
    np.testing.assert_array_equal(covered(parts, 17, 23), mask)
    sides = [(p[2] - p[0]) * (p[5] - p[1]) for p in parts]
    assert sum(sides) == mask.sum()


def test_rectangles_join_columns_and_leave_holes():
    ring = np.ones((5, 6), bool)
    ring[1:4, 2:4] = False
    assert len(rectangles_of(ring)) == 4
    np.testing.assert_array_equal(covered(rectangles_of(ring), 5, 6), ring)
    assert rectangles_of(np.zeros((4, 4))) == []
    assert len(rectangles_of(np.ones((4, 4)))) == 1


@pytest.mark.parametrize("factor", [0.37, 1.0, 1.9, 3.3])
def test_resized_rectangles_have_no_seams(factor):
    mask = np.tri(30, dtype=bool)  # every column another run
    parts = [part * factor for part in rectangles_of(mask)]
    side = int(30 * factor)
    drawn = covered(parts, side, side)
    inside = np.tri(side, k=-2, dtype=bool)  # away from the border
    assert drawn[inside].all()


def test_run_lengths_as_numbers_and_as_strings():
    mask = np.zeros((9, 7), np.uint8, order="F")
    mask[2:5, 1:6] = 1
    encoded = coding.encode(mask)
    for segmentation in (encoded, dict(size=[9, 7], counts=[11, 3, 6, 3, 6, 3, 6, 3, 6, 3, 13])):
        (part,) = polygons_of(segmentation, (9, 7))
        assert part.tolist() == [1, 2, 6, 2, 6, 5, 1, 5]
    with pytest.raises(ValueError, match=r"run lengths of \[9, 7\], but its image has \[7, 9\]"):
        polygons_of(encoded, (7, 9))


def test_parts_that_are_no_polygons_leave():
    assert polygons_of([[1, 1, 2, 2], [0, 0, 4, 0, 4, 4, 0]], (9, 7)) == []
    (part,) = polygons_of([[1, 1, 2, 2], [0, 0, 4, 0, 4, 4]], (9, 7))
    assert part.dtype == np.float64


@pytest.fixture
def folder(tmp_path):
    """One picture; polygons, whole numbers, run lengths, a crowd and what is none."""
    ring = np.zeros((40, 60), np.uint8, order="F")
    ring[10:30, 20:40] = 1
    ring[15:25, 25:35] = 0
    coded = coding.encode(ring)
    coded["counts"] = coded["counts"].decode()
    crowd = dict(size=[40, 60], counts=[0, 40 * 30, 40 * 30])
    shapes = [
        ([2, 3, 20, 20], [(np.array(part) + [2, 3] * 4).tolist() for part in CROSS], 0),
        ([41, 5, 12, 12], [[41, 5, 53, 5, 53, 17, 41, 17]], 0),
        ([20, 10, 20, 20], coded, 0),
        ([0, 0, 30, 40], crowd, 1),
        ([5, 30, 4, 4], [[5, 30, 9, 34]], 0),
    ]
    annotations = [
        dict(id=k + 1, image_id=1, category_id=1, bbox=box, segmentation=s, area=50, iscrowd=c)
        for k, (box, s, c) in enumerate(shapes)
    ]
    # The second picture has a crowd alone.
    annotations.append(dict(annotations[3], id=9, image_id=2))
    images = [dict(id=n, file_name=f"{n}.png", height=40, width=60) for n in (1, 2)]
    content = dict(images=images, annotations=annotations, categories=[dict(id=1, name="thing")])
    (tmp_path / "a.json").write_text(json.dumps(content))
    for n in (1, 2):
        Image.new("RGB", (60, 40)).save(tmp_path / f"{n}.png")
    return tmp_path


def data_set(folder, **filter_cfg):
    return CocoDataset(
        data_root=str(folder), ann_file="a.json", data_prefix=dict(img=""),
        metainfo=dict(classes=("thing",)),
        filter_cfg=dict(filter_empty_gt=True, **filter_cfg),
    )  # fmt: skip


def loaded(folder):
    results = data_set(folder).get_data_info(0)
    results.update(img=np.zeros((40, 60, 3), np.uint8), img_shape=(40, 60), ori_shape=(40, 60))
    return LoadPolygons(with_bbox=True, with_mask=True)(results)


def test_all_kinds_of_masks_in_one_file(folder):
    found = loaded(folder)
    assert found["gt_ignore_flags"].tolist() == [False, False, False, True, True]
    assert [len(parts) for parts in found["gt_masks"]] == [2, 1, 4, 1, 1]
    ring = found["gt_masks"].to_ndarray()[2]
    assert ring.sum() == 300 and not ring[15:25, 25:35].any()
    crowd, no_polygon = found["gt_masks"][[3, 4]].get_bboxes("hbox").tensor.tolist()
    assert (crowd, no_polygon) == ([0, 0, 30, 40], [5, 30, 9, 34])


def test_they_stay_exact_through_flip_resize_and_crop(folder):
    found = LargeScaleJitter(canvas=1000, scales=(0.7, 0.7))(RandomFlip(prob=1.0)(loaded(folder)))
    height, width = found["img_shape"]
    assert (height, width) == (467, 700)
    boxes = found["gt_bboxes"].tensor.numpy()[[0, 1, 2]]
    exact = np.array([[2, 3, 22, 23], [41, 5, 53, 17], [20, 10, 40, 30]], float)
    exact[:, [0, 2]] = 60 - exact[:, [2, 0]]
    np.testing.assert_allclose(boxes, exact * ([width / 60, height / 40] * 2), rtol=1e-5)


def test_whole_numbers_are_not_rounded(folder):
    found = LargeScaleJitter(canvas=64, scales=(0.55, 0.55))(loaded(folder))
    (part,) = found["gt_masks"].masks[1]
    assert any(value % 1 for value in part)


def test_an_object_without_a_mask_is_refused(folder):
    results = data_set(folder).get_data_info(0)
    del results["instances"][0]["mask"]
    results.update(img=np.zeros((40, 60, 3), np.uint8), ori_shape=(40, 60))
    with pytest.raises(ValueError, match=r"1.png has an object at \[2.*without a segmentation"):
        LoadPolygons(with_mask=True)(results)
    with pytest.raises(ValueError, match="use LoadAnnotations for boxes alone"):
        LoadPolygons(with_mask=False)


def test_images_of_crowds_alone_leave_when_asked(folder):
    assert len(data_set(folder)) == 2
    assert len(data_set(folder, filter_only_ignored=True)) == 1


def test_empty_images_and_lost_objects():
    empty = dict(
        img=np.zeros((40, 60, 3), np.uint8), img_shape=(40, 60), ori_shape=(40, 60), instances=[]
    )
    found = LargeScaleJitter(canvas=32)(LoadPolygons(with_mask=True)(empty))
    assert len(found["gt_bboxes"]) == len(found["gt_masks"]) == 0
    assert found["gt_bboxes"].tensor.shape == (0, 4)
    corner = dict(bbox=[0, 0, 2, 2], bbox_label=0, ignore_flag=0, mask=[[0, 0, 2, 0, 2, 2]])
    np.random.seed(0)  # noqa: NPY002  (a crop far from the corner)
    lost = {**empty, "img": np.zeros((40, 60, 3), np.uint8), "instances": [corner]}
    found = LargeScaleJitter(canvas=32, scales=(2.0, 2.0))(LoadPolygons(with_mask=True)(lost))
    assert len(found["gt_bboxes_labels"]) == len(found["gt_masks"]) == 0


@pytest.mark.parametrize(
    ("options", "words"),
    [(dict(canvas=0), "above 0"), (dict(canvas=8, scales=(0, 1)), "above 0"),
     (dict(canvas=8, scales=(2, 1)), "smallest")],
)  # fmt: skip
def test_bad_settings_of_the_jitter(options, words):
    with pytest.raises(ValueError, match=words):
        LargeScaleJitter(**options)


def test_the_jitter_refuses_bitmaps():
    results = dict(img=np.zeros((8, 8, 3), np.uint8), gt_masks=np.zeros((0, 8, 8)))
    with pytest.raises(ValueError, match="load with LoadPolygons"):
        LargeScaleJitter(canvas=8)(results)


# Through the configs


def small_objects(rng, number, height, width):
    found = []
    for _ in range(number):
        side, angle = rng.uniform(10, 32), np.sort(rng.uniform(0, 2 * np.pi, 9))
        x, y = rng.uniform(20, width - 20), rng.uniform(20, height - 20)
        points = np.stack([x + side / 2 * np.cos(angle), y + side / 2 * np.sin(angle)], 1)
        box = [*points.min(0).tolist(), *points.max(0).tolist()]
        mask = [points.ravel().tolist()]
        found.append(dict(bbox=box, bbox_label=0, ignore_flag=0, mask=mask))
    return found


def iou_of_pairs(a_N4, b_N4):
    wh = np.minimum(a_N4[:, 2:], b_N4[:, 2:]) - np.maximum(a_N4[:, :2], b_N4[:, :2])
    inter = wh.clip(0).prod(1)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(1) for boxes in (a_N4, b_N4)]
    return inter / (sum(areas) - inter)


@pytest.mark.parametrize(
    "name",
    ["vitdet_pe_spatial_g14_coco_36ep.py", "vitdet_pe_core_g14_lvis_75ep.py",
     "frozen_vitdet_coco_15ep.py", "vitdet_pe_t16_mini.py"],
)  # fmt: skip
def test_boxes_that_configs_train_on_are_exact_at_small_objects(name):
    """Every object of an image that is not cropped, and the box of its polygon."""
    register_all_modules(init_default_scope=True)
    cfg, _ = load_config(CONFIGS / name, weights="random")
    steps = [dict(step) for step in cfg.train_dataloader.dataset.pipeline]
    assert steps.pop(0)["type"] == "LoadImage"
    steps[-1] = dict(type="PackDetInputs", meta_keys=("img_shape", "flip"))
    pipeline = Compose([TRANSFORMS.build(step) for step in steps])
    rng = np.random.default_rng(0)
    seen = 0
    for seed in range(12):
        np.random.seed(seed)  # noqa: NPY002
        objects = small_objects(rng, 20, 480, 640)
        image = np.zeros((480, 640, 3), np.uint8)
        sample = pipeline(
            dict(img=image, img_shape=(480, 640), ori_shape=(480, 640), instances=objects)
        )["data_samples"]
        height, width = sample.img_shape
        if width >= 1024:
            continue  # cropped
        exact = np.array([item["bbox"] for item in objects])
        if sample.flip:
            exact[:, [0, 2]] = 640 - exact[:, [2, 0]]
        exact *= [width / 640, height / 480] * 2
        truth = sample.gt_instances
        assert len(truth.masks) == len(truth.bboxes) == len(objects)
        masked = torch.as_tensor(truth.masks.get_bboxes("hbox").tensor).numpy()
        assert iou_of_pairs(masked, exact).min() > 0.999
        boxes = truth.bboxes.numpy()
        assert iou_of_pairs(boxes, exact).min() > 0.999
        seen += len(objects)
    assert seen >= 80
