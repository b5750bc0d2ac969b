"""What is kept of the scores that heads give to classes: the rank of the right one and the best.

Shape legend: Q pictures, P heads, K classes, J best classes that are kept.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

MOST_KEPT = 5


def ranked(scores_QPK: Tensor, target_Q: Tensor, kept: int = MOST_KEPT) -> np.ndarray:
    """(Q, P, 1 + 2 J) float32: rank of the right class, the J best classes, their scores.

    The rank is how many other classes score at least what the right one does; 0 is right. Ties
    count against the right class, which then stands behind every other one of its score: a head
    that says the same of all classes is right nowhere. A head with a score that is not finite has
    nan throughout.

    Args:
        scores_QPK: More is better.
        target_Q: Right classes, int64.
        kept: J at most; there are no more than classes.

    Raises:
        ValueError: If a target is none of the classes.

    Example:
        >>> ranked(torch.tensor([[[0.1, 0.7, 0.2]]]), torch.tensor([2]), 2)[0, 0].round(1)
        array([1. , 1. , 2. , 0.7, 0.2], dtype=float32)
    """
    classes = scores_QPK.shape[-1]
    if len(target_Q) and not 0 <= int(target_Q.min()) <= int(target_Q.max()) < classes:
        raise ValueError(
            f"targets lie in {int(target_Q.min())}..{int(target_Q.max())}, outside the {classes} "
            "classes; train and val need the same folders"
        )
    kept = min(kept, classes)
    scores_QPK = scores_QPK.double()
    is_bad_QP = ~torch.isfinite(scores_QPK).all(dim=-1)
    place_QP1 = target_Q[:, None, None].expand(*scores_QPK.shape[:2], 1)
    right_QP1 = scores_QPK.gather(-1, place_QP1)
    rank_QP1 = (scores_QPK >= right_QP1).sum(dim=-1, keepdim=True) - 1
    lower = torch.nextafter(right_QP1, torch.full_like(right_QP1, -torch.inf))
    best = scores_QPK.scatter(-1, place_QP1, lower).topk(kept, dim=-1).indices
    found = torch.cat([rank_QP1, best, scores_QPK.gather(-1, best)], dim=-1).float()
    found[is_bad_QP] = torch.nan
    return found.cpu().numpy()
