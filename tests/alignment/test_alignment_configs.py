"""The recipes: the published numbers of G, whole steps, parts that exist, and models that build."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("mmengine")

from mmengine.registry import MODELS, OPTIMIZERS
from mmengine.utils import import_modules_from_strings

from pe_dense.alignment.eval_hook import imported
from pe_dense.run.config import load_config

FOLDER = Path(__file__).resolve().parents[2] / "configs" / "alignment"
CONFIGS = sorted(FOLDER.glob("spatial_*.py"))
named = pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)


def images_per_step(cfg) -> int:
    count = cfg.optim_wrapper.accumulative_counts
    return cfg.train_dataloader.batch_size * count * cfg.get("processes", 1)


def test_there_are_recipes() -> None:
    assert len(CONFIGS) == 8


def test_g_is_as_published() -> None:
    cfg, _ = load_config(FOLDER / "spatial_align_g14_448.py")
    steps = cfg.train_cfg.max_iters // cfg.optim_wrapper.accumulative_counts
    assert (images_per_step(cfg), steps) == (12_288, 24_000)
    optimizer = cfg.optim_wrapper.optimizer
    assert (optimizer.type, optimizer.lr, optimizer.weight_decay) == ("LAMB", 5e-4, 0.05)
    assert tuple(optimizer.betas) == (0.9, 0.95)
    assert cfg.model.masking.to_dict() == {"ratio": 0.75, "block_size": 2, "token": "zero"}
    assert cfg.model.backbone.encoder_options.drop_path_rate == 0.4
    assert [t.type for t in cfg.model.teachers] == ["EncoderTeacher", "SamTeacher"]
    assert cfg.model.teachers[0].layer == 40 and cfg.model.losses[1].temperature == 20
    assert cfg.train_dataloader.dataset.pipeline[0].size == (448, 448)
    assert cfg.sharding is not None


@named
def test_checkpoints_and_probes_fall_on_whole_steps(path: Path) -> None:
    cfg, _ = load_config(path)
    count = cfg.optim_wrapper.accumulative_counts
    probes = cfg.custom_hooks[-1]
    intervals = (cfg.default_hooks.checkpoint.interval, probes.interval, cfg.train_cfg.max_iters)
    assert all(interval % count == 0 for interval in intervals)
    for probe in probes.probes:
        imported(probe.function)


@named
def test_the_student_builds_with_small_teachers(path: Path) -> None:
    cfg, _ = load_config(path, weights="random")
    import_modules_from_strings(**cfg.custom_imports)
    model = cfg.model
    for i, teacher in enumerate(model.teachers):
        model.teachers[i] = dict(
            name=teacher.name,
            type="EncoderTeacher",
            encoder="pe_core_t16_384",
            weights="random",
            layer=0,
            encoder_options=dict(depth=1),
        )
    model.backbone.encoder_options.depth = 1
    model.backbone.weights_options = {}
    aligner = MODELS.build(model)
    optimizer = dict(cfg.optim_wrapper.optimizer)
    OPTIMIZERS.get(optimizer.pop("type"))(aligner.parameters(), **optimizer)
    assert {loss["name"] for loss in aligner.facts()["losses"]} == {x.name for x in cfg.losses}
