"""How fast a training is, in its log: images per second, share of the GPU's peak, memory, end.

    speed: 812.3 images/s, 41.2 % of the peak, 61.20 GiB, 3:12:45 left

Images are those of all processes. The share is of the bfloat16 peak of this process's GPU, for the
operations that `model_flops` counts on the first batch; '-' where the GPU is not known, or batches
differ in size. Memory is the most that this process has held so far: on the GPU, or of the host
where there is none. Probes, validation and checkpoints count for the time that is left alone.
"""

from __future__ import annotations

import datetime
import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.hooks import Hook, LoggerHook
from mmengine.runner import Runner

from pe_dense.results.provenance import peak_memory_gib
from pe_dense.run.model_flops import ModelFlops, peak_of

GIB = 2**30


class SpeedClock(Hook):
    """Notes when everything else of a step is done; `SpeedLog` has one."""

    priority = "LOWEST"

    def __init__(self) -> None:
        self.since = 0.0

    def before_train_epoch(self, runner: Runner) -> None:
        """Start."""
        self.since = time.perf_counter()

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """The next step begins."""
        self.since = time.perf_counter()

    def after_val(self, runner: Runner) -> None:
        """Validation is over."""
        self.since = time.perf_counter()


class SpeedLog(Hook):
    """Writes a line as often as the losses are logged, and gives its numbers to the visualizer.

    Register its `clock`, too.

    Args:
        device: Name of the GPU, '' for none; None asks CUDA.
    """

    priority = "VERY_HIGH"  # before probes, loggers and checkpoints

    def __init__(self, device: str | None = None) -> None:
        if device is None:
            device = torch.cuda.get_device_name() if torch.cuda.is_available() else ""
        self.peak, self.clock = peak_of(device), SpeedClock()
        self.flops: int | None = None  # of a batch of the size that was counted
        self._counter: ModelFlops | None = None
        self._compiled: list[tuple[Any, str]] = []
        self._size: Any = None
        self._begin, self._steps = 0.0, 0
        self._seconds, self._images, self._is_alike = 0.0, 0, True

    def before_train(self, runner: Runner) -> None:
        """Start the clock of the whole."""
        self._begin, self._steps = time.perf_counter(), 0

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Count the operations of the first batch; compiled blocks run as they are written."""
        if self.flops is None and self._counter is None:
            self._size = batch_shape(data_batch)
            modes = [(m, getattr(m, "compile_mode", None)) for m in runner.model.modules()]
            self._compiled = [(block, mode) for block, mode in modes if mode is not None]
            for block, _ in self._compiled:
                block.compile_mode = None
            self._counter = ModelFlops()
            self._counter.__enter__()

    def before_batch(self, runner: Runner, number: int) -> None:
        """The first batch of several is over."""
        if self._counter is not None and self._counter.total:
            self.end_count()

    def end_count(self) -> None:
        """Count no longer; also after a training that failed."""
        if self._counter is None:
            return
        self._counter.__exit__(None, None, None)
        self.flops, self._counter = self._counter.total, None
        for block, mode in self._compiled:
            block.compile_mode = mode

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Add a step; write if it is time."""
        self.end_count()
        count = getattr(runner.train_loop, "accumulation", 1)
        shape = batch_shape(data_batch)
        self._steps += 1
        self._seconds += time.perf_counter() - self.clock.since
        self._images += len(shape or ()) * count * runner.world_size
        self._is_alike &= shape is not None and shape == self._size
        if not self._is_time(runner, batch_idx):
            return
        self._write(runner, count)
        self._seconds, self._images, self._is_alike = 0.0, 0, True

    @staticmethod
    def _is_time(runner: Runner, batch_idx: int) -> bool:
        loggers = [hook for hook in runner.hooks if isinstance(hook, LoggerHook)]
        return any(hook.every_n_inner_iters(batch_idx, hook.interval) for hook in loggers)

    def _write(self, runner: Runner, accumulation: int) -> None:
        per_image = None
        if self._is_alike and self._size and self.flops:
            per_image = self.flops / len(self._size)
        rate = self._images / max(self._seconds, 1e-9)
        share = None
        if per_image is not None and self.peak is not None:
            share = per_image * rate / runner.world_size / self.peak
        left = runner.max_iters - runner.iter - 1
        seconds = left * (time.perf_counter() - self._begin) / self._steps
        memory = memory_held_gib()
        runner.logger.info(speed_words(rate if self._images else None, share, memory, seconds))
        numbers = {"images_per_second": rate, "peak_share": share, "memory_gib": memory}
        runner.visualizer.add_scalars(
            {f"speed/{k}": v for k, v in numbers.items() if v is not None}, step=runner.iter + 1
        )


def speed_words(
    images_per_second: float | None, share: float | None, gib: float | None, seconds_left: float
) -> str:
    """The line.

    Example:
        >>> speed_words(812.34, None, 1.5, 3725.0)
        'speed: 812.3 images/s, - of the peak, 1.50 GiB, 1:02:05 left'
    """
    rate = "-" if images_per_second is None else f"{images_per_second:.1f}"
    part = "-" if share is None else f"{100 * share:.1f} %"
    memory = "-" if gib is None else f"{gib:.2f}"
    left = datetime.timedelta(seconds=round(seconds_left))
    return f"speed: {rate} images/s, {part} of the peak, {memory} GiB, {left} left"


def memory_held_gib() -> float | None:
    """The most that this process has held so far, on the GPU if there is one; None on Windows."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / GIB
    return peak_memory_gib()


def batch_shape(data_batch: Any) -> list[tuple[int, ...]] | None:
    """Shape of every image of a batch as MMEngine's loaders make it; None of any other.

    Example:
        >>> batch_shape({"inputs": torch.zeros(2, 3, 8, 8)})
        [(3, 8, 8), (3, 8, 8)]
    """
    inputs = data_batch.get("inputs") if isinstance(data_batch, Mapping) else None
    if not isinstance(inputs, torch.Tensor | Sequence):
        return None
    shapes = [tuple(image.shape) for image in inputs if isinstance(image, torch.Tensor)]
    return shapes if len(shapes) == len(inputs) else None
