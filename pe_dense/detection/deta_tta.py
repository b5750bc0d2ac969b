"""Test-time augmentation of DETA: detections of several sizes, plain and flipped, merged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmdet.models import DetTTAModel
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData

from pe_dense.detection.suppression import suppress


@MODELS.register_module()
class DETATTAModel(DetTTAModel):
    """Merges the views of `DETAResize`: flip back, drop small boxes of small views, suppress.

    Each view has been suppressed once by the detector's own `test_cfg`. The small views see small
    objects badly, so their boxes count only above `DETAResize.min_side`.

    Args:
        tta_cfg: `nms` (see `suppression.suppress`), `max_per_img` (-1: all; COCO's limit of 100
            is per image *and class*, so cutting here would cost AP).
        **kwargs: Of `DetTTAModel`.

    Raises:
        ValueError: If a view has no 'min_side' or 'flip', which PackDetInputs must pass on.

    Source: perception_models @ 3e352cc, DETA_pe, eval_tta_slurm_1824pix.sh and engine.py.
    """

    def _merge_single_sample(self, data_samples: Sequence[DetDataSample]) -> DetDataSample:
        boxes, scores, labels = [], [], []
        for sample in data_samples:
            lacking = [k for k in ("min_side", "flip", "ori_shape") if k not in sample.metainfo]
            if lacking:
                raise ValueError(
                    f"a test view has no {lacking[0]!r}; add it to PackDetInputs.meta_keys of "
                    "the TTA pipeline"
                )
            found = sample.pred_instances
            large = _mean_side(found) > sample.metainfo["min_side"]
            boxes.append(found.bboxes[large])
            scores.append(found.scores[large])
            labels.append(found.labels[large])
        meta: Any = [sample.metainfo for sample in data_samples]
        all_boxes, all_scores = self.merge_aug_bboxes(boxes, scores, meta)
        all_labels = torch.cat(labels)
        keep, new_scores = suppress(all_boxes, all_scores, all_labels, self.tta_cfg["nms"])
        limit = self.tta_cfg["max_per_img"]
        if limit >= 0:
            keep, new_scores = keep[:limit], new_scores[:limit]
        merged = data_samples[0]
        merged.pred_instances = InstanceData(
            bboxes=all_boxes[keep], scores=new_scores, labels=all_labels[keep]
        )
        return merged


def _mean_side(found: InstanceData) -> torch.Tensor:
    """Square roots of areas, (Q,) pixels of the original image."""
    width, height = (found.bboxes[:, 2:] - found.bboxes[:, :2]).clamp(min=0.0).unbind(1)
    return (width * height).sqrt()
