"""The configs under configs/depth: rates and weight decay of the papers, and that they build."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from config_files import own_data
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DATASETS, METRICS, PARAM_SCHEDULERS, init_default_scope
from mmseg.registry import MODELS

import pe_dense.depth
import pe_dense.probing  # noqa: F401
from pe_dense.run.checkpoint_choice import loop_of, training_info
from pe_dense.run.config import load_config, load_template
from pe_dense.run.protocol import protocol_of, protocol_sha256

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests/golden"
CONFIGS = sorted((ROOT / "configs/depth").glob("*.py"))
BY_PAPER = [path for path in CONFIGS if path.stem.endswith(("_dinov2", "_dinov3", "_pe"))]
STEPS, WARM_UP = 384, 128  # a hundredth of the recipe


def config_of(path: Path, **options):
    return load_config(path, encoder="pe_core_t16_384", weights="random", options=options)[0]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_models_build_for_another_encoder(path, mini_root):
    init_default_scope("mmseg")
    with torch.device("meta"):
        model = MODELS.build(config_of(path, **own_data(path, mini_root)).model)
    assert model.backbone.embed_dim == 192
    trained = [name for name, p in model.backbone.named_parameters() if p.requires_grad]
    assert bool(trained) == (path.stem.startswith("linear_pe_t16_mini"))


@pytest.mark.parametrize("path", BY_PAPER, ids=lambda path: path.stem)
def test_rates_momentum_and_weight_decay_of_the_papers(path):
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
    found = []
    for _ in range(STEPS):
        assert len({(g["lr"], g["betas"]) for g in wrapper.param_groups}) == 1
        found.append((wrapper.param_groups[0]["lr"], *wrapper.param_groups[0]["betas"]))
        wrapper.optimizer.step()  # nothing has a gradient
        for scheduler in schedulers:
            scheduler.step()
    if path.stem.endswith("_dinov3"):
        known = [(*dinov3_step(step, cfg.lr), 0.99) for step in range(STEPS)]
    else:
        known = np.load(GOLDEN / "dinov2_depth_schedule.npz")["schedule"]
    np.testing.assert_allclose(found, known, rtol=1e-9)


def dinov3_step(step: int, rate: float) -> tuple[float, float]:
    """dinov3 @ 6876159, written again: rate and beta1 at a step."""
    if step < WARM_UP:
        cosine = rate * 0.5 * (1 + math.cos(math.pi * step / STEPS))
        return rate / 1000 + cosine * step / WARM_UP, 0.0
    end, share = rate / 25_000, (step - WARM_UP) / (STEPS - WARM_UP)
    cosine = end + (rate - end) * 0.5 * (1 + math.cos(math.pi * (step + 1) / STEPS))
    return cosine, 0.95 - 0.1 * 0.5 * (1 + math.cos(math.pi * share))


def test_settings_of_the_warmed_cosine_out_of_range_are_refused():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    config = dict(type="WarmedCosineLR", by_epoch=False, end=10, warmup=2)
    for bad in (dict(warmup=-1), dict(first=0.0), dict(lowest=2.0)):
        with pytest.raises(ValueError, match="WarmedCosineLR .* is out of range"):
            PARAM_SCHEDULERS.build({**config, **bad}, default_args=dict(optimizer=optimizer))


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


def sun_image(folder: Path, depth_m: np.ndarray) -> None:
    """One image of SUN RGB-D with its depth, in its own layout: bits turned by three."""
    steps = np.round(depth_m * 1000).astype(np.uint16)
    turned = (steps << 3) | (steps >> 13)
    cv2.imwrite(str(folder / "depth.png"), turned)
    cv2.imwrite(str(folder / "image.jpg"), np.full((*depth_m.shape, 3), 128, np.uint8))
    (folder / "SUNRGBD_val_splits.txt").write_text("image.jpg depth.png\n")


@pytest.mark.parametrize("head", ["linear1", "linear4", "dpt"])
def test_sun_rgbd_is_seen_and_scored_as_in_the_toolbox(head, tmp_path):
    """Squashed to 640 x 480 for the model; scored at its own size, in the box, up to 8 m."""
    init_default_scope("mmseg")
    size = (427, 561)
    depth = np.full(size, 2.0, np.float32)
    depth[50:100, 50:100] = 12.0  # beyond 8 m, and beyond the 10 m of the limits
    depth[:45] = depth[:, :41] = 4.0  # outside of the box
    depth[200, 200] = 0.0
    sun_image(tmp_path, depth)
    cfg = config_of(CONFIGS[0].with_name(f"sunrgbd_{head}_dinov2.py"), data_root=str(tmp_path))
    sample = DATASETS.build(cfg.test_dataloader.dataset)[0]
    assert tuple(sample["inputs"].shape) == (3, 640, 480)
    assert sample["data_samples"].ori_shape == size
    found = sample["data_samples"].gt_depth_map.data
    np.testing.assert_allclose(found[0], depth)

    metric = METRICS.build(cfg.test_evaluator)
    predicted = torch.full((1, *size), 3.0)
    predicted[:, 50:100, 50:100] = 9.5
    metric.process(
        None,
        [
            dict(
                img_path="image.jpg",
                gt_depth_map=dict(data=found),
                pred_depth_map=dict(data=predicted),
            )
        ],
    )
    scores = metric.evaluate(1)
    num = (427 - 45) * (561 - 41) - 1  # beyond 8 m both are 8 m away: no error, and counted
    assert scores["depth/rmse"] == pytest.approx(math.sqrt((num - 2500) / num), rel=1e-6)


def test_that_pe_chooses_on_the_test_set_reaches_the_record():
    cfg = config_of(CONFIGS[0].with_name("nyu_dpt_pe.py"))
    assert cfg.default_hooks.checkpoint.save_best == "depth/rmse"
    facts = SimpleNamespace(loop=loop_of(cfg))
    best = dict(pe_dense={}, iter=4_542, saved_as="best_depth_rmse_iter_4542.pth")
    found = training_info(cfg, facts, Path("renamed.pth"), best)
    assert found.rule == "test-best (paper-compat)"
    assert (found.chosen, found.done, found.planned) == ("best on the scored split", 4_542, 30_280)


@pytest.mark.parametrize("head", ["linear1", "linear4", "dpt"])
def test_other_training_is_another_transfer(head):
    scored, trained = (CONFIGS[0].with_name(f"{n}_{head}_dinov2.py") for n in ("sunrgbd", "nyu"))
    template = load_template(scored)

    def found(sha256, amp=False):
        facts = SimpleNamespace(
            amp=amp, world_size=8, total_batch=None, start_from=None, protocol_sha256=sha256
        )
        return protocol_of(str(scored), template, facts, None)

    as_named = found(protocol_sha256(load_template(trained)))
    assert as_named.id == template.protocol.id
    assert as_named.config_sha256 == protocol_sha256(template)
    shorter = protocol_sha256(load_template(trained, options={"max_iters": 100}))
    kitti = protocol_sha256(load_template(trained.with_name("kitti_linear1_dinov2.py")))
    ids = {found(sha).id for sha in (shorter, kitti)}
    assert len(ids) == 2
    assert all(one.startswith(f"{template.protocol.id}.mod-") for one in ids)


@pytest.mark.parametrize(
    "path", [p for p in CONFIGS if p.stem.endswith("_eval")], ids=lambda p: p.stem
)
def test_a_released_head_is_scored_under_the_plain_id(path):
    """Its training is not known; what is scored, and how, is that of the protocol beside it."""
    template, trained = load_template(path), load_template(str(path).replace("_eval", ""))
    facts = SimpleNamespace(
        amp=False, world_size=1, total_batch=None, start_from=None, protocol_sha256=None
    )
    assert protocol_of(str(path), template, facts, None).id == f"{trained.protocol.id}-eval"
    assert template.test_dataloader == trained.test_dataloader
    assert template.model == trained.model
