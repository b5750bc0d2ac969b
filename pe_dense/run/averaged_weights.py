"""Averaged weights (EMA): validated, saved and scored in the place of those that are trained.

MMEngine's hook does the averaging: a checkpoint's 'state_dict' holds the average, so that what
loads it needs to know nothing, and 'ema_state_dict' what training goes on from, exactly. What is
added here is the beginning: an average over the first steps is one of weights that know nothing,
so its memory grows with the number of steps.
"""

from __future__ import annotations

from typing import Any

from mmengine.hooks import EMAHook
from mmengine.model import ExponentialMovingAverage
from mmengine.registry import HOOKS, MODELS
from torch import Tensor, nn


def share_of_new(steps: int, decay: float) -> float:
    """How much of the weights after `steps` updates enters the average.

    1 - decay, but never less than 9 / (10 + steps): an average over about a tenth of the steps so
    far, until the decay's own memory is shorter. Source: the form that TensorFlow's
    ExponentialMovingAverage gives for `num_updates`.

    Example:
        >>> share_of_new(0, 0.999), round(share_of_new(90, 0.999), 3), share_of_new(10**6, 0.5)
        (0.9, 0.09, 0.5)
    """
    return max(1.0 - decay, 9.0 / (10.0 + steps))


@MODELS.register_module()
class GrowingAverage(ExponentialMovingAverage):
    """MMEngine's average with `share_of_new`.

    Args:
        model: What is averaged.
        decay: Share of the old average that stays in a step, in (0, 1).
        **options: Of MMEngine's class.
    """

    def __init__(self, model: nn.Module, decay: float, **options: Any) -> None:
        super().__init__(model, momentum=1.0 - decay, **options)
        self.decay = decay

    def avg_func(self, averaged_param: Tensor, source_param: Tensor, steps: int | Tensor) -> None:
        """Move the average towards the trained parameter, in place."""
        averaged_param.lerp_(source_param, share_of_new(int(steps), self.decay))


@HOOKS.register_module()
class AveragedWeights(EMAHook):
    """MMEngine's EMAHook with a `GrowingAverage`; buffers are those of the trained model.

    Args:
        decay: As there.
    """

    def __init__(self, decay: float) -> None:
        super().__init__(ema_type="GrowingAverage", strict_load=True, decay=decay)
