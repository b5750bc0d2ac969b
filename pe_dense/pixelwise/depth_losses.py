"""Losses of depth maps in log space: the scale-invariant one and the one of its gradients.

Depths are in metres; pixels without annotation are 0 or negative. Both losses work in float32 at
least, are 0 with a graph where no pixel is annotated, and never wait for the device.

Shape legend: B batch, C = 1 channel, H, W pixels.
"""

from __future__ import annotations

import torch
from mmengine.registry import MODELS
from torch import Tensor, nn

from pe_dense.pixelwise.depth_errors import scored_pixels

# Subsampling steps of DINOv2's GradientLoss; MegaDepth takes 1, 2, 4, 8.
GRADIENT_STEPS = (1, 2, 4, 6)


def log_difference(
    prediction: Tensor,
    depth: Tensor,
    valid: Tensor | None = None,
    *,
    eps: float = 1e-3,
    max_depth: float | None = None,
) -> tuple[Tensor, Tensor]:
    """ln(prediction + eps) - ln(depth + eps), and where it holds.

    Args:
        prediction: (B, 1, H, W) or (B, H, W), larger than -eps at annotated pixels.
        depth: Annotation of the same shape; 0, negative and not finite mean none.
        valid: bool of the same shape, pixels that may count; None: all.
        eps: In m; bounds the gradient near 0.
        max_depth: In m; larger annotated depths do not count, the limit itself does. None: all do.

    Returns:
        The difference, 0 where it does not count, and a bool mask of where it does; in the shape
        of `prediction`.

    Raises:
        ValueError: If shapes differ, or `valid` is not bool.
    """
    if prediction.shape != depth.shape:  # (B, 1, H, W) and (B, H, W) would broadcast to B x B
        raise ValueError(
            f"prediction of shape {tuple(prediction.shape)} and depth of {tuple(depth.shape)}; "
            "resize the prediction and keep the channel axis in both or none"
        )
    counts = scored_pixels(depth, valid, min_depth=0)
    if max_depth is not None:
        counts &= depth <= max_depth
    dtype = torch.promote_types(prediction.dtype, torch.float32)
    # Selected before the logarithm: nan * 0 is nan, in the backward pass as well.
    prediction = torch.where(counts, prediction.to(dtype), 1.0)
    depth = torch.where(counts, depth.to(dtype), 1.0)
    return (prediction + eps).log() - (depth + eps).log(), counts


def scale_invariant_log_loss(
    difference: Tensor, counts: Tensor, mean_weight: float, scale_only: Tensor | bool = False
) -> Tensor:
    """sqrt(var(g) + `mean_weight` * mean(g)^2) over all counted pixels of the batch; a scalar.

    With the mean weight 0.15 this is sqrt(mean(g^2) - 0.85 mean(g)^2), the form of BTS, up to the
    variance, which is divided by n - 1 as in the released code. One pixel has variance 0.

    With `scale_only` (a bool, on the device or not), as in a warm-up, the variance is left out.
    """
    num = counts.sum()
    mean = difference.sum() / num.clamp(min=1)
    centred = torch.where(counts, difference - mean, 0.0)
    variance = centred.square().sum() / (num - 1).clamp(min=1)
    loss = _safe_sqrt(variance + mean_weight * mean.square())
    if scale_only is False:
        return loss
    return torch.where(scale_only, mean_weight**0.5 * mean.abs(), loss)


def _safe_sqrt(value: Tensor) -> Tensor:
    """Square root with gradient 0, not infinite, at 0."""
    positive = value > 0
    return torch.where(positive, torch.where(positive, value, 1.0).sqrt(), value * 0.0)


def log_gradient_loss(difference: Tensor, counts: Tensor, axes: tuple[int, int]) -> Tensor:
    """Sum over four scales of |g(x) - g(x + 2)| along two axes, each over its counted pixels.

    Args:
        difference: g, 0 where it does not count.
        counts: bool of the same shape.
        axes: (-2, -1) for rows and columns.

    Returns:
        A scalar. Both ends of a difference must count; the divisor is the number of counted
        pixels of the scale, not of pairs.
    """
    total = difference.sum() * 0.0  # keeps the graph where maps are too small for any pair
    for step in GRADIENT_STEPS:
        g, m = difference, counts
        for axis in axes:
            g, m = _every(g, axis, step), _every(m, axis, step)
        num = m.sum().clamp(min=1)
        for axis in axes:
            pairs = max(g.shape[axis] - 2, 0)
            change = (g.narrow(axis, 0, pairs) - g.narrow(axis, g.shape[axis] - pairs, pairs)).abs()
            both = m.narrow(axis, 0, pairs) & m.narrow(axis, m.shape[axis] - pairs, pairs)
            total = total + torch.where(both, change, 0.0).sum() / num
    return total


def _every(values: Tensor, axis: int, step: int) -> Tensor:
    """Every `step`-th slice along an axis, as a view."""
    index: list[slice] = [slice(None)] * values.ndim
    index[axis] = slice(None, None, step)
    return values[tuple(index)]


