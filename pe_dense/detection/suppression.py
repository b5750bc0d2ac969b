"""Suppression of overlapping boxes, class by class: hard NMS, and soft-NMS of the quad kind.

Shape legend: Q boxes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from mmcv.ops import nms
from torch import Tensor

from pe_dense.detection.pair_assignment import iou_rows
from pe_dense.encoders.traced import is_exported
from pe_dense.kernels import use_kernels

PAIRWISE_LIMIT = 4096  # up to this many boxes of a class are compared all with all
PAIRWISE_ROWS = 256  # with so many at a time


def grouped_nms(
    boxes_Q4: Tensor, scores_Q: Tensor, groups_Q: Tensor, iou_threshold: float
) -> Tensor:
    """NMS within each group (class or pyramid level); indices of survivors by falling score.

    Groups are handled one by one. The usual trick of shifting every group to its own place loses
    precision in float32: at label 90 of a 1824-px image an IoU is off by up to 1e-3.

    Args:
        boxes_Q4: Corners, any unit.
        scores_Q: Scores of any range.
        groups_Q: Integers; boxes of different groups do not meet.
        iou_threshold: Boxes above it are suppressed.
    """
    kept_Q = kept_boxes(boxes_Q4, scores_Q, groups_Q, iou_threshold)
    by_score = scores_Q.sort(descending=True, stable=True).indices
    return by_score[kept_Q[by_score]]


def kept_boxes(
    boxes_Q4: Tensor,
    scores_Q: Tensor,
    groups_Q: Tensor,
    iou_threshold: float,
    num_groups: int | None = None,
) -> Tensor:
    """(Q,) bool, which boxes survive `grouped_nms`; of equal scores the first counts as higher.

    `num_groups` is for exporters, which cannot count: groups are the numbers below it.

    On a GPU with Triton all groups are handled at once, and nothing waits for the result; one by
    one they cost a launch and a wait each, most of the time of a prediction.
    """
    if is_exported():
        from pe_dense.openmmlab.exported_operators import kept_in_groups

        assert num_groups is not None
        by_score = scores_Q.sort(descending=True, stable=True).indices
        kept_Q = kept_in_groups(boxes_Q4[by_score], groups_Q[by_score], num_groups, iou_threshold)
        return torch.zeros_like(kept_Q).scatter(0, by_score, kept_Q)
    if use_kernels(boxes_Q4):
        from pe_dense.detection.grouped_nms_kernel import kept_of_sorted

        by_score = scores_Q.sort(descending=True, stable=True).indices
        groups, by_group = groups_Q[by_score].sort(stable=True)
        index = by_score[by_group]
        kept_Q = torch.empty(len(index), dtype=torch.bool, device=index.device)
        return kept_Q.index_copy_(0, index, kept_of_sorted(boxes_Q4[index], groups, iou_threshold))
    kept_Q = torch.zeros(len(boxes_Q4), dtype=torch.bool, device=boxes_Q4.device)
    boxes_Q4 = boxes_Q4.to(torch.promote_types(boxes_Q4.dtype, torch.float32))
    by_score = scores_Q.sort(descending=True, stable=True).indices
    for group in groups_Q.unique():
        index = by_score[groups_Q[by_score] == group]
        # Falling numbers for scores: the compiled operator takes equal ones in no certain order.
        falling = torch.arange(len(index), 0, -1, device=index.device).to(boxes_Q4.dtype)
        _, keep = nms(boxes_Q4[index], falling, iou_threshold)
        kept_Q[index[keep]] = True
    return kept_Q


def soft_nms_quad(
    boxes_Q4: Tensor,
    scores_Q: Tensor,
    labels_Q: Tensor,
    iou_threshold: float = 0.7,
    quad_scale: float = 0.5,
    min_score: float = 1e-3,
) -> tuple[Tensor, Tensor]:
    """Soft-NMS that scales scores by (1 - IoU) ** quad_scale above a threshold, within classes.

    The best box is taken; boxes of its class that overlap it by more than the threshold lose
    score; those at or below `min_score` are dropped; and so on. The first box of an image is
    taken whatever its score.

    Args:
        boxes_Q4: Corners, any unit.
        scores_Q: Scores in 0..1.
        labels_Q: Classes.
        iou_threshold: Boxes at or below it keep their score.
        quad_scale: Exponent; 0.5 or 0.4 in DETA's test-time augmentation.
        min_score: Scores at or below it are dropped.

    Returns:
        Indices of the boxes kept, in the order they were taken, and their new scores.

    Source: perception_models @ 3e352cc, DETA_pe/models/utils_softnms.py (detectron2's soft-NMS
    with a further method). Deviations: classes are separated exactly instead of by shifting
    coordinates (scores move by up to 3e-5), and runs in NumPy on the CPU, because it is a chain
    of steps on few numbers that no GPU speeds up.
    """
    if len(scores_Q) == 0 or scores_Q.max() <= min_score:
        first = scores_Q.topk(min(1, len(scores_Q)))
        return first.indices, first.values
    device = boxes_Q4.device
    labels = labels_Q.detach().cpu().numpy()
    by_class = np.argsort(labels, kind="stable")
    boxes = boxes_Q4.detach().float().cpu().numpy()[by_class]
    scores = scores_Q.detach().float().cpu().numpy()[by_class].copy()
    starts = np.flatnonzero(np.r_[True, np.diff(labels[by_class]) != 0])
    kept, kept_scores = [], []
    for start, end in zip(starts, [*starts[1:], len(labels)], strict=True):
        index, new = _decay_one_class(
            boxes[start:end], scores[start:end], iou_threshold, quad_scale, min_score
        )
        kept.append(by_class[start + index])
        kept_scores.append(new)
    index, new = np.concatenate(kept), np.concatenate(kept_scores)
    order = np.argsort(-new, kind="stable")
    index, new = index[order], new[order]
    index, new = index[new > min_score], new[new > min_score]
    return torch.from_numpy(index).to(device), torch.from_numpy(new).to(scores_Q)


def _decay_one_class(
    boxes_Q4: np.ndarray,
    scores_Q: np.ndarray,
    iou_threshold: float,
    quad_scale: float,
    min_score: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Boxes of one class that are taken, with their scores; most dropped ones are left out."""
    if len(scores_Q) <= PAIRWISE_LIMIT:
        return _decay_along_meetings(boxes_Q4, scores_Q, iou_threshold, quad_scale, min_score)
    return _decay_packed(boxes_Q4, scores_Q, iou_threshold, quad_scale, min_score)


