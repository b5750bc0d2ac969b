"""Momentum that falls while the learning rate is high, and rises back."""

from __future__ import annotations

import math
from typing import Any

from mmengine.optim.scheduler.momentum_scheduler import MomentumSchedulerMixin
from mmengine.optim.scheduler.param_scheduler import _ParamScheduler
from mmengine.registry import PARAM_SCHEDULERS


@PARAM_SCHEDULERS.register_module()
class OneCycleMomentum(MomentumSchedulerMixin, _ParamScheduler):
    """beta1 (or SGD's momentum) along half a cosine from `high` to `low`, and along one back.

    MMEngine's OneCycleParamScheduler refuses anything but learning rates.

    Args:
        optimizer: Or its wrapper.
        high: At both ends, 0..1.
        low: Where it is lowest, 0..high.
        fall: Share of the steps in which it falls, above 0 and below 1.
        **kwargs: begin, end and by_epoch of MMEngine's schedulers; `end` is needed.

    Raises:
        ValueError: If a number is out of range.

    Source: mmcv 1.x, OneCycleMomentumUpdater with its defaults, which DINOv2's depth configs use
    (facebookresearch/dinov2); there each phase ends one step earlier.
    """

    def __init__(
        self,
        optimizer: Any,
        *args: Any,
        high: float = 0.95,
        low: float = 0.85,
        fall: float = 0.3,
        **kwargs: Any,
    ) -> None:
        if not (0 <= low <= high < 1 and 0 < fall < 1):
            raise ValueError(
                f"one-cycle momentum high={high}, low={low}, fall={fall} is out of range; DINOv2 "
                "has 0.95, 0.85 and 0.3"
            )
        self.high, self.low, self.fall = high, low, fall
        super().__init__(optimizer, *args, **kwargs)

    def _get_value(self) -> list[float]:
        """Of all parameter groups, at `last_step`."""
        share = self.last_step / (self.end - self.begin)
        past = share / self.fall if share < self.fall else (1 - share) / (1 - self.fall)
        value = self.low + (self.high - self.low) * (1 + math.cos(math.pi * past)) / 2
        return [value] * len(self.optimizer.param_groups)
