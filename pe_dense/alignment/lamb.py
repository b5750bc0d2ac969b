"""LAMB: Adam whose step in each tensor is as long as the tensor allows, for very large batches.

Source: arXiv:1904.00962, algorithm 2, with phi(z) = z; written from the paper. Perception Encoder
(arXiv:2504.13181) trains with it, betas 0.9 and 0.95.

`LAMB._step_of` is the step of one tensor as it is written. On a GPU all tensors take it together,
see `fused_lamb`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from mmengine.registry import OPTIMIZERS
from torch import Tensor

from pe_dense.alignment import fused_lamb


@OPTIMIZERS.register_module()
class LAMB(torch.optim.Optimizer):
    """Layer-wise adaptive moments.

    One step of a tensor x with gradient g:

        m = b1 m + (1 - b1) g,  v = b2 v + (1 - b2) g^2
        u = (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps) + weight_decay x
        x = x - lr (|x| / |u|) u

    A "layer" of the paper is one parameter tensor. The ratio |x| / |u| is 1 where either norm is 0
    (a bias that starts at 0 could never move else). Moments and norms are float32 at least. Where
    parameters are sharded (DTensor), norms are those of the whole tensors. Fused and written steps
    differ by rounding.

    Args:
        params: Parameters or groups.
        lr: Learning rate.
        betas: b1 and b2.
        eps: Added to the root.
        weight_decay: Decoupled, inside the norm of u.
        adapt_undecayed: Whether groups whose weight decay is 0 get the ratio, too. False leaves
            norms and biases, which constructors of optimisers put into such groups, to Adam's
            step, as the authors' training of BERT does; the algorithm itself is True. Settable by
            group.

    Raises:
        ValueError: If a number is out of range, or a gradient is sparse.
    """

    _layouts: fused_lamb.Layouts | None = (
        None  # on the class: copies of an optimiser lose their own
    )

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.0,
        adapt_undecayed: bool = True,
    ) -> None:
        if not (lr >= 0 and eps >= 0 and weight_decay >= 0):
            raise ValueError(
                f"LAMB: lr={lr}, eps={eps} and weight_decay={weight_decay} must be 0 or more"
            )
        if not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"LAMB: betas={tuple(betas)} must be in [0, 1)")
        settings = dict(
            lr=lr,
            betas=tuple(betas),
            eps=eps,
            weight_decay=weight_decay,
            adapt_undecayed=adapt_undecayed,
        )
        super().__init__(params, settings)

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:
        """Change every parameter that has a gradient; returns what `closure` does."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        moving = []
        for group in self.param_groups:
            adapts = group["adapt_undecayed"] or group["weight_decay"] > 0
            for parameter in group["params"]:
                if parameter.grad is not None:
                    moving.append((parameter, self._state_of(parameter), group, adapts))
        counts = _count_up([state["step"] for _, state, _, _ in moving])
        fused = fused_lamb.Step(self._layouts)
        for (parameter, state, group, adapts), count in zip(moving, counts, strict=True):
            if not fused.takes(parameter, state, group, adapts, count):
                self._step_of(parameter, group, adapts)
        self._layouts = fused.run()
        return loss

    def _state_of(self, parameter: Tensor) -> dict[str, Any]:
        """The state of a parameter, made if need be."""
        if parameter.grad.is_sparse:
            raise ValueError("LAMB takes no sparse gradients; use dense embeddings")
        state = self.state[parameter]
        if not state:
            dtype = torch.promote_types(parameter.dtype, torch.float32)
            state["step"] = torch.zeros((), dtype=torch.float32)
            state["exp_avg"] = torch.zeros_like(parameter, dtype=dtype)
            state["exp_avg_sq"] = torch.zeros_like(parameter, dtype=dtype)
        return state

    def _step_of(self, parameter: Tensor, group: dict[str, Any], adapts: bool) -> None:
        state = self.state[parameter]
        dtype = state["exp_avg"].dtype
        gradient = parameter.grad.to(dtype)
        beta1, beta2 = group["betas"]
        first, second, count = state["exp_avg"], state["exp_avg_sq"], state["step"].item()
        first.mul_(beta1).add_(gradient, alpha=1 - beta1)
        second.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        root = (second / (1 - beta2**count)).sqrt_().add_(group["eps"])
        update = (first / (1 - beta1**count)).div_(root)
        value = parameter.to(dtype)
        if group["weight_decay"]:
            update.add_(value, alpha=group["weight_decay"])
        if adapts:
            update.mul_(trust_ratio(_norm(value), _norm(update)))
        value = value.sub(update, alpha=group["lr"])
        parameter.copy_(value)


def _count_up(steps: list[Tensor]) -> list[float]:
    """Add 1 to all counters, in few calls; their values."""
    if not steps:
        return []
    torch._foreach_add_(steps, 1)
    if len({step.device for step in steps}) > 1:
        return [step.item() for step in steps]
    return torch.stack(steps).tolist()


def trust_ratio(value_norm: Tensor, update_norm: Tensor) -> Tensor:
    """|x| / |u|, 1 where one of them is 0.

    Example:
        >>> trust_ratio(torch.tensor(3.0), torch.tensor(2.0)).item()
        1.5
    """
    usable = (value_norm > 0) & (update_norm > 0)
    return torch.where(usable, value_norm / torch.where(usable, update_norm, 1.0), 1.0)


def _norm(value: Tensor) -> Tensor:
    norm = torch.linalg.vector_norm(value)
    return norm.full_tensor() if hasattr(norm, "full_tensor") else norm
