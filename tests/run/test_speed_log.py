"""The line on speed: images of all processes, share of a known peak, and '-' of an unknown one."""

from __future__ import annotations

import time
from types import SimpleNamespace

import pytest

pytest.importorskip("mmengine")

import torch
from mmengine.hooks import LoggerHook
from torch import nn

from pe_dense.run import speed_log
from pe_dense.run.speed_log import SpeedLog, batch_shape


class Clock:
    """Time that moves when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def perf_counter(self) -> float:
        return self.now


def run(monkeypatch, device: str, sizes: list[int], accumulation: int = 2, world: int = 4):
    """Steps of 2 s with 3 s of other things after each; a line after every second step."""
    clock = Clock()
    monkeypatch.setattr(speed_log, "time", clock)
    lines, scalars = [], []
    layer = nn.Linear(8, 8)
    runner = SimpleNamespace(
        model=layer, iter=0, max_iters=len(sizes), world_size=world, hooks=[LoggerHook(interval=2)],
        train_loop=SimpleNamespace(accumulation=accumulation),
        logger=SimpleNamespace(info=lines.append),
        visualizer=SimpleNamespace(add_scalars=lambda tag, step: scalars.append((step, tag))),
    )  # fmt: skip
    hook = SpeedLog(device)
    hook.before_train(runner)
    hook.clock.before_train_epoch(runner)
    for number, size in enumerate(sizes):
        runner.iter = number
        batch = {"inputs": [torch.zeros(3, size, 8) for _ in range(5)]}
        hook.before_train_iter(runner, number, batch)
        for place in range(accumulation):
            hook.before_batch(runner, number * accumulation + place)
            layer(torch.zeros(10, 8))
        clock.now += 2.0
        hook.after_train_iter(runner, number, batch, {})
        clock.now += 3.0
        hook.clock.after_train_iter(runner, number, batch, {})
    return hook, lines, scalars


def test_images_share_and_time_left(monkeypatch) -> None:
    hook, lines, scalars = run(monkeypatch, "NVIDIA H100 PCIe", [8, 8, 8, 8, 8, 8])
    assert hook.flops == 2 * 10 * 8 * 8  # of one batch, not of all that were accumulated
    rate = 5 * 2 * 4 / 2.0  # images x accumulated x processes, in 2 s
    assert [line.split(",")[0] for line in lines] == [f"speed: {rate:.1f} images/s"] * 3
    numbers = scalars[0][1]
    assert scalars[0][0] == 2 and numbers["speed/images_per_second"] == pytest.approx(rate)
    per_second = 1280 * 2 / 2.0  # of a GPU: two batches in 2 s
    assert numbers["speed/peak_share"] == pytest.approx(per_second / 756e12)
    assert "0.0 % of the peak" in lines[0]
    assert lines[0].endswith("0:00:14 left")  # 7 s for two steps, 4 are left
    assert lines[-1].endswith("0:00:00 left")


def test_an_unknown_gpu_has_no_share(monkeypatch) -> None:
    _, lines, scalars = run(monkeypatch, "", [8, 8])
    assert "images/s, - of the peak" in lines[0]
    assert "speed/peak_share" not in scalars[0][1]


def test_batches_of_other_sizes_have_no_share(monkeypatch) -> None:
    _, lines, _ = run(monkeypatch, "NVIDIA H100 PCIe", [8, 9, 8, 8])
    assert "- of the peak" in lines[0] and "% of the peak" in lines[1]


def test_compiled_blocks_are_compiled_again_after_the_count(monkeypatch) -> None:
    block = nn.Linear(8, 8)
    block.compile_mode = "default"
    runner = SimpleNamespace(model=block)
    hook = SpeedLog("")
    hook.before_train_iter(runner, 0, {"inputs": torch.zeros(1, 3, 8, 8)})
    assert block.compile_mode is None
    hook.end_count()
    hook.end_count()
    assert block.compile_mode == "default"


def test_shapes_of_batches() -> None:
    assert batch_shape({"inputs": []}) == [] and batch_shape({"inputs": {"a": 1}}) is None
    assert batch_shape({"inputs": ["text"]}) is None and batch_shape(None) is None
    assert time.perf_counter() > 0  # the module's clock is its own
