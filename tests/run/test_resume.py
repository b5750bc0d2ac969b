"""Exact resumption: random numbers by iteration, and where a fine-tuned model starts."""

from __future__ import annotations

import random
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

pytest.importorskip("mmengine")

from pe_dense.run.resume import ExactResumeHook


def runner_of(epoch: int, iteration: int, **loader: object) -> SimpleNamespace:
    return SimpleNamespace(
        seed=7, epoch=epoch, iter=iteration,
        train_dataloader=SimpleNamespace(num_workers=1, **loader),
        message_hub=SimpleNamespace(runtime_info={}),
    )  # fmt: skip


def draws() -> tuple:
    return random.random(), float(np.random.rand()), torch.rand(2).tolist()  # noqa: NPY002


def test_random_numbers_depend_on_the_iteration_and_not_on_the_past() -> None:
    hook = ExactResumeHook()
    state = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    try:
        hook.before_train_iter(runner_of(0, 5), 5)
        first = draws()
        hook.before_train_iter(runner_of(0, 6), 6)
        second = draws()
        draws()
        hook.before_train_iter(runner_of(0, 5), 5)
        assert draws() == first
        assert all(a != b for a, b in zip(first, second))
    finally:
        random.setstate(state[0])
        np.random.set_state(state[1])  # noqa: NPY002
        torch.set_rng_state(state[2])


def test_workers_that_persist_are_refused() -> None:
    with pytest.raises(ValueError, match="persistent_workers=False"):
        ExactResumeHook().before_train(runner_of(0, 0, persistent_workers=True))


# Fine-tuning


def test_fine_tuning_starts_from_the_whole_model_or_not_at_all(tmp_path: Path) -> None:
    source, target, other = nn.Linear(3, 2), nn.Linear(3, 2), nn.Linear(3, 5)
    file = tmp_path / "start.pth"
    torch.save({"state_dict": source.state_dict()}, file)

    def start(model: nn.Module) -> None:
        runner = SimpleNamespace(
            model=model,
            train_dataloader=SimpleNamespace(persistent_workers=False),
            message_hub=SimpleNamespace(runtime_info={}),
        )
        ExactResumeHook(start_from=str(file)).before_train(runner)

    start(target)
    assert torch.equal(source.weight, target.weight)
    before = other.weight.clone()
    with pytest.raises(ValueError, match="does not fit the model"):
        start(other)
    assert torch.equal(other.weight, before)
