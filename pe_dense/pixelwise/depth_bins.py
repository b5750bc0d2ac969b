"""Depth as an expectation over bins: a head scores K fixed depths at every pixel.

Shape legend: B batch, K bins, h, w pixels of the feature map.
"""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from pe_dense.kernels import use_kernels

BinStrategy = Literal["UD", "SID", "SID_as_released"]
BinNorm = Literal["linear", "softmax", "sigmoid"]
LINEAR_OFFSET = 0.1  # weight that 'linear' gives every bin, also where all logits are negative


def depth_bins(
    num_bins: int, min_depth: float, max_depth: float, strategy: BinStrategy = "UD"
) -> Tensor:
    """Depths of the bins, from `min_depth` to `max_depth` in metres, both included.

    Args:
        num_bins: K, at least 2.
        min_depth: First bin in m, positive.
        max_depth: Last bin in m.
        strategy: 'UD' spaces them evenly in metres, 'SID' evenly in log depth. 'SID_as_released'
            is what DINOv2's code has under that name: 10 ** x for x even between the limits, so
            from 10 ** min_depth to 10 ** max_depth (1e10 m for a limit of 10 m), or inf. No
            published result uses it.

    Returns:
        (K,) float32, rising.

    Raises:
        ValueError: If an argument is out of range, or the bins do not fit in float32.

    Source: arXiv:2011.14141 (AdaBins), arXiv:1806.02446 (DORN, SID); depth decode head of
    facebookresearch/dinov2 @ ad0c4e0.
    """
    if strategy not in get_args(BinStrategy):
        raise ValueError(f"bin strategy {strategy!r} is not known; use {get_args(BinStrategy)}")
    if num_bins < 2:
        raise ValueError(f"num_bins {num_bins} is too small; use 2 at least (DINOv2: 256)")
    if not 0 < min_depth < max_depth < math.inf:
        raise ValueError(
            f"depth limits {min_depth} and {max_depth} are no range; pass 0 < min_depth < max_depth"
        )
    if strategy == "UD":
        return torch.linspace(min_depth, max_depth, num_bins)
    if strategy == "SID":
        low, high = math.log(min_depth), math.log(max_depth)
        return torch.linspace(low, high, num_bins, dtype=torch.float64).exp().float()
    bins_K = torch.logspace(min_depth, max_depth, num_bins, dtype=torch.float64).float()
    if not bool(torch.isfinite(bins_K).all()):
        raise ValueError(
            f"'SID_as_released' puts the last bin at 10 ** {max_depth} m, which float32 cannot "
            "hold; use 'SID'"
        )
    return bins_K


def expected_depth(
    logits_BKhw: Tensor, bins_K: Tensor, norm: BinNorm = "linear", factor: int = 1
) -> Tensor:
    """Depth of every pixel: the mean of the bins, weighted with the normalised logits.

    In float32 at least, also under autocast: bfloat16 resolves 10 m to 3 cm only. No normalised
    copy of the logits is made for 'linear', and the backward pass holds one array of their size
    ('sigmoid': two). On CUDA, upsampled logits are never in memory, and the gradient cannot be
    differentiated again.

    Args:
        logits_BKhw: (B, K, h, w).
        bins_K: Depths in m.
        norm: Weights of the bins. 'linear': relu(logit) + 0.1, divided by their sum (AdaBins,
            DINOv2, DINOv3). 'softmax'. 'sigmoid': divided by their sum.
        factor: Logits are upsampled first, as `upsampled` does it: the expectation is not linear.

    Returns:
        (B, 1, h * factor, w * factor) in m, within the bins.

    Raises:
        ValueError: If the norm is unknown or the shapes do not fit.

    Source: arXiv:2011.14141 section 3.2; depth decode head of facebookresearch/dinov2 @ ad0c4e0.
    """
    if logits_BKhw.ndim != 4 or bins_K.shape != logits_BKhw.shape[1:2]:
        raise ValueError(
            f"logits of shape {tuple(logits_BKhw.shape)} and bins of {tuple(bins_K.shape)}; "
            "pass (B, K, h, w) and (K,)"
        )
    if norm not in get_args(BinNorm):
        raise ValueError(f"bin norm {norm!r} is not known; use {get_args(BinNorm)}")
    if factor > 1 and logits_BKhw.dtype != torch.float64 and use_kernels(logits_BKhw):
        from pe_dense.pixelwise.expected_depth_kernel import upsampled_expectation

        size = logits_BKhw.shape[2] * factor, logits_BKhw.shape[3] * factor
        return upsampled_expectation(logits_BKhw, bins_K, norm, LINEAR_OFFSET, size)
    logits_BKhw = upsampled(logits_BKhw, factor)
    batch, _, height, width = logits_BKhw.shape
    with torch.autocast(logits_BKhw.device.type, enabled=False):
        weights_BKhw, offset = _bin_weights(logits_BKhw, norm)
        bins_K = bins_K.to(weights_BKhw)
        # Rows: the weighted sum of the bins and that of ones, in one pass over the logits.
        rows_2K = torch.stack([bins_K, torch.ones_like(bins_K)])
        sums_B2n = torch.bmm(rows_2K.expand(batch, -1, -1), weights_BKhw.flatten(2))
        sums_B2n = sums_B2n + offset * rows_2K.sum(1, keepdim=True)
        depth_Bn = sums_B2n[:, 0] / sums_B2n[:, 1]
    return depth_Bn.view(batch, 1, height, width)


def resized(maps_BChw: Tensor, size: tuple[int, int]) -> Tensor:
    """Maps of another size, bilinear, align_corners False; as they are if they have it."""
    if tuple(maps_BChw.shape[2:]) == tuple(size):
        return maps_BChw
    return F.interpolate(maps_BChw, size, mode="bilinear", align_corners=False)


def upsampled(logits_BKhw: Tensor, factor: int) -> Tensor:
    """Scores of bins on a grid that is finer by a whole factor; their expectation comes after."""
    h, w = logits_BKhw.shape[2:]
    return resized(logits_BKhw, (h * factor, w * factor))


def bin_probabilities(logits_BKhw: Tensor, norm: BinNorm = "linear") -> Tensor:
    """Weights of the bins that `expected_depth` uses: (B, K, h, w), above 0, sum 1 over K.

    For pictures and tests; the expectation itself does without this copy.

    Raises:
        ValueError: If the norm is unknown.
    """
    weights_BKhw, offset = _bin_weights(logits_BKhw, norm)
    weights_BKhw = weights_BKhw + offset
    return weights_BKhw / weights_BKhw.sum(1, keepdim=True)


def _bin_weights(logits_BKhw: Tensor, norm: BinNorm) -> tuple[Tensor, float]:
    """Weights before the division by their sum, less an offset that all bins have."""
    logits_BKhw = logits_BKhw.to(torch.promote_types(logits_BKhw.dtype, torch.float32))
    if norm == "linear":
        return F.relu(logits_BKhw), LINEAR_OFFSET
    if norm == "softmax":
        return logits_BKhw.softmax(1), 0.0
    if norm == "sigmoid":
        # sigmoid / sum(sigmoid), but defined where every sigmoid underflows; F.logsigmoid would
        # keep another buffer on CPU.
        return (-F.softplus(-logits_BKhw)).softmax(1), 0.0
    raise ValueError(f"bin norm {norm!r} is not known; use {get_args(BinNorm)}")
