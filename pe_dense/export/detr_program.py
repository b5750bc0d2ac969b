"""DETA and DINO with a picture's size as an input: what is padding is said, not measured.

Shape legend: B images, N tokens of all levels, K queries, A classes, Q detections, D width,
L levels, h w grid of a level, H W pixels.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmdet.models import DINO
from torch import Tensor, nn

from pe_dense.detection.deta import DETA
from pe_dense.detection.level_shapes import grids_of_maps, shapes_on
from pe_dense.detection.pair_assignment import xyxy_from_cxcywh
from pe_dense.export.map_programs import normalised_as
from pe_dense.openmmlab.deformable_attention import without_checks
from pe_dense.openmmlab.exported_operators import kept_in_groups


def suppression_of(detector: nn.Module, where: str) -> dict[str, Any]:
    """How duplicates are suppressed, and where; DINO has none.

    Raises:
        ValueError: For soft-NMS, which has no operator.
    """
    test_cfg = detector.bbox_head.test_cfg or {}
    limit = int(test_cfg.get("max_per_img", detector.num_queries))
    if isinstance(detector, DINO):
        return dict(where="none", max_per_img=limit)
    nms = dict(test_cfg["nms"])
    if nms["type"] != "nms":
        raise ValueError(
            f"NMS of type {nms['type']!r} has no operator in runtimes; export with "
            "--cfg-options \"model.test_cfg.nms={'type': 'nms', 'iou_threshold': 0.7}\""
        )
    pairs = int(test_cfg["nms_pre"])
    return dict(
        where=where,
        iou_threshold=float(nms["iou_threshold"]),
        candidates=pairs,
        max_per_img=limit if limit >= 0 else pairs,
    )


class DetrDetections(nn.Module):
    """Detections of a DETA or a DINO, of pixels in 0..255.

    Args:
        detector: In eval mode.
        image_hw: H, W of the padded picture.
        suppression: Of `suppression_of`.
    """

    def __init__(
        self, detector: nn.Module, image_hw: tuple[int, int], suppression: Mapping[str, Any]
    ) -> None:
        super().__init__()
        without_checks(detector)
        self.normalise = normalised_as(detector)
        self.detector, self.image_hw, self.rule = detector, image_hw, dict(suppression)

    def forward(self, image: Tensor, picture_size: Tensor) -> tuple[Tensor, ...]:
        """(B, 3, H, W) and rows and columns (B, 2) -> boxes, scores, labels."""
        levels = self.detector.extract_feat(self.normalise(image))
        logits_BKA, boxes_BK4 = self._queries(levels, picture_size)
        scores_BKA = logits_BKA.float().sigmoid()
        corners_BK4 = xyxy_from_cxcywh(boxes_BK4.float())
        if self.rule["where"] == "none":
            corners_BK4 = corners_BK4.clamp(0.0, 1.0)
            return _best(corners_BK4, scores_BKA, self.rule["max_per_img"])
        boxes, scores, labels = _best(corners_BK4, scores_BKA, self.rule["candidates"])
        if self.rule["where"] == "outside":
            return boxes, scores, labels
        return suppressed(
            boxes, scores, labels, logits_BKA.shape[2], self.rule["iou_threshold"],
            self.rule["max_per_img"],
        )  # fmt: skip

    def _queries(self, levels: Sequence[Tensor], picture_size: Tensor) -> tuple[Tensor, Tensor]:
        """Class logits (B, K, A) and relative boxes (B, K, 4) of the last decoder layer."""
        detector = self.detector
        levels = [level.float() for level in levels]
        encoder_inputs, decoder_inputs = self._transformer_inputs(levels, picture_size)
        memory = DETA.forward_encoder(detector, **encoder_inputs)
        if isinstance(detector, DETA):
            start, _ = detector.pre_decoder(**memory)
        else:
            start, _ = detector.pre_decoder(
                memory["memory"], memory["memory_mask"], grids_of_maps(levels)
            )
        found = detector.forward_decoder(**{**decoder_inputs, **start})
        logits, boxes = detector.bbox_head(found["hidden_states"], found["references"])
        return logits[-1], boxes[-1]

    def _transformer_inputs(
        self, levels: Sequence[Tensor], picture_size: Tensor
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """As `DETA.pre_transformer`, with the padding of every level from the picture's size."""
        detector = self.detector
        masks = [self._padding(level, picture_size) for level in levels]
        positions = [
            detector.positional_encoding(mask).flatten(2).transpose(1, 2) + embedding
            for mask, embedding in zip(masks, detector.level_embed, strict=True)
        ]
        padding_BN = torch.cat([mask.flatten(1) for mask in masks], dim=1)
        shapes_L2 = shapes_on(levels[0].device, grids_of_maps(levels))
        sizes_L = shapes_L2.prod(1)
        shared = dict(
            spatial_shapes=shapes_L2,
            level_start_index=sizes_L.cumsum(0) - sizes_L,
            valid_ratios=torch.stack([detector.get_valid_ratio(mask) for mask in masks], dim=1),
        )
        tokens_BND = torch.cat([level.flatten(2).transpose(1, 2) for level in levels], dim=1)
        encoder = dict(
            shared, feat=tokens_BND, feat_mask=padding_BN, feat_pos=torch.cat(positions, 1)
        )
        return encoder, dict(shared, memory_mask=padding_BN)

    def _padding(self, level: Tensor, picture_size: Tensor) -> Tensor:
        """(B, h, w), True in the padding."""
        height, width = self.image_hw
        rows = _pixel_of_rows(height, level.shape[2]) >= picture_size[:, :1]  # (B, h)
        columns = _pixel_of_rows(width, level.shape[3]) >= picture_size[:, 1:]
        return rows[:, :, None] | columns[:, None, :]


@functools.lru_cache(maxsize=64)
def _pixel_of_rows(size: int, rows: int) -> Tensor:
    """The pixel that mode 'nearest' reads for every row of a level, (rows,) float32."""
    return F.interpolate(torch.arange(size, dtype=torch.float32)[None, None], rows)[0, 0]


def _best(corners_BK4: Tensor, scores_BKA: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """The best pairs of query and class: boxes (B, Q, 4), scores and labels (B, Q)."""
    classes = scores_BKA.shape[2]
    flat_BX = scores_BKA.flatten(1)
    scores_BQ, index_BQ = flat_BX.topk(min(count, flat_BX.shape[1]))
    query_BQ = index_BQ // classes
    boxes_BQ4 = corners_BK4.gather(1, query_BQ[..., None].expand(-1, -1, 4))
    return boxes_BQ4, scores_BQ, index_BQ % classes


def suppressed(
    boxes_BQ4: Tensor,
    scores_BQ: Tensor,
    labels_BQ: Tensor,
    num_classes: int,
    iou_threshold: float,
    limit: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """The first `limit` that survive NMS within their class; scores of empty places are 0.

    Args:
        boxes_BQ4: By falling score.
        scores_BQ: Above 0.
        labels_BQ: Below `num_classes`.
        num_classes: A.
        iou_threshold: Boxes above it are suppressed by a better one.
        limit: Of detections.
    """
    kept_BQ = torch.stack(
        [
            kept_in_groups(boxes, labels, num_classes, iou_threshold)
            for boxes, labels in zip(boxes_BQ4, labels_BQ, strict=True)
        ]
    )
    left_BQ = torch.where(kept_BQ, scores_BQ, 0.0)
    scores, place = left_BQ.topk(min(limit, left_BQ.shape[1]))
    boxes = boxes_BQ4.gather(1, place[..., None].expand(-1, -1, 4))
    return boxes, scores, labels_BQ.gather(1, place)
