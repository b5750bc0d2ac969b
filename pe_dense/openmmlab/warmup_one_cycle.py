"""DINOv3's schedule of dense heads: a warm-up, then one cosine, and a beta1 that follows.

Source: WarmupOneCycleLR in eval/segmentation/schedulers.py and eval/depth/schedulers.py of
facebookresearch/dinov3 @ 6876159; written from what it computes. Equal to it at every iteration,
see tests/golden/dinov3_schedule.npz.
"""

from __future__ import annotations

import math
from typing import Any

from mmengine.optim.scheduler.lr_scheduler import LRSchedulerMixin
from mmengine.optim.scheduler.momentum_scheduler import MomentumSchedulerMixin
from mmengine.optim.scheduler.param_scheduler import _ParamScheduler
from mmengine.registry import PARAM_SCHEDULERS


def cosine(start: float, end: float, share: float) -> float:
    """From `start` at share 0 to `end` at share 1 along half a cosine.

    Example:
        >>> [round(cosine(1.0, 0.0, share), 3) for share in (0.0, 0.25, 0.5, 1.0)]
        [1.0, 0.854, 0.5, 0.0]
    """
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2


def share_of_peak(
    step: int, steps: int, warmup: int, line_from: float | None, first: float, last: float
) -> float:
    """Learning rate at a step, as a share of the highest.

    After the warm-up it is the cosine over all steps, read one step ahead, from 1 to `last`. In the
    warm-up it is either a line from `line_from` to 1 times a line that reaches 0 at `steps`, or,
    with None, `first` plus a line from 0 to 1 times the cosine from 1 to 0. It jumps a little
    where one ends and the other begins.

    Example:
        >>> [round(share_of_peak(s, 100, 10, 1e-6, 0.0, 0.0), 4) for s in (0, 5, 9, 10, 99)]
        [0.0, 0.475, 0.819, 0.9704, 0.0]
    """
    if step >= warmup:
        return cosine(1.0, last, (step + 1) / steps)
    if line_from is None:
        return first + cosine(1.0, 0.0, step / steps) * step / warmup
    return (1 - (1 - step / warmup) * (1 - line_from)) * (1 - step / steps)


class _WarmupOneCycle(_ParamScheduler):
    """What both classes below have: when they begin to move."""

    def __init__(
        self,
        optimizer: Any,
        param_name: str,
        *,
        warmup: int,
        end: int,
        begin: int = 0,
        held: int = 0,
        **kwargs: Any,
    ) -> None:
        if warmup < 0 or held < 0:
            raise ValueError(
                f"{type(self).__name__} has warmup={warmup} and held={held}; both count steps, "
                "give 0 or more"
            )
        self.warmup, self.held, self.steps = warmup, held, end - begin
        super().__init__(optimizer, param_name, begin=begin, end=end, **kwargs)

    @property
    def moved(self) -> int:
        """How often the value moved so far: `held` steps less than were made."""
        return max(self.last_step - self.held, 0)


@PARAM_SCHEDULERS.register_module()
class WarmupOneCycleLR(LRSchedulerMixin, _WarmupOneCycle):
    """The learning rate of DINOv3's dense heads; see `share_of_peak`.

    Args:
        optimizer: Or its wrapper; its own learning rate is the highest.
        warmup: Steps of the warm-up; may be more than there are in all, in a trial.
        end: Where it ends; with `begin`, how many steps there are in all.
        held: The first value stays for so many steps more: DINOv3's segmentation, unlike its
            depth, does not move after the first iteration.
        line_from: Share of the peak from which the warm-up is a line, 0..1; None for the other
            warm-up.
        first: Share of the peak that is added throughout the warm-up without a line, 0..1; there
            1 / final_div_factor.
        last: Share of the peak to which it falls, 0..1; there 1 / (div_factor * final_div_factor).
        **kwargs: begin and by_epoch of MMEngine's schedulers.

    Raises:
        ValueError: If a number is out of range.
    """

    def __init__(
        self,
        optimizer: Any,
        *args: Any,
        line_from: float | None = None,
        first: float = 0.0,
        last: float = 0.0,
        **kwargs: Any,
    ) -> None:
        if not all(0 <= share <= 1 for share in (line_from or 0.0, first, last)):
            raise ValueError(
                f"WarmupOneCycleLR has line_from={line_from}, first={first} and last={last}; give "
                "shares of the highest learning rate, 0 to 1"
            )
        self.line_from, self.first, self.last = line_from, first, last
        super().__init__(optimizer, *args, **kwargs)

    def _get_value(self) -> list[float]:
        """Of all parameter groups, at `last_step`."""
        share = share_of_peak(
            self.moved, self.steps, self.warmup, self.line_from, self.first, self.last
        )
        return [peak * share for peak in self.base_values]


@PARAM_SCHEDULERS.register_module()
class WarmupOneCycleMomentum(MomentumSchedulerMixin, _WarmupOneCycle):
    """beta1 (or SGD's momentum): 0 in the warm-up, then along half a cosine from `low` to `high`.

    Args:
        optimizer: Or its wrapper.
        low: At the end of the warm-up, 0 to `high`.
        high: At the end, below 1.
        **kwargs: warmup, end, held, begin and by_epoch of `WarmupOneCycleLR`.

    Raises:
        ValueError: If a number is out of range.
    """

    def __init__(
        self, optimizer: Any, *args: Any, low: float = 0.85, high: float = 0.95, **kwargs: Any
    ) -> None:
        if not 0 <= low <= high < 1:
            raise ValueError(
                f"WarmupOneCycleMomentum has low={low} and high={high}; give 0 <= low <= high < 1, "
                "as 0.85 and 0.95"
            )
        self.low, self.high = low, high
        super().__init__(optimizer, *args, **kwargs)

    def _get_value(self) -> list[float]:
        """Of all parameter groups, at `last_step`."""
        past = self.moved - self.warmup
        value = 0.0
        if past >= 0:
            value = cosine(self.low, self.high, past / (self.steps - self.warmup))
        return [value] * len(self.optimizer.param_groups)
