"""The configs under configs/depth: rates and weight decay of the papers, and that they build."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from mmengine.registry import PARAM_SCHEDULERS, init_default_scope
from mmseg.registry import MODELS

import pe_dense.depth
import pe_dense.probing  # noqa: F401
from pe_dense.run.config import load_config, load_template
from pe_dense.run.protocol import protocol_of, protocol_sha256

CONFIGS = sorted((Path(__file__).resolve().parents[2] / "configs/depth").glob("*.py"))
BY_PAPER = [path for path in CONFIGS if path.stem.endswith(("_dinov2", "_dinov3", "_pe"))]
STEPS, WARM_UP = 384, 128  # a hundredth of the recipe


def config_of(path: Path, **options):
    return load_config(path, encoder="pe_core_t16_384", weights="random", options=options)[0]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_models_build_for_another_encoder(path):
    init_default_scope("mmseg")
    with torch.device("meta"):
        model = MODELS.build(config_of(path).model)
    assert model.backbone.embed_dim == 192
    trained = [name for name, p in model.backbone.named_parameters() if p.requires_grad]
    assert bool(trained) == (path.stem == "linear_pe_t16_mini")


def dinov2_rate(step: int, rate: float) -> float:
    """mmcv 1: a cosine over all steps; in the warm-up, times a line that begins at 0.001."""
    cosine = rate * 0.5 * (1 + math.cos(math.pi * step / STEPS))
    return cosine * (1 - (1 - step / WARM_UP) * (1 - 1e-3)) if step < WARM_UP else cosine


def dinov3_rate(step: int, rate: float) -> float:
    """dinov3 @ 6876159: the same but for the ends of the lines."""
    cosine = rate * 0.5 * (1 + math.cos(math.pi * step / STEPS))
    if step < WARM_UP:
        return rate / 1000 + cosine * step / WARM_UP
    end = rate / 25_000
    return end + (rate - end) * 0.5 * (1 + math.cos(math.pi * (step + 1) / STEPS))


@pytest.mark.parametrize("path", BY_PAPER, ids=lambda path: path.stem)
def test_rates_and_weight_decay_of_the_papers(path):
    init_default_scope("mmseg")
    cfg = config_of(path, max_iters=STEPS, warmup_iters=WARM_UP)
    model = MODELS.build(cfg.model)
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    # AdamW over all that is trained, vectors too: no norm of the encoder is among it.
    assert {g["weight_decay"] for g in wrapper.param_groups} == {cfg.weight_decay}
    num_trained = sum(p.requires_grad for p in model.parameters())
    assert sum(len(g["params"]) for g in wrapper.param_groups) == num_trained > 1
    schedulers = [
        PARAM_SCHEDULERS.build(s, default_args=dict(optimizer=wrapper)) for s in cfg.param_scheduler
    ]
    rates = []
    for _ in range(STEPS):
        rates.append(wrapper.param_groups[0]["lr"])
        wrapper.optimizer.step()  # nothing has a gradient
        for scheduler in schedulers:
            scheduler.step()
    expected = dinov3_rate if path.stem.endswith("_dinov3") else dinov2_rate
    # MMEngine's lines reach their end one step earlier; hence a step's worth of tolerance.
    tolerance = cfg.lr * 1.2 / WARM_UP
    for step in range(STEPS):
        assert rates[step] == pytest.approx(expected(step, cfg.lr), abs=tolerance), step
    assert max(rates) == pytest.approx(0.75 * cfg.lr, rel=0.01)


def dinov2_momentum(step: int, lowest: int) -> float:
    """mmcv 1, one cycle: half a cosine from 0.95 to 0.85 and half a one back."""
    share = step / lowest if step <= lowest else (step - lowest) / (STEPS - lowest)
    cosine = 0.5 * (1 + math.cos(math.pi * share))
    return 0.85 + 0.1 * (cosine if step <= lowest else 1 - cosine)


@pytest.mark.parametrize("name", [p.stem for p in BY_PAPER if p.stem.endswith("_dinov2")])
def test_momentum_of_dinov2(name):
    lowest = round(0.3 * STEPS)
    options = dict(max_iters=STEPS, warmup_iters=WARM_UP)
    cfg = config_of(CONFIGS[0].with_name(f"{name}.py"), **options)
    weight = torch.nn.Parameter(torch.zeros(2))
    optimizer = torch.optim.AdamW([weight], betas=cfg.optim_wrapper.optimizer.betas)
    schedulers = [
        PARAM_SCHEDULERS.build(s, default_args=dict(optimizer=optimizer))
        for s in cfg.param_scheduler
    ]
    for step in range(STEPS):
        beta1, beta2 = optimizer.param_groups[0]["betas"]
        assert beta1 == pytest.approx(dinov2_momentum(step, lowest), abs=1e-3), step
        assert beta2 == 0.999
        optimizer.step()
        for scheduler in schedulers:
            scheduler.step()


def test_momentum_out_of_range_is_refused():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0, momentum=0.9)
    config = dict(type="OneCycleMomentum", by_epoch=False, end=10)
    build = lambda **options: PARAM_SCHEDULERS.build(  # noqa: E731
        {**config, **options}, default_args=dict(optimizer=optimizer)
    )
    build()
    assert optimizer.param_groups[0]["momentum"] == 0.95
    for bad in (dict(low=0.96), dict(fall=1.0), dict(high=1.0)):
        with pytest.raises(ValueError, match="one-cycle momentum .* is out of range"):
            build(**bad)


def test_images_of_several_cameras_are_scored_one_by_one():
    """A batch of one size is all that mmseg's data preprocessor takes in a test."""
    for name in ("linear1", "linear4", "dpt"):
        (path,) = (path for path in CONFIGS if path.stem == f"sunrgbd_{name}_dinov2")
        assert config_of(path).test_dataloader.batch_size == 1


@pytest.mark.parametrize("head", ["linear1", "linear4", "dpt"])
def test_other_training_is_another_transfer(head):
    scored, trained = (CONFIGS[0].with_name(f"{n}_{head}_dinov2.py") for n in ("sunrgbd", "nyu"))
    template = load_template(scored)

    def found(sha256, amp=False):
        facts = SimpleNamespace(amp=amp, world_size=8, start_from=None, protocol_sha256=sha256)
        return protocol_of(str(scored), template, facts, None)

    as_named = found(protocol_sha256(load_template(trained)))
    assert as_named.id == template.protocol.id
    assert as_named.config_sha256 == protocol_sha256(template)
    shorter = protocol_sha256(load_template(trained, options={"max_iters": 100}))
    kitti = protocol_sha256(load_template(trained.with_name("kitti_linear1_dinov2.py")))
    ids = {found(sha).id for sha in (shorter, kitti)}
    assert len(ids) == 2
    assert all(one.startswith(f"{template.protocol.id}.mod-") for one in ids)
