"""Exact resumption: a run that was killed and went on ends as if it had not been.

Random numbers are functions of seed, rank and step, or of the place of a sample in the training, so
none has to be stored.
"""

from __future__ import annotations

import dataclasses
import functools
import random
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.dataset.utils import worker_init_fn
from mmengine.dist import get_dist_info, get_rank, is_main_process
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.registry import HOOKS
from mmengine.runner import IterBasedTrainLoop, Runner

from pe_dense.data.trained_files import trained_sha256
from pe_dense.encoders.weights import WeightsInfo
from pe_dense.run.checkpoint import RunFacts, load_checkpoint_safely, load_strictly


def _iteration_seed(*parts: int) -> int:
    return int(np.random.SeedSequence(parts).generate_state(1)[0])


def seed_everything(seed: int) -> None:
    """Seed the generators of Python, NumPy and PyTorch."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 (mmdet's transforms use the global generator)
    torch.manual_seed(seed)


class SeededSamples:
    """A data set's `__getitems__`, which loads a batch and seeds before each of its samples.

    MMEngine resumes an iteration-based loop at the right images, but with workers whose generators
    start anew: the crops of a resumed run would be others. Here they depend on the place of a
    sample in the training alone: samplers deal sample n of the whole to process n modulo their
    number, so that another number of processes, workers or batches draws the same.

    Args:
        dataset: The data set.
        seed: Of the run.
        batch_size: Samples of a batch of this process.
        first: Number of the batch that is loaded first.
    """

    def __init__(self, dataset: Any, seed: int, batch_size: int, first: int) -> None:
        self.dataset, self.seed, self.batch_size = dataset, seed, batch_size
        self.rank, self.world_size = get_dist_info()
        self._batch, self._step = first, 1

    def seed_of(self, place: int) -> int:
        """Seed of a sample by its place in the training."""
        return _iteration_seed(self.seed, place, 3)

    def enter_worker(self, num_workers: int, worker_id: int) -> None:
        """As `worker_init_fn`: this process loads every `num_workers`-th batch."""
        self._batch, self._step = self._batch + worker_id, num_workers

    def __call__(self, indices: Sequence[int]) -> list[Any]:
        """The samples of a batch."""
        samples = []
        for place, index in enumerate(indices, start=self._batch * self.batch_size):
            seed_everything(self.seed_of(place * self.world_size + self.rank))
            samples.append(self.dataset[index])
        self._batch += self._step
        return samples


@HOOKS.register_module()
class ExactResumeHook(Hook):
    """Makes a resumed run equal an uninterrupted one, and counts the seconds of training.

    Random numbers of the model are a function of (seed, rank, iteration) and those of the
    loading workers a function of (seed, rank, epoch), or in iteration-based loops of (seed, place
    of the sample in the training), so nothing about generators has to be stored. Epoch-based loops
    resume at the last finished epoch. Workers must not persist over epochs, which the hook checks.

    The checkpoint's meta carries what `tools/test.py` needs for a record: where the encoder's
    weights came from, and the training command.

    Args:
        facts: What the checkpoints shall know of the run: `RunFacts.to_meta`.
        start_from: Checkpoint of the whole model to fine-tune from. It is loaded strictly;
            MMEngine's own `load_from` would let half a model through with a log line.
        start_without: Beginnings of parameter names that are not taken from `start_from`.
    """

    priority = "VERY_HIGH"

    def __init__(
        self,
        facts: Mapping[str, Any] | None = None,
        start_from: str | None = None,
        start_without: Sequence[str] = (),
    ) -> None:
        self.facts = None if facts is None else RunFacts.from_meta(facts, "of this run")
        self.start_from, self.start_without = start_from, start_without
        self._started = 0.0

    def before_train(self, runner: Runner) -> None:
        """Refuse persistent workers and other data, load what is fine-tuned, start the clock."""
        if getattr(runner.train_dataloader, "persistent_workers", False):
            raise ValueError(
                "persistent_workers=True keeps random states that a resumed run cannot restore; "
                "set train_dataloader.persistent_workers=False"
            )
        if self.facts is not None and is_main_process():  # its checkpoints are written
            found = require_same_training_data(
                self.facts.trained_on, runner.train_dataloader.dataset, runner.work_dir
            )
            self.facts = dataclasses.replace(self.facts, trained_on=found)
        if self.start_from is not None:
            model = runner.model.module if is_model_wrapper(runner.model) else runner.model
            content = load_checkpoint_safely(self.start_from, "cpu", mapped=True)
            load_strictly(model, content, self.start_from, self.start_without)
        self._started = time.monotonic() - _seconds_so_far(runner)

    def before_train_epoch(self, runner: Runner) -> None:
        """Seed the workers of this epoch, and what the main process draws before its first step."""
        loader = runner.train_dataloader
        if self._counts_iterations(runner):  # one "epoch", which a resumed run enters midway
            sampler = loader.batch_sampler
            size = getattr(sampler, "batch_size", None) or loader.batch_size
            first = runner.iter * getattr(runner.train_loop, "accumulation", 1)
            samples = SeededSamples(loader.dataset, runner.seed, size, first)
            loader.dataset.__getitems__ = samples
            loader.worker_init_fn = functools.partial(samples.enter_worker, loader.num_workers)
            return
        seed = _iteration_seed(runner.seed, get_rank(), runner.epoch, 0)
        loader.worker_init_fn = functools.partial(
            worker_init_fn, num_workers=loader.num_workers, rank=0, seed=seed % 2**31
        )
        self._seed_everything(_iteration_seed(runner.seed, get_rank(), runner.epoch, 1))

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Seed what the model draws in this step."""
        self._seed_everything(_iteration_seed(runner.seed, get_rank(), runner.iter, 2))

    def before_batch(self, runner: Runner, number: int) -> None:
        """The same for each of several batches of a step."""
        self._seed_everything(_iteration_seed(runner.seed, get_rank(), number, 2))

    @staticmethod
    def _counts_iterations(runner: Runner) -> bool:
        return isinstance(getattr(runner, "_train_loop", None), IterBasedTrainLoop)

    @staticmethod
    def _seed_everything(seed: int) -> None:
        seed_everything(seed)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Keep the seconds of training where checkpoints carry them."""
        runner.message_hub.update_info("train_seconds", time.monotonic() - self._started)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Add to the checkpoint's meta what a record needs."""
        if self.facts is None:  # a Runner that tools/train.py did not make
            return
        sources = [getattr(module, "weights_info", None) for module in runner.model.modules()]
        weights = next((s for s in sources if isinstance(s, WeightsInfo)), self.facts.weights)
        seconds = time.monotonic() - self._started
        facts = dataclasses.replace(self.facts, weights=weights, train_seconds=seconds)
        checkpoint["meta"]["pe_dense"] = facts.to_meta()


