"""Which anchors of an RPN are objects: detectron2's rule.

mmdet's MaxIoUAssigner also gives an object its best anchor, but only from an IoU of `min_pos_iou`
on, 0.3 in its recipes: an object of 10 px has at most 0.1 with an anchor of 32 px and would teach
an RPN nothing. It also takes anchors from the object that they overlap most.

Shape legend: G objects, A anchors.
"""

from __future__ import annotations

import torch
from mmdet.models.task_modules.assigners import AssignResult, MaxIoUAssigner
from mmdet.registry import TASK_UTILS
from torch import Tensor


@TASK_UTILS.register_module()
class BestAnchorAssigner(MaxIoUAssigner):
    """An anchor is an object from an IoU on, or if none overlaps some object more.

    Every object has at least one anchor, however small it is, unless another object overlaps that
    anchor more: an anchor always belongs to the object with which it has the highest IoU, the first
    of equal ones. Below `neg_iou_thr` anchors are background, between the two they do not count.

    Args:
        pos_iou_thr: Least IoU of an object, 0..1.
        neg_iou_thr: IoU from which an anchor is no background, 0..`pos_iou_thr`.
        **kwargs: `ignore_iof_thr` and what else `MaxIoUAssigner` takes; `min_pos_iou` and
            `match_low_quality` have no meaning here.

    Raises:
        ValueError: If one of those two is given.

    Source: Matcher with allow_low_quality_matches in detectron2 @ 02b5c4e, modeling/matcher.py;
    equal to it on tests/golden/vitdet_steps.npz. Deviation: an object that no anchor touches takes
    none; there it takes every anchor without overlap. Anchors of an RPN cover its image.
    """

    def __init__(self, pos_iou_thr: float, neg_iou_thr: float, **kwargs: object) -> None:
        for name in ("min_pos_iou", "match_low_quality"):
            if name in kwargs:
                raise ValueError(
                    f"BestAnchorAssigner gives every object its best anchor, so {name} has no "
                    "meaning; leave it out, or use MaxIoUAssigner"
                )
        super().__init__(pos_iou_thr=pos_iou_thr, neg_iou_thr=neg_iou_thr, **kwargs)

    def assign_wrt_overlaps(self, overlaps: Tensor, gt_labels: Tensor) -> AssignResult:
        """Overlaps (G, A) and classes (G,) -> 0 background, -1 nothing, i + 1 object i, by anchor.

        Overlaps of -1 are anchors that lie in ignored boxes and do not count.
        """
        if overlaps.numel() == 0:
            return super().assign_wrt_overlaps(overlaps, gt_labels)
        highest_A, object_A = overlaps.max(dim=0)
        best_G = overlaps.max(dim=1, keepdim=True).values
        is_best_A = ((overlaps == best_G) & (best_G > 0)).any(dim=0)
        is_object_A = (highest_A >= self.pos_iou_thr) | is_best_A
        is_background_A = (highest_A >= 0) & (highest_A < self.neg_iou_thr)
        indices_A = torch.where(
            is_object_A, object_A + 1, torch.where(is_background_A, 0, -1).to(object_A)
        )
        labels_A = torch.where(is_object_A, gt_labels[object_A], -1)
        return AssignResult(len(overlaps), indices_A, highest_A, labels=labels_A)
