"""Mask R-CNN with a picture's size as an input, and as many regions for every picture.

Shape legend: B images, N anchors, R regions, A classes, Q detections, C channels, H W pixels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pe_dense.export.detr_program import suppressed
from pe_dense.export.map_programs import normalised_as
from pe_dense.openmmlab.exported_operators import kept_in_groups, regions

# Pairs of region and class that enter NMS: of what follows them none is among the best 100.
CANDIDATES = 4096


def rcnn_suppression(detector: nn.Module, where: str, has_masks: bool) -> dict[str, Any]:
    """How duplicates are suppressed, and where.

    Raises:
        ValueError: For another NMS than the plain one, or masks of detections that are not chosen.
    """
    test_cfg = detector.test_cfg.rcnn
    for stage in (detector.test_cfg.rpn, test_cfg):
        if stage.nms.get("type", "nms") != "nms":
            raise ValueError(f"NMS of type {stage.nms['type']!r} has no operator in runtimes")
    if where == "outside" and has_masks:
        raise ValueError(
            "masks are made of the detections that are left, so NMS belongs inside of the file; "
            "leave --nms outside out"
        )
    return dict(
        where=where,
        iou_threshold=float(test_cfg.nms.iou_threshold),
        candidates=CANDIDATES,
        score_threshold=float(test_cfg.score_thr),
        max_per_img=int(test_cfg.max_per_img),
        mask_threshold=float(test_cfg.get("mask_thr_binary", 0.5)),
    )


class RCNNDetections(nn.Module):
    """Detections, and masks, of a two-stage detector, of pixels in 0..255.

    Args:
        detector: In eval mode.
        suppression: Of `rcnn_suppression`.
    """

    def __init__(self, detector: nn.Module, suppression: Mapping[str, Any]) -> None:
        super().__init__()
        self.normalise = normalised_as(detector)
        self.detector, self.rule = detector, dict(suppression)

    def forward(self, image: Tensor, picture_size: Tensor) -> tuple[Tensor, ...]:
        """(B, 3, H, W) and rows and columns (B, 2) -> boxes, scores, labels and masks."""
        levels = [level.float() for level in self.detector.extract_feat(self.normalise(image))]
        of_anchors = self.detector.rpn_head(tuple(levels))
        found = [
            self._of_picture([level[i : i + 1] for level in levels], of_anchors, i, picture_size[i])
            for i in range(image.shape[0])
        ]
        return tuple(torch.stack(parts) for parts in zip(*found, strict=True))

    def _of_picture(
        self, levels: Sequence[Tensor], of_anchors: Any, i: int, rows_columns: Tensor
    ) -> tuple[Tensor, ...]:
        limit_4 = rows_columns.flip(0).repeat(2)  # columns, rows, columns, rows
        boxes_R4, exists_R = self._proposals(of_anchors, i, limit_4)
        head = self.detector.roi_head
        features = self._regions(head.bbox_roi_extractor, levels, boxes_R4)
        logits_RA, deltas = head.bbox_head(features)
        scores_RA = logits_RA.float().softmax(1)[:, :-1]
        classes = scores_RA.shape[1]
        scores_RA = torch.where(scores_RA > self.rule["score_threshold"], scores_RA, 0.0)
        scores_RA = torch.where(exists_R[:, None], scores_RA, 0.0)
        scores_Q, index_Q = scores_RA.flatten().topk(
            min(self.rule["candidates"], boxes_R4.shape[0] * classes)
        )
        region_Q, label_Q = index_Q // classes, index_Q % classes
        if not head.bbox_head.reg_class_agnostic:
            deltas = deltas.view(-1, 4)[index_Q]
        else:
            deltas = deltas[region_Q]
        boxes_Q4 = head.bbox_head.bbox_coder.decode(boxes_R4[region_Q], deltas.float())
        boxes_Q4 = torch.minimum(boxes_Q4.clamp(min=0.0), limit_4)
        if self.rule["where"] == "outside":
            return boxes_Q4 / limit_4, scores_Q, label_Q
        boxes_Q4, scores_Q, label_Q = (
            part[0]
            for part in suppressed(
                boxes_Q4[None], scores_Q[None], label_Q[None], classes,
                self.rule["iou_threshold"], self.rule["max_per_img"],
            )
        )  # fmt: skip
        found = boxes_Q4 / limit_4, scores_Q, label_Q
        if not head.with_mask:
            return found
        features = self._regions(head.mask_roi_extractor, levels, boxes_Q4)
        masks_QAmm = head.mask_head(features).float()
        if head.mask_head.class_agnostic:
            return *found, masks_QAmm[:, 0].sigmoid()
        side = masks_QAmm.shape[-1]
        own = label_Q[:, None, None, None].expand(-1, 1, side, side)
        return *found, masks_QAmm.gather(1, own)[:, 0].sigmoid()

    def _proposals(self, of_anchors: Any, i: int, limit_4: Tensor) -> tuple[Tensor, Tensor]:
        """Regions (R, 4) of one picture by falling score, and whether each exists, (R,)."""
        head, cfg = self.detector.rpn_head, self.detector.test_cfg.rpn
        logits, deltas = of_anchors
        sizes = [level.shape[-2:] for level in logits]
        anchors = head.prior_generator.grid_priors(sizes, device=limit_4.device)
        parts = []
        for logit, delta, prior in zip(logits, deltas, anchors, strict=True):
            score_N = logit[i].permute(1, 2, 0).flatten().sigmoid()
            delta_N4 = delta[i].permute(1, 2, 0).reshape(-1, 4)
            count = min(cfg.nms_pre, score_N.shape[0]) if cfg.nms_pre > 0 else score_N.shape[0]
            score_n, index_n = score_N.topk(count)
            parts.append((prior[index_n], delta_N4[index_n], score_n))
        boxes_N4 = head.bbox_coder.decode(*(torch.cat([p[k] for p in parts]) for k in (0, 1)))
        boxes_N4 = torch.minimum(boxes_N4.clamp(min=0.0), limit_4)
        level_N = torch.cat([p[2].new_full(p[2].shape, k).long() for k, p in enumerate(parts)])
        score_N, order_N = torch.cat([p[2] for p in parts]).topk(level_N.shape[0])
        boxes_N4, level_N = boxes_N4[order_N], level_N[order_N]
        kept_N = kept_in_groups(boxes_N4, level_N, len(parts), float(cfg.nms.iou_threshold))
        if cfg.get("min_bbox_size", -1) >= 0:
            kept_N = kept_N & ((boxes_N4[:, 2:] - boxes_N4[:, :2]) > cfg.min_bbox_size).all(1)
        left_N = torch.where(kept_N, score_N, -1.0)
        score_R, place_R = left_N.topk(min(cfg.max_per_img, left_N.shape[0]))
        exists_R = score_R > 0
        return torch.where(exists_R[:, None], boxes_N4[place_R], 0.0), exists_R

    def _regions(self, extractor: Any, levels: Sequence[Tensor], boxes_R4: Tensor) -> Tensor:
        """(R, C, P, P): each region from the level that fits its size."""
        levels = levels[: extractor.num_inputs]
        rois_R5 = torch.cat([boxes_R4.new_zeros(boxes_R4.shape[0], 1), boxes_R4], 1)
        level_R = extractor.map_roi_levels(rois_R5, len(levels))
        found = None
        for k, (level, layer) in enumerate(zip(levels, extractor.roi_layers, strict=True)):
            part = regions(
                level, boxes_R4, int(layer.output_size[0]), float(layer.spatial_scale),
                int(layer.sampling_ratio),
            )  # fmt: skip
            is_here = (level_R == k)[:, None, None, None]
            found = torch.where(is_here, part, 0.0 if found is None else found)
        assert found is not None
        return found
