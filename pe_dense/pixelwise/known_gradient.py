"""Gradients that are known with the value, or made by a kernel: they have no derivative.

Shape legend: B images, P heads, K classes, h w token grid.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def with_gradient(logits_BPKhw: Tensor, losses_P: Tensor, grad_BPKhw: Tensor | None) -> Tensor:
    """Losses of heads whose gradient is known; `backward` scales it, and it has no derivative.

    Args:
        logits_BPKhw: What the losses were computed of.
        losses_P: Without a graph.
        grad_BPKhw: Of each loss with respect to the logits of its head; None: not wanted.
    """
    return losses_P if grad_BPKhw is None else _Known.apply(logits_BPKhw, losses_P, grad_BPKhw)


class _Known(torch.autograd.Function):
    @staticmethod
    def forward(ctx, logits_BPKhw: Tensor, losses_P: Tensor, grad_BPKhw: Tensor) -> Tensor:
        ctx.save_for_backward(grad_BPKhw)
        ctx.dtype = logits_BPKhw.dtype
        return losses_P.clone()

    @staticmethod
    def backward(ctx, grad_P: Tensor) -> tuple[Tensor, None, None]:
        (grad_BPKhw,) = ctx.saved_tensors
        gradient = (grad_BPKhw * grad_P[:, None, None, None]).to(ctx.dtype)
        return not_differentiable_again(gradient), None, None


def not_differentiable_again(gradient: Tensor) -> Tensor:
    """For `backward` of a function: the gradient itself, whose own derivative is an error.

    `once_differentiable` on `backward` looks at what comes from above alone, which requires no
    gradient in a plain create_graph=True: the gradient would pass for a constant.
    """
    return _as_it_is(None, gradient.detach().requires_grad_(torch.is_grad_enabled()))


@once_differentiable
def _as_it_is(ctx: None, gradient: Tensor) -> Tensor:
    del ctx
    return gradient.detach()
