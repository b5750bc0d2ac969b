"""Data pipeline, schedule and sampling of ViTDet against arrays of detectron2's own code."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from mmdet.datasets.transforms import RandomFlip
from mmdet.structures.bbox import HorizontalBoxes
from mmdet.utils import register_all_modules
from mmengine.registry import PARAM_SCHEDULERS

from pe_dense.detection.large_scale_jitter import LargeScaleJitter, jittered_size
from pe_dense.detection.polygon_loading import LoadPolygons
from pe_dense.run.config import load_config

CONFIGS = Path(__file__).resolve().parents[2] / "configs/detection"


@pytest.fixture(scope="module")
def arrays():
    with np.load(Path(__file__).parents[1] / "golden" / "vitdet_steps.npz") as content:
        return dict(content)


def test_sizes_of_the_jitter(arrays):
    for height, width, scale, *expected in arrays["jitter_rows"].tolist():
        assert list(jittered_size(int(height), int(width), 1024, scale)) == expected


def test_sizes_of_the_test(arrays):
    from pe_dense.detection.resizing import Resize

    resize = Resize(scale=(1024, 1024), keep_ratio=True, backend="pillow")
    rows = arrays["test_rows"]
    for height, width, *expected in rows[:: len(rows) // 25].tolist():
        image = np.zeros((height, width, 3), np.uint8)
        assert list(resize(dict(img=image))["img_shape"]) == expected


def mapped(arrays, seed):
    """What flip, jitter and loading make of the made-up image, with the reference's draws."""
    image, objects = arrays["mapper_image"], json.loads(str(arrays["mapper_polygons"]))
    instances = []
    for label, parts in enumerate(objects):
        xy = np.concatenate([np.reshape(part, (-1, 2)) for part in parts])
        crowd = int(label == 5)
        box = [*xy.min(0).tolist(), *xy.max(0).tolist()]
        instances.append(dict(bbox=box, bbox_label=label, ignore_flag=crowd, mask=parts))
    results = dict(
        img=image, img_shape=image.shape[:2], ori_shape=image.shape[:2], instances=instances
    )
    results = LoadPolygons(with_bbox=True, with_mask=True)(results)
    np.random.seed(seed)  # noqa: NPY002
    flip = float(np.random.uniform() < 0.5)  # noqa: NPY002
    state = np.random.get_state()  # noqa: NPY002
    results = RandomFlip(prob=flip)(results)
    np.random.set_state(state)  # noqa: NPY002
    results = LargeScaleJitter(canvas=64)(results)
    assert isinstance(results["gt_bboxes"], HorizontalBoxes)
    return results


def test_the_whole_mapper(arrays):
    """Pixels, boxes, classes, parts of masks and targets of the mask head."""
    num_objects = 0
    for seed in arrays["mapper_seeds"].tolist():
        found = mapped(arrays, seed)
        if f"mapper_{seed}_image" in arrays:
            np.testing.assert_array_equal(found["img"], arrays[f"mapper_{seed}_image"])
        kept = ~found["gt_ignore_flags"]  # the reference drops crowds
        labels = found["gt_bboxes_labels"][kept]
        assert labels.tolist() == arrays[f"mapper_{seed}_classes"].tolist()
        boxes = found["gt_bboxes"].tensor.numpy()[kept]
        np.testing.assert_allclose(boxes, arrays[f"mapper_{seed}_boxes"], atol=1e-4)
        masks = found["gt_masks"][np.flatnonzero(kept)]
        assert [len(m) for m in masks] == arrays[f"mapper_{seed}_parts"].tolist()
        np.testing.assert_allclose(masks.areas, arrays[f"mapper_{seed}_areas"], rtol=1e-4)
        rois = arrays[f"mapper_{seed}_rois"]
        index = torch.arange(len(masks))
        targets = masks.crop_and_resize(rois, (14, 14), index.numpy(), "cpu").to_ndarray()
        bits = np.unpackbits(arrays[f"mapper_{seed}_targets"])[: targets.size]
        np.testing.assert_array_equal(targets.ravel(), bits)
        num_objects += len(labels)
    assert num_objects > 200


def rates(name, iterations):
    """Learning rates of a config by iteration, as shares of its own, from its schedulers."""
    register_all_modules(init_default_scope=True)
    cfg, _ = load_config(CONFIGS / name, weights="random")
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], lr=1.0)
    schedulers = [
        PARAM_SCHEDULERS.build(dict(optimizer=optimizer, **step)) for step in cfg.param_scheduler
    ]
    found, wanted = {}, set(iterations)
    for iteration in range(max(iterations) + 1):
        if iteration in wanted:
            found[iteration] = optimizer.param_groups[0]["lr"]
        for scheduler in schedulers:
            scheduler.step()
    return cfg, np.array([found[i] for i in iterations])


@pytest.mark.parametrize(
    ("name", "epochs", "tolerance"),
    [("vitdet_pe_spatial_g14_coco_36ep.py", "36", 1e-6),
     # The warm-up ends half an iteration later than there.
     ("vitdet_pe_core_g14_coco_75ep.py", "75", 2.7e-3),
     ("vitdet_pe_core_g14_lvis_75ep.py", "75", 2.7e-3)],
)  # fmt: skip
def test_learning_rates_by_iteration(arrays, name, epochs, tolerance):
    iterations, expected = arrays[f"schedule_{epochs}"].T
    cfg, found = rates(name, iterations.astype(int).tolist())
    np.testing.assert_allclose(found, expected, rtol=tolerance)
    length, *drops = arrays[f"schedule_{epochs}_max"].tolist()
    assert cfg.train_cfg.max_iters == length
    assert cfg.param_scheduler[1].milestones == drops
