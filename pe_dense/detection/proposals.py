"""Selection of DETA's proposals: the best tokens of every pyramid level, freed of duplicates.

Shape legend: N tokens of all levels, K queries, L levels.
"""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from pe_dense.detection.pair_assignment import xyxy_from_cxcywh
from pe_dense.detection.suppression import kept_boxes
from pe_dense.encoders.traced import is_exported

CANDIDATES_PER_LEVEL = 1000


def select_proposals(
    objectness_N: Tensor,
    boxes_N4: Tensor,
    level_N: Tensor,
    num_levels: int,
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
        num_levels: L.
        num_queries: K.
        iou_threshold: Of step 2.

    Returns:
        (K,) int64 token indices.

    On a GPU only the first call of a process waits for the result, to warn of too few survivors.

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
    candidates = torch.cat(
        [
            (probability_N * (level_N == level)).topk(min(CANDIDATES_PER_LEVEL, num_tokens)).indices
            for level in range(num_levels)
        ]
    )
    corners = xyxy_from_cxcywh(boxes_N4.float()).clamp(0.0, 1.0)[candidates]
    candidate_scores = objectness_N[candidates]
    kept = kept_boxes(
        corners, candidate_scores, level_N[candidates], iou_threshold, num_groups=num_levels
    )
    by_score = candidate_scores.sort(descending=True, stable=True).indices
    candidates, kept = candidates[by_score], kept[by_score]
    levels = torch.arange(num_levels, device=level_N.device)
    on_level = (level_N[candidates, None] == levels) & kept[:, None]
    rank_on_level = (on_level.cumsum(0) * on_level).sum(1)  # 1 for the best of its level
    chosen = kept & (rank_on_level <= num_queries // num_levels)
    rest = kept & ~chosen
    chosen |= rest & (rest.cumsum(0) <= num_queries - chosen.sum())
    first_chosen = chosen.to(torch.uint8).sort(descending=True, stable=True).indices
    num_kept = kept.sum()
    if not is_exported():
        _warn_of_few(num_kept, num_queries)
    return torch.where(
        num_kept < num_queries,
        objectness_N.topk(num_queries).indices,
        candidates[first_chosen[:num_queries]],
    )


_LOOKED_AT_DEVICES: set[torch.device] = set()


def _warn_of_few(num_kept: Tensor, num_queries: int) -> None:
    """Warns of too few survivors; looks at a GPU's number once only, because that means waiting."""
    if num_kept.device.type != "cpu":
        if num_kept.device in _LOOKED_AT_DEVICES:
            return
        _LOOKED_AT_DEVICES.add(num_kept.device)
    if num_kept < num_queries:
        warnings.warn(
            f"proposal NMS left {int(num_kept)} boxes for {num_queries} queries; taking the "
            "highest scores without NMS (usual on small canvases and early in training)",
            stacklevel=3,
        )
