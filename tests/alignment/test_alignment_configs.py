"""The recipes: published numbers, any number of processes, parts that exist, models that build."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("mmengine")

from mmengine.registry import MODELS, OPTIMIZERS
from mmengine.utils import import_modules_from_strings

from pe_dense.alignment.eval_hook import imported
from pe_dense.run.batch_plan import plan_batches, require_schedule
from pe_dense.run.config import load_config
from pe_dense.run.protocol import protocol_sha256

FOLDER = Path(__file__).resolve().parents[2] / "configs" / "alignment"
CONFIGS = sorted(FOLDER.glob("spatial_*.py"))
named = pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)


def test_there_are_recipes() -> None:
    assert len(CONFIGS) == 8


def test_g_is_as_published() -> None:
    cfg, _ = load_config(FOLDER / "spatial_align_g14_448.py")
    assert (cfg.total_batch, cfg.train_cfg.max_iters) == (12_288, 24_000)
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
@pytest.mark.parametrize("processes", [1, 2, 4, 8])
def test_any_usual_number_of_processes_has_the_total_batch(path: Path, processes: int) -> None:
    cfg, _ = load_config(path)
    require_schedule(cfg, path)
    for probe in cfg.custom_hooks[-1].probes:
        imported(probe.function)
    if cfg.total_batch % (processes * cfg.batch_size):
        assert path.stem == "spatial_align_t16_mini"  # 16 images
        return
    plan = plan_batches(cfg, processes, (), path)
    assert plan.batch_size * plan.processes * plan.accumulation == cfg.total_batch
    plan.apply(cfg)
    assert cfg.train_cfg.accumulation == plan.accumulation


@pytest.mark.parametrize(("processes", "accumulation"), [(8, 64), (64, 8), (512, 1)])
def test_g_runs_on_8_gpus_without_any_option(processes: int, accumulation: int) -> None:
    path = FOLDER / "spatial_align_g14_448.py"
    cfg, template = load_config(path)
    plan = plan_batches(cfg, processes, (), path)
    assert (plan.total_batch, plan.accumulation) == (12_288, accumulation)
    other = load_config(path, options={"batch_size": 12})[1]
    assert protocol_sha256(other) == protocol_sha256(template)


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
