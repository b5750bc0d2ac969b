"""Suppression of overlapping boxes in PyTorch: greedy (NMS), by decay (soft-NMS), with matches.

Shape legend: N boxes, b boxes of a block.

Source: the rules are those of mmcv 2.3 (boxes go by falling score; an IoU above the threshold
suppresses in NMS, one at or above it counts in soft-NMS and in matching), in the same order of
float32 operations, so that the same boxes survive. Of equal scores the first counts as higher
(mmcv's order is the one that its sorting leaves).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

BLOCK = 128  # boxes that are compared with each other before the rest is: never N x N numbers


def nms(boxes_N4: Tensor, scores_N: Tensor, iou_threshold: float, offset: int) -> Tensor:
    """Indices of the boxes that no better surviving box overlaps by more than a threshold.

    A block of the best boxes at a time: those that survive within it are found by repeating
    "alive unless a better one that is alive covers it" until nothing changes, which is the greedy
    answer because the k-th box is right after k rounds; then they remove boxes from the rest.

    Args:
        boxes_N4: Corners, any unit and floating type; compared in float32 or wider.
        scores_N: Any range.
        iou_threshold: Boxes above it are suppressed; nan, as of two boxes without area, is not.
        offset: 0 or 1, added to widths and heights.

    Returns:
        (M,) int64 by falling score.
    """
    order_N = scores_N.sort(descending=True, stable=True).indices
    kind = torch.promote_types(boxes_N4.dtype, torch.float32)
    index_n, corners_n4, kept = order_N, boxes_N4.detach()[order_N].to(kind), []
    while len(index_n):
        block_b4 = corners_n4[:BLOCK]
        covers_bb = _iou(block_b4, block_b4, offset).gt_(iou_threshold).bool().triu_(1)
        alive_b = torch.ones(len(block_b4), dtype=torch.bool, device=boxes_N4.device)
        while True:
            again_b = ~(covers_bb & alive_b[:, None]).any(0)
            if torch.equal(again_b, alive_b):
                break
            alive_b = again_b
        kept.append(index_n[:BLOCK][alive_b])
        index_n, corners_n4 = index_n[BLOCK:], corners_n4[BLOCK:]
        if len(index_n):
            covered_bn = _iou(block_b4[alive_b], corners_n4, offset) > iou_threshold
            left_n = ~covered_bn.any(0)
            index_n, corners_n4 = index_n[left_n], corners_n4[left_n]
    return torch.cat(kept) if kept else order_N


def _iou(first_B4: Tensor, second_N4: Tensor, offset: int) -> Tensor:
    """IoU of all pairs: (B, N)."""
    x1_B1, y1_B1, x2_B1, y2_B1 = first_B4.T.contiguous()[..., None]
    x1_N, y1_N, x2_N, y2_N = second_N4.T.contiguous()
    inter_BN = _overlap(x1_B1, x2_B1, x1_N, x2_N, offset)
    inter_BN *= _overlap(y1_B1, y2_B1, y1_N, y2_N, offset)
    union_BN = _area(first_B4, offset)[:, None] + _area(second_N4, offset)
    return inter_BN.div_(union_BN.sub_(inter_BN))


def _overlap(low_B1: Tensor, high_B1: Tensor, low_N: Tensor, high_N: Tensor, offset: int) -> Tensor:
    """Common length of all pairs along one axis, at least 0: (B, N)."""
    length_BN = torch.minimum(high_B1, high_N).sub_(torch.maximum(low_B1, low_N))
    return (length_BN.add_(offset) if offset else length_BN).clamp_(min=0)


def _area(boxes_N4: Tensor, offset: int) -> Tensor:
    width_N = boxes_N4[:, 2] - boxes_N4[:, 0] + offset
    return width_N * (boxes_N4[:, 3] - boxes_N4[:, 1] + offset)


def soft_nms(
    boxes_N4: Tensor,
    scores_N: Tensor,
    iou_threshold: float,
    sigma: float,
    min_score: float,
    method: int,
    offset: int,
) -> tuple[Tensor, Tensor]:
    """Soft-NMS (arXiv:1704.04503): the best box is taken, boxes that overlap it lose score.

    A chain of small steps, in NumPy on the CPU. Boxes are kept in mmcv's order, in which one that
    falls out leaves its place to the last, so that equal scores are taken in the same order.

    Args:
        boxes_N4: Corners.
        scores_N: Non-negative.
        iou_threshold: From it on, methods 0 and 1 act.
        sigma: Width of the Gaussian of method 2.
        min_score: Boxes below it fall out; the first is taken whatever its score.
        method: 0 drops (NMS), 1 multiplies by 1 - IoU, 2 by exp(-IoU^2 / sigma).
        offset: 0 or 1, added to widths and heights.

    Returns:
        (M, 5) float32 corners and new scores in the order taken, and (M,) int64 indices.
    """
    boxes = boxes_N4.detach().cpu().float().numpy()
    area_N = _area(torch.from_numpy(boxes), offset).numpy()
    # One row per box: corners, area, score, index; the index is exact in float64 only.
    rows = np.concatenate([boxes, area_N[:, None]], 1)
    scores = scores_N.detach().cpu().float().numpy().copy()
    index, taken, first = np.arange(len(rows)), [], 0
    thr, one = np.float32(iou_threshold), np.float32(1)
    while first < len(index):
        # A Gaussian of nan (two boxes without area) makes the score nan: never the best but where
        # it stands first, as comparisons have it in C++.
        left = np.where(np.isnan(scores[first:]), -np.inf, scores[first:])
        best = first if np.isnan(scores[first]) else first + int(np.argmax(left))
        for values in (rows, scores, index):
            values[[first, best]] = values[[best, first]]
        taken.append((*rows[first, :4], scores[first]))
        x1, y1, x2, y2, area = rows[first]
        rest = rows[first + 1 :]
        width = np.minimum(x2, rest[:, 2]) - np.maximum(x1, rest[:, 0]) + np.float32(offset)
        height = np.minimum(y2, rest[:, 3]) - np.maximum(y1, rest[:, 1]) + np.float32(offset)
        inter = np.maximum(width, 0, out=width) * np.maximum(height, 0, out=height)
        with np.errstate(invalid="ignore", divide="ignore"):
            iou = inter / (area + rest[:, 4] - inter)
        if method == 2:
            scores[first + 1 :] *= np.exp(-(iou * iou) / np.float32(sigma))
        else:
            factor = 0 if method == 0 else one - iou
            scores[first + 1 :] *= np.where(iou >= thr, factor, one)
        first += 1
        out = np.flatnonzero(scores[first:] < min_score) + first
        if len(out):
            rows, scores, index = _without(out, rows, scores, index)
    dets_M5 = torch.from_numpy(np.array(taken, np.float32).reshape(-1, 5))
    return dets_M5, torch.from_numpy(index[: len(taken)].copy())


def _without(out: np.ndarray, *arrays: np.ndarray) -> list[np.ndarray]:
    """The arrays without some places, each filled by what is last at that time."""
    falls = np.zeros(len(arrays[0]), bool)
    falls[out] = True
    order, last = np.arange(len(falls)), len(falls) - 1
    for place in out:
        while last > place and falls[last]:
            last -= 1
        if place >= last:
            last = min(last, int(place) - 1)
            break
        order[place] = last
        last -= 1
    return [values[order[: last + 1]] for values in arrays]


def nms_match(dets_N5: Tensor, iou_threshold: float) -> list[list[int]]:
    """NMS that tells, for each survivor, whom it suppressed: lists of indices, survivor first.

    Args:
        dets_N5: Corners and scores.
        iou_threshold: Boxes at or above it belong to the better one.
    """
    dets = dets_N5.detach().cpu().float()
    left = dets[:, 4].sort(descending=True, stable=True).indices
    groups = []
    while len(left):
        iou = _iou(dets[left[:1], :4], dets[left[1:], :4], 0)[0]
        matched = iou >= iou_threshold
        groups.append([int(left[0]), *left[1:][matched].tolist()])
        left = left[1:][~matched]
    return groups
