"""Selection of DETA's proposals: the best tokens of every pyramid level, freed of duplicates.

Shape legend: N tokens of all levels, K queries, L levels.
"""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from pe_dense.detection.pair_assignment import xyxy_from_cxcywh
from pe_dense.detection.suppression import grouped_nms

CANDIDATES_PER_LEVEL = 1000


def select_proposals(
    objectness_N: Tensor,
    boxes_N4: Tensor,
    level_N: Tensor,
    num_queries: int,
    iou_threshold: float = 0.9,
) -> Tensor:
    """Tokens whose boxes become the queries of one image, by falling objectness.

    1. For each level, the 1000 tokens with the highest sigmoid(objectness) * (token is on this
       level) over *all* tokens: a level with fewer tokens is filled up with foreign ones.
    2. NMS among tokens of one level.
    3. The first K // L survivors of each level, then the best of the rest until there are K.
       With fewer than K survivors: the K most object-like tokens instead, duplicates and all.

    Args:
        objectness_N: Logits.
        boxes_N4: Predicted boxes (cx, cy, w, h), relative to the image.
        level_N: Pyramid level of each token, 0 the finest.
        num_queries: K.
        iou_threshold: Of step 2.

    Returns:
        (K,) int64 token indices.

    Raises:
        ValueError: If there are fewer tokens than queries.

    Source: jozhang97/DETA @ f47e50e, models/deformable_transformer.py (gen_encoder proposals with
    `assign_first_stage`); step 1 is taken literally, because the foreign tokens decide whether
    step 3 finds enough survivors. Deviation: with fewer than 1000 tokens all are candidates,
    where the original fails.
    """
    num_tokens = len(objectness_N)
    if num_queries > num_tokens:
        raise ValueError(
            f"num_queries is {num_queries}, but the feature levels of this canvas have only "
            f"{num_tokens} tokens; lower model.num_queries or use a larger canvas"
        )
    objectness_N = objectness_N.float()
    probability_N = objectness_N.sigmoid()
    num_levels = int(level_N[-1]) + 1
    candidates = torch.cat(
        [
            (probability_N * (level_N == level)).topk(min(CANDIDATES_PER_LEVEL, num_tokens)).indices
            for level in range(num_levels)
        ]
    )
    corners = xyxy_from_cxcywh(boxes_N4.float()).clamp(0.0, 1.0)[candidates]
    order = grouped_nms(corners, objectness_N[candidates], level_N[candidates], iou_threshold)
    survivors = candidates[order]
    if len(survivors) < num_queries:
        warnings.warn(
            f"proposal NMS left {len(survivors)} boxes for {num_queries} queries; taking the "
            "highest scores without NMS (usual on small canvases and early in training)",
            stacklevel=2,
        )
        return objectness_N.topk(num_queries).indices
    on_level = level_N[survivors, None] == torch.arange(num_levels, device=level_N.device)
    rank_on_level = (on_level.cumsum(0) * on_level).sum(1)  # 1 for the best of its level
    chosen = rank_on_level <= num_queries // num_levels
    missing = num_queries - int(chosen.sum())
    chosen[(~chosen).nonzero()[:missing, 0]] = True
    return survivors[chosen]
