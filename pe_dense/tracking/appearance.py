"""Appearance of boxes: an encoder's features pooled in each box, and what two of them have alike.

There is no re-identification network. Features come from the detector's own encoder or from a
frozen one beside it.

Shape legend: C feature width, h w feature map, N boxes, T tracks.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from mmcv.ops import roi_align
from torch import Tensor

POOLED = 4  # cells on a side that are averaged in every box


def box_embeddings(map_1Chw: Tensor, boxes_xyxy_N4: Tensor, centred: bool = True) -> Tensor:
    """Unit vectors (N, C): the mean feature inside each box.

    Args:
        map_1Chw: (1, C, h, w) features of the whole (padded) image.
        boxes_xyxy_N4: (N, 4) in cells of the map; cell 0 spans 0 to 1. Boxes may reach outside.
        centred: Subtract the mean feature of the map first. All patches of an image share a large
            component, which makes every pair of boxes look alike.

    Raises:
        ValueError: If the map is not of one image.
    """
    if map_1Chw.ndim != 4 or map_1Chw.shape[0] != 1:
        raise ValueError(
            f"the feature map has shape {tuple(map_1Chw.shape)}; pass (1, C, h, w), one image"
        )
    features = map_1Chw.float()
    if centred:
        features = features - features.mean(dim=(2, 3), keepdim=True)
    if not len(boxes_xyxy_N4):
        return features.new_zeros(0, features.shape[1])
    rois_N5 = torch.cat([boxes_xyxy_N4.new_zeros(len(boxes_xyxy_N4), 1), boxes_xyxy_N4], dim=1)
    pooled_NCss = roi_align(features, rois_N5.to(features), POOLED, 1.0, 2, "avg", True)
    return F.normalize(pooled_NCss.mean(dim=(2, 3)), dim=1)


def mixed_affinity(iou_TN: Tensor, cosine_TN: Tensor, weight: float, min_iou: float) -> Tensor:
    """Affinity of tracks and detections (T, N), 0..1: (1 - weight) IoU + weight cosine.

    Args:
        iou_TN: IoU, 0..1, perhaps times the detection's score.
        cosine_TN: Cosine similarity; what is below 0 counts as 0.
        weight: Share of appearance, 0..1; 0 leaves the IoU alone.
        min_iou: Pairs below it get no appearance: two objects far apart may look the same.

    Raises:
        ValueError: If `weight` is outside 0..1.
    """
    if not 0.0 <= weight <= 1.0:
        raise ValueError(f"weight={weight} is not between 0 and 1")
    near_TN = (iou_TN >= min_iou) & (iou_TN > 0)
    return (1 - weight) * iou_TN + weight * cosine_TN.clamp(0, 1) * near_TN


def updated_embedding(old_C: Tensor | None, new_C: Tensor, momentum: float) -> Tensor:
    """Exponential moving average of a track's unit vector, of length 1 again."""
    if old_C is None:
        return new_C
    return F.normalize(momentum * old_C + (1 - momentum) * new_C, dim=0)
