"""Merging of views: flips, area filters, the second suppression; and a whole model under TTA."""

import numpy as np
import pytest
import torch
from deta_case import load_arrays, model_settings
from mmcv.transforms import Compose
from mmdet.structures import DetDataSample
from mmengine.dataset import pseudo_collate
from mmengine.registry import MODELS, TRANSFORMS, init_default_scope
from mmengine.structures import InstanceData

from pe_dense.detection.deta_tta import DETATTAModel

SOFT = dict(type="soft_nms_quad", iou_threshold=0.7, quad_scale=0.5, min_score=1e-3)


class NoModel(torch.nn.Module):
    """Stands where a detector would; merging does not ask it."""

    def test_step(self, data):
        raise AssertionError("not called")


def merger(max_per_img=-1, nms=SOFT):
    return DETATTAModel(tta_cfg=dict(nms=nms, max_per_img=max_per_img), module=NoModel())


def view(boxes, scores, labels, min_side=0.0, flip=False):
    sample = DetDataSample(
        metainfo=dict(
            ori_shape=(100, 200), flip=flip, flip_direction="horizontal" if flip else None,
            min_side=min_side, img_id=5,
        )
    )  # fmt: skip
    sample.pred_instances = InstanceData(
        bboxes=torch.tensor(boxes).reshape(-1, 4),
        scores=torch.tensor(scores),
        labels=torch.tensor(labels, dtype=torch.int64),
    )
    return sample


def merge(*views, **options):
    return merger(**options).merge_preds([list(views)])[0].pred_instances


def test_a_flipped_view_is_turned_back_and_joined():
    plain = view([[10.0, 20, 50, 60]], [0.9], [1])
    flipped = view([[150.0, 20, 190, 60]], [0.8], [1], flip=True)
    found = merge(plain, flipped)
    # The same box twice: the second loses everything, (1 - 1) ** 0.5 = 0.
    assert found.bboxes.tolist() == [[10, 20, 50, 60]]
    assert found.scores.tolist() == pytest.approx([0.9])


def test_partly_overlapping_views_keep_a_decayed_score():
    first = view([[0.0, 0, 100, 100]], [0.9], [0])
    second = view([[0.0, 0, 100, 80]], [0.8], [0])
    found = merge(first, second)
    assert found.scores.tolist() == pytest.approx([0.9, 0.8 * (1 - 0.8) ** 0.5])


def test_small_boxes_of_small_views_are_dropped_strictly():
    boxes = [[0.0, 0, 64, 64], [100.0, 0, 165, 64]]  # sqrt(area) 64 and 64.5
    found = merge(view(boxes, [0.9, 0.8], [0, 0], min_side=64.0))
    assert found.scores.tolist() == pytest.approx([0.8])
    point = view([[5.0, 5, 5, 9]], [0.9], [0])  # no area: not above 0
    assert len(merge(point)) == 0


def test_limits_and_empty_views():
    boxes = [[0.0, 0, 20, 20], [40.0, 0, 60, 20], [80.0, 0, 99, 20]]
    assert len(merge(view(boxes, [0.5, 0.9, 0.7], [0, 0, 0]), max_per_img=2)) == 2
    empty = view([], [], [])
    assert len(merge(empty, empty)) == 0


def test_hard_nms_is_possible():
    nms = dict(type="nms", iou_threshold=0.5)
    found = merge(
        view([[0.0, 0, 100, 100]], [0.4], [0]), view([[0.0, 0, 100, 90]], [0.8], [0]), nms=nms
    )
    assert found.scores.tolist() == pytest.approx([0.8])


def test_a_view_without_its_facts_is_refused():
    sample = view([[0.0, 0, 10, 10]], [0.5], [0])
    sample.set_metainfo(dict(ori_shape=(100, 200)))
    stripped = DetDataSample(metainfo=dict(ori_shape=(100, 200), flip=False))
    stripped.pred_instances = sample.pred_instances
    with pytest.raises(ValueError, match="has no 'min_side'; add it to PackDetInputs"):
        merge(stripped)


META = ("img_id", "ori_shape", "img_shape", "scale_factor", "flip", "flip_direction", "min_side")


def views_of(image):
    """Two sizes, plain and mirrored, through the pipeline that a config would have."""
    sizes = [
        dict(type="DETAResize", canvas=256),
        dict(type="DETAResize", canvas=256, view=160, min_side=20.0),
    ]
    flips = [dict(type="RandomFlip", prob=0.0), dict(type="RandomFlip", prob=1.0)]
    pack = [dict(type="PackDetInputs", meta_keys=META)]
    init_default_scope("mmdet")
    pipeline = TRANSFORMS.build(dict(type="TestTimeAug", transforms=[sizes, flips, pack]))
    facts = dict(img=image, img_id=3, ori_shape=image.shape[:2], img_shape=image.shape[:2])
    return Compose([pipeline])(facts)


@pytest.fixture(scope="module")
def settings():
    settings = model_settings(load_arrays(), soft=0.5)
    settings["data_preprocessor"]["pad_size_divisor"] = 256
    return dict(type="DETA", canvas=256, **settings)


def test_a_whole_model_under_augmentation(settings):
    init_default_scope("mmdet")
    torch.manual_seed(0)
    image = np.random.default_rng(0).integers(0, 256, (96, 128, 3), dtype=np.uint8)
    batch = pseudo_collate([views_of(image)])
    tta_cfg = dict(nms=SOFT, max_per_img=-1)
    model = MODELS.build(dict(type="mmdet.DETATTAModel", tta_cfg=tta_cfg, module=settings))
    model.module.init_weights()
    model.eval()
    with torch.no_grad():
        (merged,) = model.test_step(batch)
        single = [
            model.module.test_step({key: value[i] for key, value in batch.items()})[0]
            for i in range(4)
        ]
    shapes = [sample.img_shape for sample in single]
    assert shapes == [(168, 224), (168, 224), (120, 160), (120, 160)]
    assert [sample.flip for sample in single] == [False, True, False, True]
    expected = merger().merge_preds([single])[0].pred_instances
    found = merged.pred_instances
    assert len(found) > 0
    torch.testing.assert_close(found.scores, expected.scores)
    torch.testing.assert_close(found.bboxes, expected.bboxes)
    assert found.scores.diff().max() <= 0
