"""DINOv3's schedule of dense heads, beside what its own scheduler gave (tests/golden)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.optim import OptimWrapper
from mmengine.registry import PARAM_SCHEDULERS

import pe_dense.openmmlab.warmup_one_cycle  # noqa: F401

GOLDEN = np.load(Path(__file__).resolve().parents[1] / "golden/dinov3_schedule.npz")
SEGMENTATION = dict(end=40_000, warmup=1500, held=1, line_from=1e-6)
DEPTH = dict(end=38_400, warmup=12_800)


def wrapped(lr: float, betas: tuple[float, float] = (0.9, 0.999)) -> OptimWrapper:
    parameter = torch.nn.Parameter(torch.zeros(1))
    parameter.grad = torch.zeros(1)
    return OptimWrapper(torch.optim.AdamW([parameter], lr=lr, betas=betas))


def scheduled(wrapper: OptimWrapper, kind: str, **options: object):
    config = dict(type=kind, by_epoch=False, **options)
    return PARAM_SCHEDULERS.build(config, default_args=dict(optimizer=wrapper))


def values_of(wrapper: OptimWrapper, schedulers: list, steps: int) -> tuple[list, list]:
    """Learning rate and beta1 at each iteration."""
    rates, momenta = [], []
    group = wrapper.param_groups[0]
    for _ in range(steps):
        rates.append(group["lr"])
        momenta.append(group["betas"][0])
        wrapper.step()
        for scheduler in schedulers:
            scheduler.step()
    return rates, momenta


def test_the_rate_of_segmentation_is_the_references() -> None:
    wrapper = wrapped(1e-3)
    scheduler = scheduled(wrapper, "WarmupOneCycleLR", **SEGMENTATION)
    rates, momenta = values_of(wrapper, [scheduler], 40_000)
    at = GOLDEN["segmentation_iterations"]
    np.testing.assert_allclose(np.take(rates, at), GOLDEN["segmentation_lr"], rtol=1e-12, atol=0)
    assert set(momenta) == {0.9} == set(GOLDEN["segmentation_beta1"].tolist())


def test_rate_and_beta1_of_depth_are_the_references() -> None:
    wrapper = wrapped(3e-4, (0.9, 0.99))
    schedulers = [
        scheduled(wrapper, "WarmupOneCycleLR", **DEPTH, first=1e-3, last=1 / 25 / 1000),
        scheduled(wrapper, "WarmupOneCycleMomentum", **DEPTH),
    ]
    rates, momenta = values_of(wrapper, schedulers, 38_400)
    at = GOLDEN["depth_iterations"]
    np.testing.assert_allclose(np.take(rates, at), GOLDEN["depth_lr"], rtol=1e-12, atol=0)
    np.testing.assert_allclose(np.take(momenta, at), GOLDEN["depth_beta1"], rtol=1e-12, atol=0)
    assert wrapper.param_groups[0]["betas"][1] == 0.99


def test_a_resumed_schedule_goes_on() -> None:
    options = dict(end=20, warmup=5, held=1, line_from=1e-6)
    whole = wrapped(1e-3)
    rates, _ = values_of(whole, [scheduled(whole, "WarmupOneCycleLR", **options)], 20)
    stopped = wrapped(1e-3)
    first = scheduled(stopped, "WarmupOneCycleLR", **options)
    values_of(stopped, [first], 7)
    resumed = wrapped(1e-3)
    second = scheduled(resumed, "WarmupOneCycleLR", **options)
    resumed.load_state_dict(stopped.state_dict())
    second.load_state_dict(first.state_dict())
    assert values_of(resumed, [second], 13)[0] == rates[7:]


def test_a_trial_shorter_than_the_warm_up_runs() -> None:
    wrapper = wrapped(1.0)
    rates, _ = values_of(
        wrapper, [scheduled(wrapper, "WarmupOneCycleLR", end=4, warmup=10, line_from=0.5)], 4
    )
    assert rates == pytest.approx([0.5, 0.55 * 3 / 4, 0.6 * 2 / 4, 0.65 / 4])


@pytest.mark.parametrize(
    ("kind", "bad"),
    [
        ("WarmupOneCycleLR", dict(warmup=-1)),
        ("WarmupOneCycleLR", dict(warmup=1, held=-1)),
        ("WarmupOneCycleLR", dict(warmup=1, last=1.5)),
        ("WarmupOneCycleLR", dict(warmup=1, line_from=-0.1)),
        ("WarmupOneCycleMomentum", dict(warmup=1, low=0.96)),
        ("WarmupOneCycleMomentum", dict(warmup=1, high=1.0)),
    ],
)
def test_numbers_out_of_range_are_refused(kind: str, bad: dict) -> None:
    with pytest.raises(ValueError, match=f"{kind} has .* give"):
        scheduled(wrapped(1.0), kind, end=10, **bad)
