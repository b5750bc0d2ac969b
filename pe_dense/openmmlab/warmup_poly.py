"""mmcv 1.x's polynomial decay with a linear warm-up, exactly.

MMEngine's LinearLR and PolyLR divide by one step less: their warm-up is over an iteration early,
and their last iteration has a learning rate of 0.
"""

from __future__ import annotations

from typing import Any

from mmengine.optim.scheduler.lr_scheduler import LRSchedulerMixin
from mmengine.optim.scheduler.param_scheduler import _ParamScheduler
from mmengine.registry import PARAM_SCHEDULERS


def poly_share(step: int, steps: int, power: float, warmup: int, line_from: float) -> float:
    """Learning rate at a step as a share of the highest: a decay to 0 times a line to 1.

    Args:
        step: 0 at the first iteration.
        steps: In all; the decay would reach 0 there, one iteration after the last.
        power: 1 for a line.
        warmup: Steps after which the line is over.
        line_from: Where it begins, 0..1.

    Example:
        >>> [poly_share(step, 10, 1.0, 4, 0.5) for step in (0, 2, 4, 9)]
        [0.5, 0.6000000000000001, 0.6, 0.09999999999999998]
    """
    decay = (1 - step / steps) ** power
    if step >= warmup:
        return decay
    return decay * (1 - (1 - step / warmup) * (1 - line_from))


@PARAM_SCHEDULERS.register_module()
class WarmupPolyLR(LRSchedulerMixin, _ParamScheduler):
    """See `poly_share`.

    Args:
        optimizer: Or its wrapper; its own learning rate is the highest.
        end: Where it ends; with `begin`, how many steps there are in all.
        warmup: Steps of the warm-up, 0 for none; may be more than `end`, in a trial.
        line_from: Share of the highest learning rate at the first step, 0..1.
        power: Of the decay, above 0.
        begin: Where it begins.
        **kwargs: by_epoch of MMEngine's schedulers.

    Raises:
        ValueError: If a number is out of range.

    Source: PolyLrUpdaterHook and LrUpdaterHook.get_warmup_lr of mmcv 1.5 (runner/hooks/
    lr_updater.py), with min_lr 0 and warmup 'linear'.
    """

    def __init__(
        self,
        optimizer: Any,
        *args: Any,
        end: int,
        warmup: int,
        line_from: float,
        power: float = 1.0,
        begin: int = 0,
        **kwargs: Any,
    ) -> None:
        if warmup < 0 or not 0 <= line_from <= 1 or power <= 0:
            raise ValueError(
                f"WarmupPolyLR has warmup={warmup}, line_from={line_from} and power={power}; give "
                "0 or more steps, a share from 0 to 1, and a power above 0"
            )
        self.steps, self.warmup, self.line_from, self.power = end - begin, warmup, line_from, power
        super().__init__(optimizer, *args, begin=begin, end=end, **kwargs)

    def _get_value(self) -> list[float]:
        """Of all parameter groups, at `last_step`."""
        share = poly_share(self.last_step, self.steps, self.power, self.warmup, self.line_from)
        return [peak * share for peak in self.base_values]
