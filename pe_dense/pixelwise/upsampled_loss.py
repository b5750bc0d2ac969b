"""Cross-entropy of token logits against a full-resolution label map, without the large logits.

Shape legend: B images, K classes, h w token grid, H W pixels, R rows of one band.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

# Upsampled logits that exist at a time; on the CPU a band should stay in the caches.
BAND_NUMEL = {"cpu": 2**20, "default": 2**25}


def interpolation_matrix(num_in: int, num_out: int, like: Tensor) -> Tensor:
    """(num_out, num_in) float32 weights of bilinear interpolation along one axis.

    That of `F.interpolate(..., align_corners=False)`; every row sums to 1.

    Example:
        >>> interpolation_matrix(2, 4, torch.zeros(1)).tolist()
        [[1.0, 0.0], [0.75, 0.25], [0.25, 0.75], [0.0, 1.0]]
    """
    eye = torch.eye(num_in, device=like.device)[None]
    return F.interpolate(eye, size=num_out, mode="linear", align_corners=False)[0].T.contiguous()


def first_derivative_only(gradient: Tensor) -> Tensor:
    """A gradient for `backward` to return, whose own derivative is refused, not taken for 0.

    `once_differentiable` on `backward` itself looks at grad_output alone, which requires no
    gradient in a plain create_graph=True: the gradient would silently pass for a constant.

    Example:
        >>> with torch.enable_grad():  # as autograd does under create_graph=True
        ...     first_derivative_only(torch.ones(2)).requires_grad
        True
    """
    return _as_it_is(None, gradient.detach().requires_grad_(torch.is_grad_enabled()))


@once_differentiable
def _as_it_is(ctx: None, gradient: Tensor) -> Tensor:
    del ctx
    return gradient.detach()


class _UpsampledCrossEntropy(torch.autograd.Function):
    """Sum of the losses of all pixels; the gradient is made on the way and only scaled later."""

    @staticmethod
    def forward(ctx, logits_BKhw: Tensor, labels_BHW: Tensor, ignore_index: int) -> Tensor:
        tokens = logits_BKhw.detach().float().contiguous()
        classes, (h, w) = tokens.shape[1], tokens.shape[2:]
        height, width = labels_BHW.shape[1:]
        rows_Hh = interpolation_matrix(h, height, tokens)
        columns_Ww = interpolation_matrix(w, width, tokens)
        wants_grad = ctx.needs_input_grad[0]
        grad_BKhw = torch.zeros_like(tokens) if wants_grad else None
        budget = BAND_NUMEL.get(tokens.device.type, BAND_NUMEL["default"])
        band = max(1, budget // (classes * width))
        total = tokens.new_zeros((), dtype=torch.float64)
        for b, (tokens_Khw, labels_HW) in enumerate(zip(tokens, labels_BHW, strict=True)):
            wide_KhW = tokens_Khw @ columns_Ww.T
            grad_KhW = torch.zeros_like(wide_KhW) if wants_grad else None
            for start in range(0, height, band):
                rows_Rh = rows_Hh[start : start + band]
                first, last = _support(rows_Rh)
                rows_Rh = rows_Rh[:, first:last]
                labels_N = labels_HW[start : start + band].flatten()
                counted_N = labels_N != ignore_index
                logits_KN = (rows_Rh @ wide_KhW[:, first:last]).flatten(1)  # (K, R * W)
                target_1N = torch.where(counted_N, labels_N, 0).long()[None]
                top_1N = logits_KN.amax(0, keepdim=True)
                own_1N = logits_KN.gather(0, target_1N)
                odds_KN = logits_KN.sub_(top_1N).exp_()
                sum_1N = odds_KN.sum(0, keepdim=True)
                loss_1N = sum_1N.log() + top_1N - own_1N
                total += (loss_1N * counted_N).sum(dtype=torch.float64)
                if grad_KhW is None:
                    continue
                share_KN = odds_KN.mul_(counted_N / sum_1N)  # softmax, 0 where ignored
                share_KN.scatter_add_(0, target_1N, -counted_N[None].to(share_KN.dtype))
                share_KRW = share_KN.view(classes, -1, width)
                grad_KhW[:, first:last] += rows_Rh.T @ share_KRW
            if grad_BKhw is not None:
                grad_BKhw[b] = grad_KhW @ columns_Ww
        ctx.save_for_backward(grad_BKhw)
        ctx.dtype = logits_BKhw.dtype
        return total.float()

    @staticmethod
    def backward(ctx, grad_output: Tensor) -> tuple[Tensor | None, None, None]:
        (grad_BKhw,) = ctx.saved_tensors
        if grad_BKhw is None:
            return None, None, None
        return first_derivative_only((grad_BKhw * grad_output).to(ctx.dtype)), None, None


def _support(rows_Rh: Tensor) -> tuple[int, int]:
    """First and last + 1 of the token rows that a band of pixel rows depends on."""
    used = rows_Rh.any(0).nonzero()
    return int(used[0]), int(used[-1]) + 1


def upsampled_cross_entropy(
    logits_BKhw: Tensor,
    labels_BHW: Tensor,
    ignore_index: int = 255,
    average_counted: bool = False,
) -> Tensor:
    """Mean cross-entropy of logits upsampled bilinearly to the label map.

    The same number and gradient as `F.interpolate` followed by `F.cross_entropy`, but only a band
    of pixel rows exists at a time: memory does not grow with the resolution of the labels.

    Args:
        logits_BKhw: Token logits (B, K, h, w), any floating type; computed in float32, also under
            autocast.
        labels_BHW: Classes (B, H, W), 0 to K - 1 or `ignore_index`.
        ignore_index: Pixels of this label add nothing.
        average_counted: Divide by the number of other pixels; False divides by all pixels, as
            mmseg does by default and its published recipes therefore do.

    Returns:
        A scalar; 0 (with a gradient of 0) if no pixel counts.

    Raises:
        ValueError: If shapes do not fit or a label is out of range.
        RuntimeError: If the gradient is differentiated again.
    """
    if logits_BKhw.ndim != 4 or labels_BHW.ndim != 3 or len(logits_BKhw) != len(labels_BHW):
        raise ValueError(
            f"logits {tuple(logits_BKhw.shape)} and labels {tuple(labels_BHW.shape)} are not "
            "(B, K, h, w) and (B, H, W) of one batch"
        )
    counted = labels_BHW != ignore_index
    num_counted = int(counted.sum())
    if num_counted:
        used = labels_BHW[counted]
        low, high = int(used.min()), int(used.max())
        if low < 0 or high >= logits_BKhw.shape[1]:
            raise ValueError(
                f"labels hold {low} to {high} beside the ignored {ignore_index}, but there are "
                f"{logits_BKhw.shape[1]} classes; check reduce_zero_label and the class count"
            )
    with torch.autocast(logits_BKhw.device.type, enabled=False):
        total = _UpsampledCrossEntropy.apply(logits_BKhw, labels_BHW, ignore_index)
    return total / max(num_counted if average_counted else labels_BHW.numel(), 1)
