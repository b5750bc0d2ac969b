"""Stops a training that has left the numbers, before its weights do."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapper
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.nn.utils import get_total_norm

from pe_dense.encoders.weights import first_not_finite

REMEDY = (
    "train again with a lower learning rate in another --work-dir, and look at the data of this "
    "step; checkpoints that were written before are intact"
)
# A scaler that starts at 2^16 has come down to 2^-14 by then: no scale helps.
MAX_OVERFLOWS = 30


@HOOKS.register_module()
class StopOnNaN(Hook):
    """Raises at the first loss term or gradient that is NaN or infinite, before the optimiser.

    So neither weights nor a checkpoint can hold it; `pe_dense.run.training` gives it to every run.

    The gradient is looked at as a whole, by the norm that clipping computes anyway, or else by one
    norm of all. With a scaler of gradients (float16) infinite ones are normal: the scaler leaves
    out such a step and lowers its scale, and only `MAX_OVERFLOWS` of them in a row are refused.

    A checkpoint with weights that are not finite is not written either: a step can overflow though
    loss and gradient are numbers.

    Raises:
        ValueError: If so; the message has the step and the term or the parameter.
    """

    priority = "HIGH"  # before loggers and checkpoints

    def __init__(self) -> None:
        self._overflows, self._stepped = 0, False

    def before_train(self, runner: Runner) -> None:
        """Look at what the model gives and at what the optimiser gets, from now on."""
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model

        def look_at_losses(_: nn.Module, inputs: Any, outputs: Any) -> None:
            if model.training and isinstance(outputs, Mapping):
                term = bad_term(outputs)
                if term is not None:
                    raise ValueError(
                        f"loss term {term[0]} is {term[1]} at step {runner.iter + 1}; {REMEDY}"
                    )

        def look_at_gradients(*_: Any) -> None:
            self._stepped = True
            if not hasattr(runner.optim_wrapper, "loss_scaler"):
                norm = gradient_norm(runner.optim_wrapper)
                if not math.isfinite(norm):
                    raise ValueError(
                        f"the norm of the gradient is {norm} at step {runner.iter + 1}; {REMEDY}"
                    )

        self._handles = [
            model.register_forward_hook(look_at_losses),
            runner.optim_wrapper.optimizer.register_step_pre_hook(look_at_gradients),
        ]

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Count the steps that a scaler left out."""
        wrapper = runner.optim_wrapper
        if not hasattr(wrapper, "loss_scaler") or not wrapper.should_update():
            return
        self._overflows = 0 if self._stepped else self._overflows + 1
        self._stepped = False
        if self._overflows >= MAX_OVERFLOWS:
            raise ValueError(
                f"gradients overflowed in {MAX_OVERFLOWS} steps in a row up to step "
                f"{runner.iter + 1}, so that the loss scale fell to "
                f"{wrapper.loss_scaler.get_scale():g}; {REMEDY}"
            )

    def after_train(self, runner: Runner) -> None:
        """Look no longer."""
        for handle in self._handles:
            handle.remove()

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Look at every weight."""
        name = first_not_finite(checkpoint["state_dict"])
        if name is not None:
            raise ValueError(
                f"parameter {name} is not finite after step {runner.iter + 1}, so no checkpoint "
                f"was written; {REMEDY}"
            )


def bad_term(terms: Mapping[str, Any]) -> tuple[str, float] | None:
    """The first loss that is no finite number, the sum 'loss' last; None if all are.

    Args:
        terms: Tensors, or lists of them, by name; as in MMEngine, those are losses whose name has
            'loss' in it.

    Example:
        >>> nan = torch.tensor(float("nan"))
        >>> bad_term({"loss": nan, "loss_box": [torch.ones(2), nan], "accuracy": nan})
        ('loss_box', nan)
    """
    means: dict[str, Tensor] = {}
    for name in sorted((name for name in terms if "loss" in name), key=lambda name: name == "loss"):
        values = terms[name] if isinstance(terms[name], Sequence) else [terms[name]]
        means[name] = sum(torch.as_tensor(value).detach().float().mean() for value in values)
    if not means or bool(torch.stack(list(means.values())).isfinite().all()):  # one wait for all
        return None
    found = ((name, float(mean)) for name, mean in means.items())
    return next((name, value) for name, value in found if not math.isfinite(value))


def gradient_norm(wrapper: OptimWrapper) -> float:
    """Norm of all gradients before they were clipped; sharded ones count as a whole."""
    if wrapper.clip_grad_kwargs and wrapper.grad_name == "grad_norm":
        return float(wrapper.message_hub.get_scalar("train/grad_norm").current())
    gradients = [p.grad for group in wrapper.param_groups for p in group["params"]]
    norm = get_total_norm([gradient for gradient in gradients if gradient is not None])
    return float(norm.full_tensor() if hasattr(norm, "full_tensor") else norm)
