"""Merging of views: flips, area filters, the second suppression; and a whole model under TTA."""

import pytest
import torch
from mmdet.structures import DetDataSample
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
