"""Data pipeline, schedule and sampling of ViTDet against arrays of detectron2's own code."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from mmdet.datasets.transforms import RandomFlip
from mmdet.registry import MODELS, TASK_UTILS
from mmdet.structures.bbox import HorizontalBoxes
from mmdet.utils import register_all_modules
from mmengine.registry import PARAM_SCHEDULERS
from mmengine.structures import InstanceData

from pe_dense.detection.anchor_assignment import BestAnchorAssigner
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


def rpn_parts():
    register_all_modules(init_default_scope=True)
    cfg, _ = load_config(CONFIGS / "vitdet_pe_spatial_g14_coco_36ep.py", weights="random")
    anchors = TASK_UTILS.build(cfg.model.rpn_head.anchor_generator)
    return anchors, TASK_UTILS.build(cfg.model.train_cfg.rpn.assigner)


def test_anchors_of_the_rpn(arrays):
    sizes = [(64 // stride, 64 // stride) for stride in (4, 8, 16, 32, 64)]
    found = torch.cat(rpn_parts()[0].grid_priors(sizes, device="cpu"))
    np.testing.assert_allclose(found.numpy(), arrays["match_anchors"], atol=1e-5)


@pytest.mark.parametrize("case", range(5))
def test_which_anchors_are_objects(arrays, case):
    """Objects of 0.01 to 64 px, two equal and two nearly equal ones among them."""
    assigner = rpn_parts()[1]
    boxes = torch.from_numpy(arrays[f"match_{case}_boxes"])
    classes = torch.arange(len(boxes)) % 3
    priors = InstanceData(priors=torch.from_numpy(arrays["match_anchors"]))
    found = assigner.assign(priors, InstanceData(bboxes=boxes, labels=classes))
    labels, objects = arrays[f"match_{case}_labels"], arrays[f"match_{case}_objects"]
    expected = np.where(labels == 1, objects.astype(int) + 1, labels)
    np.testing.assert_array_equal(found.gt_inds.numpy(), expected)
    assert (found.labels.numpy() == np.where(labels == 1, classes.numpy()[objects], -1)).all()


def test_no_object_and_objects_that_no_anchor_touches(arrays):
    assigner = rpn_parts()[1]
    priors = InstanceData(priors=torch.from_numpy(arrays["match_anchors"]))
    none = InstanceData(bboxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.long))
    assert (assigner.assign(priors, none).gt_inds == 0).all()
    far = InstanceData(
        bboxes=torch.tensor([[9e3, 9e3, 9e3 + 5, 9e3 + 5]]), labels=none.labels.new_ones(1)
    )
    assert (assigner.assign(priors, far).gt_inds == 0).all()


def test_settings_without_meaning_are_refused():
    with pytest.raises(ValueError, match="min_pos_iou has no meaning; leave it out"):
        BestAnchorAssigner(pos_iou_thr=0.7, neg_iou_thr=0.3, min_pos_iou=0.3)


def test_initial_values_of_the_heads():
    """As detectron2 draws them: c2_xavier_fill is even within sqrt(3 / inputs)."""
    register_all_modules(init_default_scope=True)
    cfg, _ = load_config(CONFIGS / "vitdet_pe_spatial_g14_coco_36ep.py", weights="random")
    roi_head = cfg.model.roi_head
    box, mask = MODELS.build(roi_head.bbox_head), MODELS.build(roi_head.mask_head)
    for head in (box, mask):
        head.init_weights()
        head.requires_grad_(False)
    spread = dict(rel=0.05)
    bound = (3 / (256 * 7 * 7)) ** 0.5
    weight = box.shared_fcs[0].weight
    assert weight.abs().max() == pytest.approx(bound, rel=1e-3)
    assert weight.std() == pytest.approx(bound / 3**0.5, **spread)
    assert box.fc_cls.weight.std() == pytest.approx(0.01, **spread)
    assert box.fc_reg.weight.std() == pytest.approx(0.001, **spread)
    assert mask.conv_logits.weight.std() == pytest.approx(0.001, **spread)
    for conv in (box.shared_convs[0].conv, mask.convs[0].conv):  # c2_msra_fill
        assert conv.weight.std() == pytest.approx((2 / (256 * 9)) ** 0.5, **spread)
    assert mask.upsample.weight.std() == pytest.approx((2 / (256 * 4)) ** 0.5, **spread)
    layers = (box.fc_cls, box.fc_reg, box.shared_fcs[0], mask.conv_logits, mask.upsample)
    assert all((layer.bias == 0).all() for layer in layers)
