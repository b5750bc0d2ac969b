"""One-to-many assignment by IoU, as DETA trains: pairs of a prediction and an object.

Shape legend: N predictions, G objects, P pairs.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from mmdet.registry import TASK_UTILS
from torch import Tensor

# IoUs that are made at once: blocks stay in the caches, and no (G, N) matrix exists.
BLOCK_NUMEL = {"cpu": 2**18, "default": 2**25}
RUN = 64  # predictions next to each other that share one maximum


def xyxy_from_cxcywh(boxes_N4: Tensor) -> Tensor:
    """(N, 4) centre, width, height -> (N, 4) corners."""
    centre, size = boxes_N4.split(2, dim=-1)
    return torch.cat([centre - 0.5 * size, centre + 0.5 * size], dim=-1)


def iou_rows(objects_G4: Tensor, boxes_4N: Tensor, areas_N: Tensor) -> Tensor:
    """IoU of a few objects with all boxes: corners (G, 4) and (4, N) -> (G, N)."""
    x1, y1, x2, y2 = objects_G4[:, :, None].unbind(1)  # (G, 1) each
    width = torch.minimum(boxes_4N[2], x2).sub_(torch.maximum(boxes_4N[0], x1)).clamp_(min=0)
    height = torch.minimum(boxes_4N[3], y2).sub_(torch.maximum(boxes_4N[1], y1)).clamp_(min=0)
    shared = width.mul_(height)
    union = torch.sub((x2 - x1) * (y2 - y1) + areas_N, shared, out=height)
    return shared.div_(union)


def match_pairs(
    objects_G4: Tensor,
    boxes_N4: Tensor,
    positive_iou: float,
    max_positives: int,
    max_per_object: int = 4,
) -> tuple[Tensor, Tensor]:
    """Pairs of predictions and objects that the box and class losses are computed on.

    1. Every prediction belongs to the object it overlaps most. It is positive when that IoU
       reaches `positive_iou`, or when it is the best prediction of any object (ties included;
       it stays with its own object then).
    2. More than `max_positives` positives are thinned at random.
    3. An object with c positives gets the min(c, `max_per_object`) predictions of highest IoU
       among *all* predictions. A prediction can therefore appear with several objects, and what
       step 1 and 2 decide is only how many each object gets.

    There is no ignored prediction: whatever is in no pair is a negative.

    Args:
        objects_G4: Object boxes (cx, cy, w, h), any unit, of positive size.
        boxes_N4: Boxes of the predictions in the same form: anchors or proposals.
        positive_iou: Threshold of step 1.
        max_positives: Limit of step 2.
        max_per_object: Limit of step 3.

    Returns:
        Prediction and object indices, (P,) int64 each, by object, then by falling IoU.

    `plain_pairs` finds the same from the (G, N) matrix of all IoUs. Here that matrix is made in
    blocks, of which the best IoU of every run of predictions stays; the pairs of an object are
    then looked for in its best runs alone.

    Source: DETA (arXiv:2212.06137, section 3), jozhang97/DETA @ f47e50e, models/assigner.py, with
    detectron2's matching rule. Deviation: random numbers are drawn only where there are too many
    positives.
    """
    num_objects, num_boxes = len(objects_G4), len(boxes_N4)
    device = boxes_N4.device
    if num_objects == 0 or num_boxes == 0:
        empty = torch.zeros(0, dtype=torch.int64, device=device)
        return empty, empty.clone()
    objects_G4 = xyxy_from_cxcywh(objects_G4)
    padding = -num_boxes % RUN  # empty boxes, which are cut off again below
    corners_4N = F.pad(xyxy_from_cxcywh(boxes_N4).T, (0, padding)).contiguous()
    areas_N = (corners_4N[2] - corners_4N[0]) * (corners_4N[3] - corners_4N[1])
    best_N = torch.empty(num_boxes + padding, dtype=boxes_N4.dtype, device=device)
    runs_GR = best_N.new_empty(num_objects, len(best_N) // RUN)  # best IoU of every run
    numel = BLOCK_NUMEL.get(device.type, BLOCK_NUMEL["default"])
    width = max(1, numel // (RUN * num_objects)) * RUN
    for start in range(0, len(best_N), width):
        block = slice(start, start + width)
        iou_Gn = iou_rows(objects_G4, corners_4N[:, block], areas_N[block])
        torch.amax(iou_Gn, dim=0, out=best_N[block])
        runs_GR[:, start // RUN : (start + width) // RUN] = iou_Gn.unflatten(1, (-1, RUN)).amax(2)

    # The best predictions of an object are in its best runs. One more than needed shows ties; for
    # those, the choice of `topk` among all predictions counts, as in the reference.
    top = min(max_per_object, num_boxes)
    most = min(max_per_object + 1, num_boxes)
    best_runs_GT = runs_GR.topk(min(most, runs_GR.shape[1]), dim=1).indices
    index_Gn = _members(best_runs_GT).flatten(1)  # (G, T x RUN)
    iou_Gn = _iou_of_pairs(objects_G4[:, None], corners_4N, areas_N, index_Gn)
    iou_Gn = iou_Gn.masked_fill_(index_Gn >= num_boxes, -1.0)
    top_iou_GT, place_GT = iou_Gn.topk(most, dim=1)
    top_boxes_GT = index_Gn.gather(1, place_GT)[:, :top]
    tied = (top_iou_GT[:, 1:] == top_iou_GT[:, :-1]).any(1).nonzero().squeeze(1)
    for part in tied.split(max(1, numel // num_boxes)):
        iou_gN = iou_rows(objects_G4[part], corners_4N, areas_N)[:, :num_boxes]
        top_boxes_GT[part] = iou_gN.topk(top, dim=1).indices

    positive_N = best_N[:num_boxes] >= positive_iou
    owner_P, run_P = (runs_GR == top_iou_GT[:, :1]).nonzero(as_tuple=True)
    for part in torch.arange(len(run_P), device=device).split(max(1, numel // RUN)):
        owner, index_pn = owner_P[part], _members(run_P[part])
        iou_pn = _iou_of_pairs(objects_G4[owner, None], corners_4N, areas_N, index_pn)
        index = index_pn[iou_pn == top_iou_GT[owner, :1]]
        positive_N[index[index < num_boxes]] = True
    positive = positive_N.nonzero().squeeze(1)
    if len(positive) > max_positives:
        positive = positive[torch.randperm(len(positive), device=device)[:max_positives]]
    own = [  # the object that a positive prediction overlaps most
        iou_rows(objects_G4, corners_4N[:, part], areas_N[part]).argmax(0)
        for part in positive.split(max(1, numel // num_objects))
    ]
    counts_G1 = torch.bincount(torch.cat(own), minlength=num_objects)[:, None]
    taken_GT = torch.arange(top, device=device) < counts_G1  # (G, top)
    return top_boxes_GT[taken_GT], taken_GT.nonzero()[:, 0]


def plain_pairs(
    objects_G4: Tensor,
    boxes_N4: Tensor,
    positive_iou: float,
    max_positives: int,
    max_per_object: int = 4,
) -> tuple[Tensor, Tensor]:
    """`match_pairs` as its three steps say it, from the matrix of all IoUs; at least one object."""
    first, second = xyxy_from_cxcywh(objects_G4)[:, None], xyxy_from_cxcywh(boxes_N4)
    sides_GN2 = torch.min(first[..., 2:], second[:, 2:]) - torch.max(first[..., :2], second[:, :2])
    shared_GN = sides_GN2.clamp(min=0).prod(-1)
    areas_G1, areas_N = ((box[..., 2:] - box[..., :2]).prod(-1) for box in (first, second))
    iou_GN = shared_GN / (areas_G1 + areas_N - shared_GN)

    best_N, own_N = iou_GN.max(dim=0)
    positive_N = best_N >= positive_iou
    for iou_N in iou_GN:
        positive_N |= iou_N == iou_N.max()
    positive = positive_N.nonzero().squeeze(1)
    if len(positive) > max_positives:
        positive = positive[torch.randperm(len(positive), device=positive.device)[:max_positives]]
    predictions, objects = [], []
    for g, iou_N in enumerate(iou_GN):
        count = min(int((own_N[positive] == g).sum()), max_per_object)
        predictions.append(iou_N.topk(min(max_per_object, len(iou_N))).indices[:count])
        objects.append(torch.full_like(predictions[-1], g))
    return torch.cat(predictions), torch.cat(objects)


def _members(runs: Tensor) -> Tensor:
    """Numbers of runs, any shape -> numbers of their predictions (..., RUN)."""
    return runs[..., None] * RUN + torch.arange(RUN, device=runs.device)


def _iou_of_pairs(
    objects_P14: Tensor, boxes_4N: Tensor, areas_N: Tensor, index_Pn: Tensor
) -> Tensor:
    """IoU of every object with its own boxes, bit by bit as `iou_rows`: (P, n)."""
    x1, y1, x2, y2 = objects_P14.unbind(-1)  # (P, 1) each
    left, top, right, bottom = boxes_4N[:, index_Pn]
    width = (torch.minimum(right, x2) - torch.maximum(left, x1)).clamp_(min=0)
    height = (torch.minimum(bottom, y2) - torch.maximum(top, y1)).clamp_(min=0)
    shared = width * height
    return shared / ((x2 - x1) * (y2 - y1) + areas_N[index_Pn] - shared)


@TASK_UTILS.register_module()
class PairAssigner:
    """`match_pairs` with its settings; (objects, boxes) -> pairs.

    Args:
        positive_iou: 0.7 for anchors, 0.6 for proposals, in DETA.
        max_positives: A number (128 for anchors), or a share of the predictions when below 1
            (0.25 of the proposals).
        max_per_object: 4 in DETA.

    Raises:
        ValueError: If a setting is out of range.
    """

    def __init__(self, positive_iou: float, max_positives: float, max_per_object: int = 4) -> None:
        if not 0.0 < positive_iou <= 1.0 or max_positives <= 0 or max_per_object < 1:
            raise ValueError(
                f"PairAssigner got positive_iou={positive_iou}, max_positives={max_positives}, "
                f"max_per_object={max_per_object}; they must be in (0, 1], above 0 and at least 1"
            )
        self.positive_iou = positive_iou
        self.max_positives = max_positives
        self.max_per_object = max_per_object

    def __call__(self, objects_G4: Tensor, boxes_N4: Tensor) -> tuple[Tensor, Tensor]:
        """(G, 4) and (N, 4) boxes as centre and size -> indices of predictions and objects."""
        limit = self.max_positives
        if limit < 1:
            limit = limit * len(boxes_N4)
        return match_pairs(objects_G4, boxes_N4, self.positive_iou, int(limit), self.max_per_object)