def _decay_along_meetings(
    boxes_Q4: np.ndarray,
    scores_Q: np.ndarray,
    iou_threshold: float,
    quad_scale: float,
    min_score: float,
) -> tuple[np.ndarray, np.ndarray]:
    """`_decay_one_class` with all overlaps found first; boxes that meet no other need no step."""
    corners_4Q = torch.from_numpy(boxes_Q4.T.copy())
    areas_Q = (corners_4Q[2] - corners_4Q[0]) * (corners_4Q[3] - corners_4Q[1])
    firsts, seconds, factors = [], [], []
    for start in range(0, len(scores_Q), PAIRWISE_ROWS):
        rows_r4 = corners_4Q[:, start : start + PAIRWISE_ROWS].T
        iou_rQ = iou_rows(rows_r4, corners_4Q, areas_Q).numpy()
        first, second = np.nonzero(iou_rQ > iou_threshold)
        overlap, first = iou_rQ[first, second], first + start
        other = first != second
        firsts.append(first[other])
        seconds.append(second[other])
        factors.append(np.maximum(1.0 - overlap[other], 0.0) ** np.float32(quad_scale))
    second, factor = np.concatenate(seconds), np.concatenate(factors)
    num_met = np.bincount(np.concatenate(firsts), minlength=len(scores_Q))
    ends = np.cumsum(num_met).tolist()  # the meetings of box q are ends[q - 1]..ends[q] - 1
    alone = num_met == 0
    order, taken = [*np.flatnonzero(alone)], [*scores_Q[alone]]
    live = np.where(alone, np.float32(-1.0), scores_Q)
    for _ in range(len(scores_Q) - len(order)):
        best = int(live.argmax())
        score = live[best]
        if score <= min_score:
            break
        order.append(best)
        taken.append(score)
        live[best] = -1.0
        met = slice(ends[best - 1] if best else 0, ends[best])
        live[second[met]] *= factor[met]  # those taken stay below zero, or become -0
    return np.array(order, np.int64), np.array(taken, np.float32)


