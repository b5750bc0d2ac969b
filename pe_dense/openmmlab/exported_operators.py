"""Operators with loops in them, as single nodes of an exported program.

NMS and RoIAlign choose as they go, which no tracer can follow. While a model is exported
(`is_exported`), what calls them calls these; an ONNX file then has NonMaxSuppression and RoiAlign
in their place (`pe_dense.export.onnx_operators`), and a file of torch.export has their names, so
that this module must be imported before such a file is loaded.

Shape legend: C channels, h w grid, Q boxes, R regions, P bins.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pe_dense.openmmlab.torch_operators.nms import nms
from pe_dense.openmmlab.torch_operators.roi_align import BoxGrid, roi_align


@torch.library.custom_op("pe_dense::kept_in_groups", mutates_args=())
def kept_in_groups(
    boxes_Q4: Tensor, groups_Q: Tensor, num_groups: int, iou_threshold: float
) -> Tensor:
    """(Q,) bool: which boxes survive NMS within their group; the best come first.

    Args:
        boxes_Q4: Corners, by falling score.
        groups_Q: Integers from 0.
        num_groups: Groups of other numbers lose all their boxes.
        iou_threshold: Boxes above it are suppressed by a better one.
    """
    kept_Q = torch.zeros(len(boxes_Q4), dtype=torch.bool, device=boxes_Q4.device)
    for group in range(num_groups):
        index = (groups_Q == group).nonzero().squeeze(1)
        falling = torch.arange(len(index), 0, -1, device=index.device).to(boxes_Q4.dtype)
        kept_Q[index[nms(boxes_Q4[index], falling, iou_threshold, 0)]] = True
    return kept_Q


@kept_in_groups.register_fake
def _(boxes_Q4: Tensor, groups_Q: Tensor, num_groups: int, iou_threshold: float) -> Tensor:
    return groups_Q.new_empty(groups_Q.shape, dtype=torch.bool)


@torch.library.custom_op("pe_dense::regions", mutates_args=())
def regions(map_1Chw: Tensor, boxes_R4: Tensor, bins: int, scale: float, samples: int) -> Tensor:
    """(R, C, P, P): RoIAlign ('avg', aligned) of one picture.

    Args:
        map_1Chw: Of one picture.
        boxes_R4: Corners in pixels of the picture.
        bins: P.
        scale: Map pixels per picture pixel.
        samples: Of a bin along each axis; 0 takes ceil(size of the bin).
    """
    rois_R5 = torch.cat([boxes_R4.new_zeros(len(boxes_R4), 1), boxes_R4], 1)
    return roi_align(map_1Chw, rois_R5, BoxGrid((bins, bins), scale, samples, True))


@regions.register_fake
def _(map_1Chw: Tensor, boxes_R4: Tensor, bins: int, scale: float, samples: int) -> Tensor:
    return map_1Chw.new_empty(boxes_R4.shape[0], map_1Chw.shape[1], bins, bins)
