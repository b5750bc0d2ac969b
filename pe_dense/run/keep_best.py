"""Keeps the checkpoint of the best validation, and ends a training that gains no more.

MMEngine has a hook for either. Its best checkpoint is chosen from scores that a killed run forgets
where it was killed between a checkpoint and the validation behind it, and its early stop counts
from nothing after every start; here both follow from the list of all scores, which checkpoints
carry, and a validation that a checkpoint does not know of is made up for before training goes on.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import EpochBasedTrainLoop, Runner

from pe_dense.run.validations import Validations, best_name, best_place, without_gain

_SCORES = "scores_of_validations"  # in the message hub, which checkpoints carry


@HOOKS.register_module()
class KeepBest(Hook):
    """See the module.

    The best checkpoint holds no optimiser and is called best_<unit>_<step>.pth; training goes on
    from the last ordinary one. Beside it lies `validations.json`.

    Args:
        metric: Score that chooses, as the protocol names it ('AP', without a prefix).
        higher_is_better: Its direction.
        on: What is validated on, in words.
        keep: Keep the checkpoint of the best validation.
        patience: End the training after so many validations in a row without gain; None: never.
    """

    priority = "LOWEST"  # averaged weights have been put back by then

    def __init__(
        self,
        metric: str,
        higher_is_better: bool,
        on: str,
        keep: bool = True,
        patience: int | None = None,
    ) -> None:
        self.metric, self.higher_is_better, self.on = metric, higher_is_better, on
        self.keep, self.patience = keep, patience

    def before_train(self, runner: Runner) -> None:
        """Make up for a validation that the checkpoint to go on from was written before."""
        done = _step(runner)
        if done and _is_due(runner, done) and done not in [step for step, _ in _scores(runner)]:
            runner.logger.info(
                f"{_unit(runner)} {done} was to be validated when the run was stopped: now it is"
            )
            runner.val_loop.run()
        elif done:  # the run may have been over
            self._stop_without_gain(runner)

    def after_val_epoch(self, runner: Runner, metrics: Mapping[str, float] | None = None) -> None:
        """Keep the score, its checkpoint if it is the best, and stop if it is time."""
        step, scores = _step(runner), _scores(runner)
        if step in [known for known, _ in scores]:
            return
        scores = [*scores, (step, self._score(metrics or {}))]
        runner.message_hub.update_info(_SCORES, [list(pair) for pair in scores])
        if self.keep and best_place(scores, self.higher_is_better) == len(scores) - 1:
            self._save(runner, step)
        self._stop_without_gain(runner)
        self._write(runner)

    def after_train(self, runner: Runner) -> None:
        """Say what was chosen."""
        found = self._write(runner)
        if found is not None and found.best is not None:
            runner.logger.info(found.in_words())

    def _score(self, metrics: Mapping[str, float]) -> float:
        for name, value in metrics.items():
            if name in (self.metric, name.partition("/")[0] + "/" + self.metric):
                return float(value)
        return math.nan  # a metric without a value, as AP where nothing is labelled

    def _save(self, runner: Runner, step: int) -> None:
        name = best_name(_unit(runner), step)
        runner.save_checkpoint(
            runner.work_dir,
            name,
            save_optimizer=False,
            save_param_scheduler=False,
            meta=dict(epoch=runner.epoch, iter=runner.iter),
            by_epoch=False,
        )

    def _stop_without_gain(self, runner: Runner) -> None:
        waited = without_gain(_scores(runner), self.higher_is_better)
        if self.patience is None or waited < self.patience:
            return
        if not runner.train_loop.stop_training:
            runner.logger.info(
                f"{waited} validations without gain in {self.metric}: the training ends here"
            )
        runner.train_loop.stop_training = True

    def _write(self, runner: Runner) -> Validations | None:
        """Write `validations.json`, then remove what was the best before."""
        scores = _scores(runner)
        if not scores or not is_main_process():
            return None
        waited = without_gain(scores, self.higher_is_better)
        planned = _planned(runner)
        is_over = scores[-1][0] >= planned or (
            self.patience is not None and waited >= self.patience
        )
        found = Validations(
            self.metric, self.higher_is_better, _unit(runner), self.on, tuple(scores), self.keep,
            self.patience, planned, is_over,
        )  # fmt: skip
        found.write(runner.work_dir)
        if self.keep:
            for file in Path(runner.work_dir).glob(f"best_{found.unit}_*.pth"):
                if file.name != found.best_file():
                    file.unlink()
        return found


def _scores(runner: Runner) -> list[tuple[int, float]]:
    known = runner.message_hub.runtime_info.get(_SCORES, [])
    return [(int(step), float(score)) for step, score in known]


def _unit(runner: Runner) -> str:
    return "epoch" if isinstance(runner.train_loop, EpochBasedTrainLoop) else "iter"


def _step(runner: Runner) -> int:
    return runner.epoch if _unit(runner) == "epoch" else runner.iter


def _planned(runner: Runner) -> int:
    return runner.max_epochs if _unit(runner) == "epoch" else runner.max_iters


def _is_due(runner: Runner, step: int) -> bool:
    """Whether the training loop validates after a step."""
    loop = runner.train_loop
    if runner.val_loop is None or step < loop.val_begin:
        return False
    return step % loop.val_interval == 0 or step == _planned(runner)
