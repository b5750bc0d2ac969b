"""A training loop whose iterations are steps of the optimiser, however many batches make one.

MMEngine counts batches: the learning rate then moves between two steps, and everything that is
counted (schedule, intervals, checkpoints) changes with accumulation. Here it does not, so that a
run may go on with another number of processes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from mmengine.registry import LOOPS
from mmengine.runner import IterBasedTrainLoop, Runner


class BatchesOfSteps:
    """MMEngine's endless iterator over batches, skipped by steps.

    Args:
        batches: The iterator.
        accumulation: Batches that make a step.
    """

    def __init__(self, batches: Any, accumulation: int) -> None:
        self._batches, self._accumulation = batches, accumulation

    def __next__(self) -> Any:
        return next(self._batches)

    def skip_iter(self, num_steps: int) -> None:
        """Begin so many steps later."""
        self._batches.skip_iter(num_steps * self._accumulation)


@LOOPS.register_module()
class StepTrainLoop(IterBasedTrainLoop):
    """MMEngine's loop by iterations, where `accumulation` batches are one iteration.

    Hooks are called once a step: what they get of losses is the mean over its batches, and of
    data the first batch before the step and the last one after it. Before each batch
    `before_batch(number=...)` is called on hooks that have it, with its number since the training
    began, on this process; the message hub has it as 'batch'.

    Args:
        runner: See MMEngine.
        dataloader: See MMEngine.
        max_iters: Steps.
        accumulation: Batches of each process that make a step.
        **kwargs: See MMEngine; intervals are in steps.

    Raises:
        ValueError: If the optimiser's wrapper accumulates, too.
    """

    def __init__(
        self, runner: Runner, dataloader: Any, max_iters: int, accumulation: int = 1, **kwargs: Any
    ) -> None:
        super().__init__(runner, dataloader, max_iters, **kwargs)
        assert accumulation >= 1
        self.accumulation = accumulation
        self.dataloader_iterator = BatchesOfSteps(self.dataloader_iterator, accumulation)

    def run(self) -> Any:
        """See MMEngine."""
        wrapper = self.runner.optim_wrapper
        if wrapper._accumulative_counts != 1:
            raise ValueError(
                "optim_wrapper.accumulative_counts does nothing under StepTrainLoop; leave it out "
                "and set total_batch"
            )
        # MMEngine would count these steps as batches.
        wrapper._accumulative_counts = self.accumulation
        wrapper.initialize_count_status(
            self.runner.model, self._iter * self.accumulation, self._max_iters * self.accumulation
        )
        return super().run()

    def run_iter(self, data_batch: Any) -> None:
        """One step of the optimiser."""
        runner = self.runner
        first = self._iter * self.accumulation
        runner.call_hook("before_train_iter", batch_idx=self._iter, data_batch=data_batch)
        outputs = []
        for place in range(self.accumulation):
            if place:
                data_batch = next(self.dataloader_iterator)
            runner.message_hub.update_info("batch", first + place)
            runner.call_hook("before_batch", number=first + place)
            outputs.append(runner.model.train_step(data_batch, optim_wrapper=runner.optim_wrapper))
        runner.call_hook(
            "after_train_iter",
            batch_idx=self._iter,
            data_batch=data_batch,
            outputs=mean_outputs(outputs),
        )
        self._iter += 1


def mean_outputs(outputs: list[Mapping[str, Any]]) -> dict[str, Any]:
    """The mean of each number over batches of one step.

    Example:
        >>> mean_outputs([{"loss": torch.tensor(1.0)}, {"loss": torch.tensor(2.0)}])
        {'loss': tensor(1.5000)}
    """
    if len(outputs) == 1:
        return dict(outputs[0])
    return {
        name: torch.stack([torch.as_tensor(each[name]) for each in outputs]).mean(0)
        for name in outputs[0]
    }
