"""Focal losses of (N, K) logits and (N,) labels in PyTorch, with their gradients.

Source: arXiv:1708.02002, equation 5; a label outside 0..K-1 is background, which for the sigmoid
form counts against every class and for the softmax form not at all.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def sigmoid_focal_loss(
    logits_NK: Tensor, labels_N: Tensor, class_weight_K: Tensor, gamma: float, alpha: float
) -> Tensor:
    """Loss of every number: (N, K); `class_weight_K` is empty for none, else one per class."""
    one_hot_NK = labels_N[:, None] == torch.arange(logits_NK.shape[1], device=labels_N.device)
    # Of the true class: log p and (1 - p); of the others: log(1 - p) and p. Same sign rule.
    signed_NK = torch.where(one_hot_NK, logits_NK, -logits_NK).to(_wide(logits_NK))
    loss_NK = -F.logsigmoid(signed_NK) * torch.sigmoid(-signed_NK).pow(gamma)
    loss_NK = loss_NK * torch.where(one_hot_NK, alpha, 1.0 - alpha)
    return _weighted(loss_NK, labels_N, class_weight_K).to(logits_NK.dtype)


def softmax_focal_loss(
    logits_NK: Tensor, labels_N: Tensor, class_weight_K: Tensor, gamma: float, alpha: float
) -> Tensor:
    """Loss of every row: (N,); 0 for background."""
    counts_N = (labels_N >= 0) & (labels_N < logits_NK.shape[1])
    logs_NK = logits_NK.to(_wide(logits_NK)).log_softmax(1)
    log_N = logs_NK.gather(1, torch.where(counts_N, labels_N, 0)[:, None]).squeeze(1)
    loss_N = -alpha * (-log_N.expm1()).pow(gamma) * log_N
    loss_N = torch.where(counts_N, loss_N, 0.0)
    return _weighted(loss_N, labels_N, class_weight_K).to(logits_NK.dtype)


def _wide(values: Tensor) -> torch.dtype:
    return torch.promote_types(values.dtype, torch.float32)


def _weighted(loss: Tensor, labels_N: Tensor, class_weight_K: Tensor) -> Tensor:
    """The loss times the weight of the row's class; rows of background keep theirs."""
    if not len(class_weight_K):
        return loss
    known_N = (labels_N >= 0) & (labels_N < len(class_weight_K))
    weight_N = torch.where(known_N, class_weight_K[torch.where(known_N, labels_N, 0)], 1.0)
    return loss * (weight_N[:, None] if loss.ndim == 2 else weight_N)
