"""A training that ends early when a file asks it to, with a checkpoint to go on from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from mmengine.dist import broadcast, get_comm_device, get_dist_info
from mmengine.hooks import CheckpointHook, Hook
from mmengine.runner import IterBasedTrainLoop, Runner


class StopOnRequest(Hook):
    """Ends the training once a file is there; a loop by iterations writes a checkpoint first.

    The first process looks, and tells the others, so that all end after the same step. Loops by
    epochs resume at the end of one only, and so end there, after its checkpoint.

    Args:
        file: Whoever makes it asks for the end.
    """

    priority = "LOWEST"  # after the checkpoint hook

    def __init__(self, file: str | Path) -> None:
        self.file = Path(file)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Look after a step, in loops by iterations."""
        loop = runner.train_loop
        done = runner.iter + 1
        if not isinstance(loop, IterBasedTrainLoop) or done == runner.max_iters:
            return
        if not self._is_asked():
            return
        for hook in runner.hooks:
            if not isinstance(hook, CheckpointHook) or hook.by_epoch:
                continue
            if not hook.every_n_train_iters(runner, hook.interval, hook.save_begin):
                hook._save_checkpoint(runner)  # at its own place, with its own options
        loop.stop_training = True
        runner.logger.info(f"stopped after step {done}, as {self.file} asks; go on with --resume")

    def after_train_epoch(self, runner: Runner) -> None:
        """Look after an epoch, in others."""
        loop = runner.train_loop
        if not isinstance(loop, IterBasedTrainLoop) and self._is_asked():
            loop.stop_training = True
            runner.logger.info(
                f"stopped after epoch {runner.epoch + 1}, as {self.file} asks; go on with --resume"
            )

    def _is_asked(self) -> bool:
        rank, size = get_dist_info()
        asked = torch.tensor([int(rank == 0 and self.file.exists())], device=get_comm_device())
        if size > 1:
            broadcast(asked, 0)
        return bool(asked.item())