@MODELS.register_module()
class ScaleInvariantLogLoss(nn.Module):
    """Scale-invariant logarithmic loss ('SigLoss'), with the warm-up of the DINOv2 recipe.

    sqrt(var(g) + 0.15 mean(g)^2), g = ln(prediction + eps) - ln(depth + eps), over all annotated
    pixels of the batch. During the warm-up the variance is left out, so that the scale is learned
    first: sqrt(0.15) |mean(g)|.

    Args:
        loss_weight: Factor. DINOv2: 1; BTS and AdaBins: 10.
        mean_weight: Weight of the squared mean, 0..1: 1 - lambda of BTS (0.85).
        eps, max_depth: See `log_difference`.
        warm_up_steps: Calls in training mode without the variance. The recipe: 100. The count is
            a buffer, so a resumed run goes on where it was.
        loss_name: Key among the losses of a head; begins with 'loss'.

    Raises:
        ValueError: If an argument is out of range.

    Source: arXiv:1406.2283 section 3.2, arXiv:1907.10326 section 3.3; SigLoss of
    facebookresearch/dinov2 @ d5c376b. Equal to it where it is defined; it is nan for fewer than
    two annotated pixels, and forgets its warm-up when a run is resumed.
    """

    num_steps: Tensor

    def __init__(
        self,
        loss_weight: float = 1.0,
        mean_weight: float = 0.15,
        eps: float = 1e-3,
        max_depth: float | None = None,
        warm_up_steps: int = 0,
        loss_name: str = "loss_silog",
    ) -> None:
        super().__init__()
        if not 0 <= mean_weight <= 1:
            raise ValueError(f"mean_weight {mean_weight} is not in 0..1; use 0.15 as BTS does")
        if warm_up_steps < 0:
            raise ValueError(f"warm_up_steps {warm_up_steps} is negative; use 0 for no warm-up")
        _check_shared(eps, max_depth, loss_name)
        self.loss_weight, self.mean_weight = loss_weight, mean_weight
        self.eps, self.max_depth = eps, max_depth
        self.warm_up_steps, self.loss_name = warm_up_steps, loss_name
        self.register_buffer("num_steps", torch.zeros((), dtype=torch.long))

    def forward(self, prediction: Tensor, depth: Tensor, valid: Tensor | None = None) -> Tensor:
        """Scalar loss of (B, 1, H, W) or (B, H, W) maps; see `log_difference` for the arguments."""
        difference, counts = log_difference(
            prediction, depth, valid, eps=self.eps, max_depth=self.max_depth
        )
        is_warming = self.warm_up_steps > 0 and self.training
        scale_only = is_warming and self.num_steps < self.warm_up_steps
        loss = scale_invariant_log_loss(difference, counts, self.mean_weight, scale_only)
        if is_warming:
            self.num_steps += 1
        return self.loss_weight * loss


@MODELS.register_module()
class DepthGradientLoss(nn.Module):
    """Multi-scale loss of gradients of the log difference: sharp edges, smooth surfaces.

    At steps 1, 2, 4, 6: the map is subsampled, and differences two pixels apart are summed along
    rows and columns and divided by the number of annotated pixels.

    Args:
        loss_weight: Factor. DINOv2 states 0.5.
        eps, max_depth: See `log_difference`.
        as_released: Whether to slice the first two axes instead of the last two, as the code of
            the recipe does with its (B, 1, H, W) maps. It then compares images b and b + 2 of the
            batch, and is exactly 0 for a batch of 1 or 2, which is what the recipe trains with.
        loss_name: Key among the losses of a head; begins with 'loss'.

    Raises:
        ValueError: If an argument is out of range.

    Source: arXiv:1804.00607 (MegaDepth); GradientLoss of facebookresearch/dinov2 @ d5c376b.
    Deviations: the last two axes unless `as_released` (mbanani/probe3d @ 1fff822 has the same
    slices as DINOv2); 0, not nan, for a scale without annotated pixels.
    """

    def __init__(
        self,
        loss_weight: float = 1.0,
        eps: float = 1e-3,
        max_depth: float | None = None,
        as_released: bool = False,
        loss_name: str = "loss_gradient",
    ) -> None:
        super().__init__()
        _check_shared(eps, max_depth, loss_name)
        self.loss_weight, self.eps, self.max_depth = loss_weight, eps, max_depth
        self.as_released, self.loss_name = as_released, loss_name

    def forward(self, prediction: Tensor, depth: Tensor, valid: Tensor | None = None) -> Tensor:
        """Scalar loss of (B, 1, H, W) or (B, H, W) maps; as released only of the former.

        Raises:
            ValueError: If maps have other axes, or see `log_difference`.
        """
        if prediction.ndim != 4 and (self.as_released or prediction.ndim != 3):
            raise ValueError(
                f"DepthGradientLoss got a prediction of shape {tuple(prediction.shape)}; "
                "pass (B, 1, H, W)"
            )
        difference, counts = log_difference(
            prediction, depth, valid, eps=self.eps, max_depth=self.max_depth
        )
        axes = (0, 1) if self.as_released else (-2, -1)
        return self.loss_weight * log_gradient_loss(difference, counts, axes)


def _check_shared(eps: float, max_depth: float | None, loss_name: str) -> None:
    if eps <= 0:
        raise ValueError(f"eps {eps} is not positive; use 1e-3 as the recipe does")
    if max_depth is not None and max_depth <= 0:
        raise ValueError(
            f"max_depth {max_depth} is not positive; pass metres, or None for no limit"
        )
    if not loss_name.startswith("loss"):
        raise ValueError(
            f"loss_name {loss_name!r} does not begin with 'loss', so nothing would train on it; "
            "rename it"
        )