def _seconds_so_far(runner: Runner) -> float:
    return float(runner.message_hub.runtime_info.get("train_seconds", 0.0))


def require_same_training_data(begun: str | None, dataset: Any, work_dir: str) -> str | None:
    """Hash of what a run trains on, None where it cannot be told.

    Args:
        begun: The hash when the run began; None for a new one.
        dataset: The built training data.
        work_dir: Of the run, for the message.

    Raises:
        ValueError: If it goes on with others than it began with.
    """
    found = trained_sha256(dataset)
    if None not in (found, begun) and found != begun:
        raise ValueError(
            f"{work_dir} holds a run that began with other training labels or pictures than are "
            "there now; restore the data, or train in another --work-dir"
        )
    return found or begun


def continued(checkpoint: Path, content: Mapping[str, Any], facts: RunFacts) -> RunFacts:
    """The facts of a run that goes on: what it said of itself when it began, and what changed.

    Another commit does not stop it, but its record names that one, too; nor does another number of
    processes with as many images a step.

    Args:
        checkpoint: Its file, for messages.
        content: What it holds.
        facts: Those of a run that would begin now.

    Raises:
        ValueError: If a setting differs; the message has the original command.
    """
    begun = RunFacts.from_meta(content.get("meta", {}).get("pe_dense", {}), checkpoint)
    totals = (begun.total_batch, facts.total_batch)
    if None not in totals and totals[0] != totals[1]:
        raise ValueError(
            f"{checkpoint.parent} holds a run of {totals[0]} images a step, and this one would "
            f"have {totals[1]}; go on with as many (batch_size x processes), as in "
            f"{begun.train_command}, or train in another --work-dir"
        )
    old = begun.settings()
    other = [name for name, value in facts.settings().items() if old[name] != value]
    if other:
        raise ValueError(
            f"{checkpoint.parent} holds a run with other settings ({', '.join(other)}), begun by: "
            f"{begun.train_command}; give the same command with --resume, or another --work-dir"
        )
    if begun.recipe is None:  # begun when checkpoints did not know; the same, as was just checked
        begun = dataclasses.replace(begun, recipe=facts.recipe)
    if facts.commit != begun.commit and facts.commit not in begun.went_on_at:
        begun = dataclasses.replace(begun, went_on_at=[*begun.went_on_at, facts.commit])
    return dataclasses.replace(begun, dirty=begun.dirty or facts.dirty)
