"""Schedules of mmcv 1 that DINOv2's depth heads are trained with, equal to them at every iteration.

Source: CosineAnnealingLrUpdaterHook with a linear warm-up, and OneCycleMomentumUpdaterHook, of
open-mmlab/mmcv v1.5.0, mmcv/runner/hooks; see tests/golden/dinov2_depth_schedule.npz.
"""

from __future__ import annotations

import math
from typing import Any

from mmengine.optim.scheduler.lr_scheduler import LRSchedulerMixin
from mmengine.optim.scheduler.momentum_scheduler import MomentumSchedulerMixin
from mmengine.optim.scheduler.param_scheduler import _ParamScheduler
from mmengine.registry import PARAM_SCHEDULERS


def _half_cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2


@PARAM_SCHEDULERS.register_module()
class WarmedCosineLR(LRSchedulerMixin, _ParamScheduler):
    """Half a cosine over all steps, in the warm-up times a line that ends at 1.

    MMEngine's LinearLR ends one step earlier, and with it no cosine has a lowest value.

    Args:
        optimizer: Or its wrapper.
        warmup: Steps of the warm-up, 0 or more.
        first: Factor at step 0, above 0 to 1.
        lowest: Where the cosine ends, as a share of the peak, 0..1.
        **kwargs: begin, end and by_epoch of MMEngine's schedulers; `end` is needed.

    Raises:
        ValueError: If a number is out of range.
    """

    def __init__(
        self,
        optimizer: Any,
        *args: Any,
        warmup: int,
        first: float = 1e-3,
        lowest: float = 0.0,
        **kwargs: Any,
    ) -> None:
        if warmup < 0 or not 0 < first <= 1 or not 0 <= lowest <= 1:
            raise ValueError(
                f"WarmedCosineLR warmup={warmup}, first={first}, lowest={lowest} is out of range; "
                "DINOv2 has 12800, 1e-3 and 1e-8"
            )
        self.warmup, self.first, self.lowest = warmup, first, lowest
        super().__init__(optimizer, *args, **kwargs)

    def _get_value(self) -> list[float]:
        """Of all parameter groups, at `last_step`."""
        step = self.last_step
        factor = _half_cosine(1.0, self.lowest, step / (self.end - self.begin))
        if step < self.warmup:
            factor *= 1 - (1 - step / self.warmup) * (1 - self.first)
        return [peak * factor for peak in self.base_values]


@PARAM_SCHEDULERS.register_module()
class OneCycleMomentum(MomentumSchedulerMixin, _ParamScheduler):
    """beta1 (or SGD's momentum) along half a cosine from `high` to `low`, and along one back.

    MMEngine's OneCycleParamScheduler refuses anything but learning rates.

    Args:
        optimizer: Or its wrapper.
        high: At both ends, 0..1.
        low: Where it is lowest, 0..high.
        fall: Share of the steps in which it falls, above 0 and below 1. Each phase ends one step
            early, as in mmcv: with 100 steps it is lowest at step 29, and back at step 99.
        **kwargs: begin, end and by_epoch of MMEngine's schedulers; `end` is needed.

    Raises:
        ValueError: If a number is out of range.
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
        step, last = self.last_step, self.end - self.begin - 1
        lowest = self.fall * (last + 1) - 1
        if step <= lowest:
            value = _half_cosine(self.high, self.low, step / lowest if lowest > 0 else 1.0)
        else:
            past = (step - lowest) / (last - lowest) if last > lowest else 1.0
            value = _half_cosine(self.low, self.high, min(past, 1.0))
        return [value] * len(self.optimizer.param_groups)
