"""AdamW for stacked heads: every slice along the leading axis has its own lr and weight decay.

Shape legend: P heads along the leading axis of every parameter.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from mmengine.optim import DefaultOptimWrapperConstructor
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIM_WRAPPERS, OPTIMIZERS
from torch import Tensor, nn


@OPTIMIZERS.register_module()
class GroupedAdamW(torch.optim.Optimizer):
    """AdamW with a learning rate and a weight decay for every head of a stacked parameter.

    A step is that of `torch.optim.AdamW` of each head alone; no number of one head enters another,
    also where one of them diverges. All parameters are updated in one list operation a term.

    Args:
        params: Parameters (P, ...), or groups of them.
        head_lr: P learning rates.
        head_weight_decay: P weight decays.
        lr: Factor on all of them, which schedulers change; the learning rate of head p is
            lr * head_lr[p].
        betas, eps: As in `torch.optim.AdamW`.
        head_half_length: Whether the rate of a head follows the schedule at double speed, to 0
            after half of it: its factor is 2 lr - 1, or 0, where that of the others is lr. A line
            from 1 to 0 is then the same line in half of the steps. None: no head's does.

    Raises:
        ValueError: If a number is out of range, a trained parameter has another leading axis, or a
            state is loaded that belongs to other heads.

    Source: arXiv:1711.05101; equal to torch 2.13 AdamW up to rounding.
    """

    def __init__(
        self,
        params: Iterable[Any],
        head_lr: Sequence[float],
        head_weight_decay: Sequence[float],
        lr: float = 1.0,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        head_half_length: Sequence[bool] | None = None,
    ) -> None:
        for name, values in (("head_lr", head_lr), ("head_weight_decay", head_weight_decay)):
            if not len(values) or min(values) < 0:
                raise ValueError(f"{name} is {list(values)}; give one number of 0 or more a head")
        if len(head_lr) != len(head_weight_decay):
            raise ValueError(
                f"there are {len(head_lr)} learning rates and {len(head_weight_decay)} weight "
                "decays; give one of each for every head"
            )
        if lr < 0 or eps < 0 or not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"lr {lr}, eps {eps} or betas {betas} is out of range")
        half_length = tuple(map(bool, head_half_length or [False] * len(head_lr)))
        if len(half_length) != len(head_lr) or (any(half_length) and lr != 1):
            raise ValueError(
                f"head_half_length is for {len(half_length)} of {len(head_lr)} heads, at lr {lr}; "
                "give one for every head, and lr=1, from which the schedule goes down"
            )
        defaults = dict(
            lr=lr,
            head_lr=tuple(map(float, head_lr)),
            head_weight_decay=tuple(map(float, head_weight_decay)),
            head_half_length=half_length,
            betas=tuple(betas),
            eps=eps,
        )
        super().__init__(params, defaults)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters, all trained ones with one slice a head."""
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        for parameter in group["params"]:
            heads = parameter.shape[0] if parameter.ndim else 0
            if parameter.requires_grad and heads != len(group["head_lr"]):
                raise ValueError(
                    f"a parameter of shape {tuple(parameter.shape)} has no leading axis of "
                    f"{len(group['head_lr'])} heads; stack the heads, or freeze it"
                )

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore moments, step and factor; the heads must be those of the run that saved them."""
        for group, saved in zip(self.param_groups, state_dict["param_groups"], strict=False):
            # States of old runs do not say it: they had no such heads.
            known = {"head_half_length": (False,) * len(group["head_lr"]), **saved}
            for name in ("head_lr", "head_weight_decay", "head_half_length"):
                if tuple(known.get(name, ())) != group[name]:
                    raise ValueError(
                        f"the optimiser state has {name} {known.get(name)}, but the config "
                        f"{list(group[name])}; resume with the settings that the run began with"
                    )
        super().load_state_dict(state_dict)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update all parameters that have a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            if params:
                self._update(group, params)
        return loss

    def _update(self, group: dict[str, Any], params: list[Tensor]) -> None:
        for parameter in params:
            if not self.state[parameter]:
                self.state[parameter] = dict(
                    step=0,
                    exp_avg=torch.zeros_like(parameter),
                    exp_avg_sq=torch.zeros_like(parameter),
                )
        states = [self.state[parameter] for parameter in params]
        for state in states:
            state["step"] += 1
        beta1, beta2 = group["betas"]
        grads = [p.grad for p in params]
        means, squares = [s["exp_avg"] for s in states], [s["exp_avg_sq"] for s in states]
        # Per-head factors in float64, as torch's Python floats, rounded once.
        schedule = [
            max(0.0, 2 * group["lr"] - 1) if half else group["lr"]
            for half in group["head_half_length"]
        ]
        rates = torch.tensor(group["head_lr"], dtype=torch.float64)
        rates = rates * torch.tensor(schedule, dtype=torch.float64)
        decays = torch.tensor(group["head_weight_decay"], dtype=torch.float64)
        # One transfer for all parameters that are as old, which is all of them.
        at_step = functools.cache(
            lambda step, device, dtype: torch.stack(
                [1 - rates * decays, -rates / (1 - beta1**step)]
            ).to(device, dtype)
        )
        factors = [
            at_step(s["step"], p.device, p.dtype).view(2, -1, *[1] * (p.ndim - 1))
            for p, s in zip(params, states, strict=True)
        ]
        shrink, sizes = ([factor[row] for factor in factors] for row in (0, 1))
        torch._foreach_mul_(params, shrink)
        torch._foreach_lerp_(means, grads, 1 - beta1)
        torch._foreach_mul_(squares, beta2)
        torch._foreach_addcmul_(squares, grads, grads, 1 - beta2)
        denominators = torch._foreach_sqrt(squares)
        torch._foreach_div_(denominators, [(1 - beta2 ** s["step"]) ** 0.5 for s in states])
        torch._foreach_add_(denominators, group["eps"])
        updates = torch._foreach_div(means, denominators)
        torch._foreach_mul_(updates, sizes)
        torch._foreach_add_(params, updates)


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class HeadBankOptimizer(DefaultOptimWrapperConstructor):
    """Builds the optimiser of a model whose `bank` says learning rate and weight decay itself.

    Config: `optim_wrapper=dict(type='OptimWrapper', constructor='HeadBankOptimizer',
    optimizer=dict(type='GroupedAdamW', betas=...))`. Only the bank's parameters are optimised.

    Raises:
        ValueError: If gradients are to be clipped, which would tie the heads together, if a
            parameter outside the bank is trained, or paramwise_cfg is given.
    """

    def __call__(self, model: nn.Module) -> Any:
        """The optimiser wrapper of `model`, which may be wrapped for several processes."""
        model = getattr(model, "module", model)
        bank = model.bank
        if self.optim_wrapper_cfg.get("clip_grad") is not None or self.paramwise_cfg:
            raise ValueError(
                "optim_wrapper of a head bank has clip_grad or paramwise_cfg, but heads must stay "
                "independent; remove it"
            )
        loose = [
            name
            for name, p in model.named_parameters()
            if p.requires_grad and not name.startswith("bank.")
        ]
        if loose:
            raise ValueError(f"parameter {loose[0]} is not of a head but trained; freeze it")
        self.optimizer_cfg.update(
            params=list(bank.parameters()),
            head_lr=[s.lr for s in bank.settings],
            head_weight_decay=[s.weight_decay for s in bank.settings],
            head_half_length=[s.half_length for s in bank.settings],
        )
        self.optim_wrapper_cfg.setdefault("type", "OptimWrapper")
        optimizer = OPTIMIZERS.build(self.optimizer_cfg)
        return OPTIM_WRAPPERS.build(self.optim_wrapper_cfg, default_args=dict(optimizer=optimizer))
