"""Stops a training that has left the numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import Tensor


@HOOKS.register_module()
class StopOnNaN(Hook):
    """Raises at the first loss term that is NaN or infinite, before a checkpoint can hold it.

    Also refuses to write a checkpoint whose weights are not finite: gradients may overflow in a
    step whose loss is still a number.

    Raises:
        ValueError: If so; the message has the step and the term or the parameter.
    """

    priority = "HIGH"  # before loggers and checkpoints

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Look at every term of this step."""
        term = not_finite(outputs or {})
        if term is not None:
            name, value = term
            raise ValueError(
                f"loss term {name} is {value} at step {runner.iter + 1}; no checkpoint was "
                "written since it was a number: resume from the newest one with a lower learning "
                "rate, and look at the data of this step"
            )

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Look at every weight."""
        for name, value in checkpoint["state_dict"].items():
            if isinstance(value, Tensor) and not bool(torch.isfinite(value).all()):
                raise ValueError(
                    f"parameter {name} is not finite after step {runner.iter + 1}, so no "
                    "checkpoint was written; resume from the newest one with a lower learning rate"
                )


def not_finite(terms: Mapping[str, Any]) -> tuple[str, float] | None:
    """The first term that is no finite number, their sum 'loss' last; None if all are.

    Example:
        >>> not_finite({"loss": float("nan"), "loss_core": 1.0, "loss_sam": float("nan")})
        ('loss_sam', nan)
    """
    for name in sorted(terms, key=lambda name: name == "loss"):
        value = float(terms[name])
        if not math.isfinite(value):
            return name, value
    return None