def _decay_packed(
    boxes_Q4: np.ndarray,
    scores_Q: np.ndarray,
    iou_threshold: float,
    quad_scale: float,
    min_score: float,
) -> tuple[np.ndarray, np.ndarray]:
    """`_decay_one_class` without a list of overlaps, for very many boxes.

    Those still to be taken are kept packed: rows and scores shrink as boxes are taken.
    """
    index = np.arange(len(scores_Q))
    order, taken = [], []
    rows_5Q = np.empty((5, len(scores_Q)), np.float32)  # x1, y1, x2, y2, area
    rows_5Q[:4] = boxes_Q4.T
    rows_5Q[4] = (rows_5Q[2] - rows_5Q[0]) * (rows_5Q[3] - rows_5Q[1])
    live = scores_Q
    work_3Q = np.empty((3, len(scores_Q)), np.float32)
    since_packed = 0
    while index.size:
        best = int(live.argmax())
        score = live[best]
        if score <= min_score:
            break
        order.append(index[best])
        taken.append(score)
        live[best] = -1.0
        iou_Q = _iou_with(rows_5Q, best, work_3Q)
        (near,) = np.nonzero(iou_Q > iou_threshold)
        if near.size > 1:  # the box itself is one
            near = near[near != best]
            live[near] *= np.maximum(1.0 - iou_Q[near], 0.0) ** np.float32(quad_scale)
            since_packed += near.size
        since_packed += 1
        if since_packed > 64 and 4 * since_packed > index.size:
            left = live > min_score
            index, live, rows_5Q = index[left], live[left], rows_5Q[:, left]
            work_3Q = np.empty((3, index.size), np.float32)
            since_packed = 0
    return np.array(order, np.int64), np.array(taken, np.float32)


def _iou_with(rows_5Q: np.ndarray, place: int, work_3Q: np.ndarray) -> np.ndarray:
    """IoU of one box with all: (5, Q) corners and areas -> (Q,), a view of `work_3Q`."""
    x1, y1, x2, y2, area = rows_5Q
    low, width, height = work_3Q
    np.minimum(x2, x2[place], out=width)
    width -= np.maximum(x1, x1[place], out=low)
    np.maximum(width, 0.0, out=width)  # two negative sides would make a positive area
    np.minimum(y2, y2[place], out=height)
    height -= np.maximum(y1, y1[place], out=low)
    width *= height
    union = np.add(area, area[place], out=low)
    union -= width
    np.maximum(union, np.finfo(np.float32).tiny, out=union)
    width /= union
    return width


def suppress(
    boxes_Q4: Tensor, scores_Q: Tensor, labels_Q: Tensor, settings: Mapping[str, Any]
) -> tuple[Tensor, Tensor]:
    """Apply `settings`, dict(type='nms' or 'soft_nms_quad', ...), class by class.

    Returns:
        Indices by falling score, and their scores.

    Raises:
        ValueError: For another type.
    """
    options = dict(settings)
    kind = options.pop("type")
    if kind == "nms":
        index = grouped_nms(boxes_Q4, scores_Q, labels_Q, **options)
        return index, scores_Q[index]
    if kind == "soft_nms_quad":
        return soft_nms_quad(boxes_Q4, scores_Q, labels_Q, **options)
    raise ValueError(f"test_cfg.nms.type={kind!r} is neither 'nms' nor 'soft_nms_quad'")
