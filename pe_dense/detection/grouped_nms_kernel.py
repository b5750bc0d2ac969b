"""Greedy NMS of all groups at once as a Triton kernel, one program a group.

Shape legend: Q boxes, sorted by group and within a group by falling score.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK = 64


@triton.jit
def _corners(boxes, index, inside):
    x1 = tl.load(boxes + 4 * index, mask=inside, other=0.0)
    y1 = tl.load(boxes + 4 * index + 1, mask=inside, other=0.0)
    x2 = tl.load(boxes + 4 * index + 2, mask=inside, other=0.0)
    y2 = tl.load(boxes + 4 * index + 3, mask=inside, other=0.0)
    return x1, y1, x2, y2


@triton.jit
def _meets(ax1, ay1, ax2, ay2, bx1, by1, bx2, by2, threshold):
    """Whether IoU is above the threshold, of every a (rows) with every b (columns)."""
    width = tl.minimum(ax2[:, None], bx2[None, :]) - tl.maximum(ax1[:, None], bx1[None, :])
    height = tl.minimum(ay2[:, None], by2[None, :]) - tl.maximum(ay1[:, None], by1[None, :])
    shared = tl.maximum(width, 0.0) * tl.maximum(height, 0.0)
    areas = ((ax2 - ax1) * (ay2 - ay1))[:, None] + ((bx2 - bx1) * (by2 - by1))[None, :]
    return tl.div_rn(shared, areas - shared) > threshold


@triton.jit
def _suppress(boxes, groups, ends, kept, threshold, BLOCK: tl.constexpr):
    """A program for every box; those that are not the first of their group have nothing to do."""
    first = tl.program_id(0)
    is_first = (first == 0) | (
        tl.load(groups + tl.maximum(first - 1, 0)) != tl.load(groups + first)
    )
    end = tl.where(is_first, tl.load(ends + first).to(tl.int32), first)
    lane = tl.arange(0, BLOCK)
    start = first
    while start < end:  # not `range`, whose ends triton's interpreter wants to be no tensors
        index = start + lane
        inside = index < end
        x1, y1, x2, y2 = _corners(boxes, index, inside)
        alive = inside & (tl.load(kept + index, mask=inside, other=0) != 0)
        # Greedy within the block: repeat until nothing changes; each round settles one box more.
        meets = _meets(x1, y1, x2, y2, x1, y1, x2, y2, threshold)
        hits = (meets & (lane[:, None] < lane[None, :])).to(tl.int32)
        taken = alive.to(tl.int32)
        changed = 1
        while changed > 0:
            beaten = tl.max(hits * taken[:, None], axis=0)
            now = tl.where(alive & (beaten == 0), 1, 0)
            changed = tl.sum(tl.where(now != taken, 1, 0))
            taken = now
        tl.store(kept + index, taken.to(tl.int8), mask=inside)
        later = start + BLOCK
        while later < end:
            other = later + lane
            there = other < end
            u1, v1, u2, v2 = _corners(boxes, other, there)
            later_hits = _meets(x1, y1, x2, y2, u1, v1, u2, v2, threshold).to(tl.int32)
            later_beaten = tl.max(later_hits * taken[:, None], axis=0)
            tl.store(kept + other, tl.zeros((BLOCK,), tl.int8), mask=there & (later_beaten > 0))
            later += BLOCK
        tl.debug_barrier()  # the next block reads what other threads of this program stored
        start += BLOCK


def kept_of_sorted(boxes_Q4: Tensor, groups_Q: Tensor, iou_threshold: float) -> Tensor:
    """(Q,) bool, which boxes survive; all sorted by group, then by falling score."""
    kept_Q = torch.ones(len(boxes_Q4), dtype=torch.int8, device=boxes_Q4.device)
    ends_Q = torch.searchsorted(groups_Q, groups_Q, right=True)
    if len(boxes_Q4):
        _suppress[(len(boxes_Q4),)](
            boxes_Q4.float().contiguous(), groups_Q, ends_Q, kept_Q, iou_threshold,
            BLOCK=BLOCK, enable_fp_fusion=False,
        )  # fmt: skip
    return kept_Q.bool()
