"""One training run: a resolved config through one MMEngine Runner."""

from __future__ import annotations

import dataclasses
import logging
import os
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.hooks import LoggerHook
from mmengine.logging import print_log
from mmengine.runner import Runner

from pe_dense.data.holdout import HoldoutSubset  # noqa: F401 (registers it)
from pe_dense.encoders.weights import WeightsInfo
from pe_dense.files import file_sha256
from pe_dense.openmmlab.backbone import DenseBackbone
from pe_dense.openmmlab.finite_outputs import RequireFiniteOutputs
from pe_dense.openmmlab.nan_stop import StopOnNaN
from pe_dense.openmmlab.tuning import in_words
from pe_dense.results.provenance import code_state
from pe_dense.run.averaged_weights import AveragedWeights  # noqa: F401 (registers it)
from pe_dense.run.batch_plan import plan_batches, recipe_total, require_schedule
from pe_dense.run.batch_script import STOP_FILE, training_script
from pe_dense.run.checkpoint import (
    RunFacts,
    install,
    load_checkpoint_safely,
    newest_checkpoint,
    remove_unfinished,
)
from pe_dense.run.checkpoint_choice import HELD_OUT, loop_of
from pe_dense.run.chosen_layers import with_chosen_layers
from pe_dense.run.config import check_data, load_template
from pe_dense.run.keep_best import KeepBest  # noqa: F401 (registers it)
from pe_dense.run.launch import (
    command_with_launcher,
    is_first_process,
    processes,
    require_gpu_for_float16,
    use_device,
)
from pe_dense.run.protocol import found_in_data, protocol_sha256
from pe_dense.run.request import RunRequest
from pe_dense.run.resume import ExactResumeHook, continued
from pe_dense.run.runner import NamingRunner
from pe_dense.run.scored_data import content_of_config
from pe_dense.run.sharding import ShardedRunner, sharding_of, use_host_memory
from pe_dense.run.small_sets import fill_one_batch
from pe_dense.run.speed import use_speed_options
from pe_dense.run.speed_log import SpeedLog
from pe_dense.run.start_table import StartTable
from pe_dense.run.step_loop import StepTrainLoop  # noqa: F401 (registers it)
from pe_dense.run.stop_request import StopOnRequest
from pe_dense.run.task import tell_without_protocol
from pe_dense.run.vis_backends import use_vis_backends


def train(request: RunRequest, resume: bool = False) -> Runner:
    """Train as `tools/train.py` does.

    Args:
        request: Config and overrides.
        resume: Go on from the newest checkpoint of the work dir, if it has one.

    Raises:
        ValueError: If anything that the user gave is wrong, before training where possible.
    """
    install()
    loaded = request.load_parts()
    cfg, template = loaded.cfg, loaded.template
    require_training(cfg, request.config)
    tell_without_protocol(cfg, request.config)
    plan = plan_batches(cfg, processes(request.launcher), request.options or {}, request.config)
    require_schedule(cfg, request.config)
    loaded, was_told = with_chosen_layers(request, loaded, resume, splits_read(cfg))
    cfg = loaded.cfg
    if plan is not None:
        plan.apply(cfg)
    use_vis_backends(cfg)
    if request.amp:
        cfg.model.backbone.amp_dtype = "bfloat16"
    cfg.work_dir = str(request.work_dir or request.default_work_dir())
    cfg.launcher = request.launcher
    sharding = sharding_of(cfg, request.launcher)
    start_from, cfg.load_from = cfg.get("load_from"), None
    start_from = None if start_from is None else str(start_from)
    total_batch = None if plan is None else plan.total_batch
    facts = facts_of(request, cfg, template, start_from, total_batch)
    facts = dataclasses.replace(facts, recipe=request.recipe(loaded).to_meta())
    newest, opened = newest_checkpoint(cfg.work_dir), None
    if newest is not None:
        if not resume:
            raise ValueError(
                f"{cfg.work_dir} already holds a run; add --resume to continue it, or name "
                "another --work-dir"
            )
        cfg.resume, cfg.load_from = True, str(newest)
        opened = load_checkpoint_safely(str(newest), "cpu", mapped=True)
        facts = continued(newest, opened, facts)
    require_gpu_for_float16(cfg, request.config)
    if plan is not None and is_first_process():
        other = ", another total batch than the recipe's: its protocol id will end in .mod"
        recipe = recipe_total(load_template(request.config))  # None: follows from the data
        if recipe is not None and plan.total_batch != recipe:
            print_log(plan.words() + other, level=logging.WARNING)
    facts = dataclasses.replace(facts, accepted=check_data(cfg, splits_read(cfg), not was_told))
    facts = dataclasses.replace(facts, validated_on=validation_data(cfg, facts))
    hooks = [hook for hook in cfg.custom_hooks if hook.type == "ExactResumeHook"]
    if not hooks:
        raise ValueError(
            f"config {request.config} has no ExactResumeHook in custom_hooks, which resuming and "
            "records need; start from configs/_base_/runtime.py"
        )
    hooks[0].facts = None  # given below, since the Runner prints its config
    hooks[0].start_from = start_from if newest is None else None
    hooks[0].start_without = cfg.get("start_without", [])
    use_device(cfg)
    if sharding is not None and sharding.cpu_offload:
        use_host_memory(cfg)
    if is_first_process():
        remove_unfinished(cfg.work_dir)
    runner = (NamingRunner if sharding is None else ShardedRunner).from_cfg(cfg)
    next(hook for hook in runner.hooks if isinstance(hook, ExactResumeHook)).facts = facts
    runner.opened = opened
    del opened  # so that it goes when the runner has taken it over
    use_speed_options(request.speed, runner.model)
    tell_tuning(runner)
    log_validations_by_steps(runner)
    fill_one_batch(runner)
    if not any(isinstance(hook, StopOnNaN) for hook in runner.hooks):
        runner.register_hook(StopOnNaN())
    runner.register_hook(RequireFiniteOutputs())
    speed = SpeedLog()
    for hook in (speed, speed.clock, StartTable(cfg, facts.start_from, plan)):
        runner.register_hook(hook)
    if STOP_FILE in os.environ:
        runner.register_hook(StopOnRequest(os.environ[STOP_FILE]))
    if sharding is None and cfg.get("sharding") is not None:
        runner.logger.info(
            "sharding: one process without a launcher holds the whole model; to shard it, start "
            "with torchrun --nproc-per-node N ... --launcher pytorch"
        )
    try:
        runner.train()
    finally:
        speed.end_count()
    return runner


def log_validations_by_steps(runner: Runner) -> None:
    """Where a training counts steps, so do its validations.

    MMEngine's LoggerHook counts them by epochs unless told otherwise, and a loop of steps is in
    epoch 0 from its first step to its last: all validations would lie on one another.
    """
    if (runner.cfg.train_cfg or {}).get("max_epochs") is None:
        for hook in runner.hooks:
            if isinstance(hook, LoggerHook):
                hook.log_metric_by_epoch = False


def tell_tuning(runner: Runner) -> None:
    """Say how much of the encoder is trained, and how many parameters that are."""
    backbone = getattr(getattr(runner.model, "module", runner.model), "backbone", None)
    if not isinstance(backbone, DenseBackbone):  # that of a tracker belongs to its detector
        backbone = next((m for m in runner.model.modules() if isinstance(m, DenseBackbone)), None)
    if backbone is not None:
        runner.logger.info(in_words(runner.model, backbone))


def batch_script(request: RunRequest, nodes: int, gpus: int) -> str:
    """The script of `tools/train.py ... --print-sbatch NODES GPUS`; see `training_script`.

    Raises:
        ValueError: If so many processes cannot train this config.
    """
    cfg, template = request.load()
    require_training(cfg, request.config)
    if nodes >= 1 and gpus >= 1:
        plan_batches(template, nodes * gpus, request.options or {}, request.config)
    require_schedule(cfg, request.config)
    words, own = [], iter(request.argv)
    for word in own:
        if word == "--print-sbatch":
            next(own), next(own)
        elif word == "--launcher":
            next(own)
        elif not word.startswith("--launcher="):
            words.append(word)
    workers = (cfg.get("train_dataloader") or {}).get("num_workers", 0)
    work_dir = request.work_dir or request.default_work_dir()
    return training_script(words, nodes, gpus, work_dir, workers)


def splits_read(cfg: Config) -> tuple[str, ...]:
    """Loaders whose data are checked before a training.

    A person's own data are looked through as a whole: where a part of the training images is
    validated on, those that will be scored are checked, too.
    """
    own = loop_of(cfg) is not None and "own_annotations" in (cfg.get("protocol") or {})
    held = own and (loop_of(cfg) or {}).get("validates_on") == HELD_OUT
    return ("train", "val", "test") if held else ("train", "val")


def validation_data(cfg: Config, facts: RunFacts) -> str | None:
    """Hash of the labels and pictures that a run validates on.

    The first process finds it, for the checkpoints that it writes; all do where they form a group
    already, since data sets are read together then.

    Raises:
        ValueError: If it goes on with others than it began with.
    """
    if not (is_first_process() or torch.distributed.is_initialized()):
        return facts.validated_on
    content = content_of_config(cfg, "val")
    found = None if content is None else content.sha256
    if None not in (found, facts.validated_on) and found != facts.validated_on:
        raise ValueError(
            f"{cfg.work_dir} holds a run that validated on other labels or pictures "
            f"({facts.validated_on[:12]}...) than are there now ({found[:12]}...); restore the "
            "data, or train in another --work-dir"
        )
    return found or facts.validated_on


def require_training(cfg: Config, config: str) -> None:
    """Refuse a config that only evaluates, or trains nothing.

    Raises:
        ValueError: With the command that it is for.
    """
    if cfg.get("evaluation_only"):
        raise ValueError(
            f"config {config} only evaluates; score a checkpoint with python tools/test.py "
            f"{config} CHECKPOINT"
        )
    if cfg.get("training_free"):
        raise ValueError(
            f"config {config} trains nothing; score an encoder with python tools/test.py {config} "
            "--encoder NAME"
        )


def facts_of(
    request: RunRequest,
    cfg: Config,
    template: Config,
    start_from: str | None,
    total_batch: int | None,
) -> RunFacts:
    """What the checkpoints of a run that begins now shall know of it.

    Args:
        request: As it was asked for.
        cfg: Resolved config.
        template: The same with references in place.
        start_from: Checkpoint that is fine-tuned.
        total_batch: Images of a step.

    Raises:
        ValueError: If the checkpoint that it starts from cannot be read.
    """
    world_size = processes(request.launcher)
    start = None
    if start_from:
        load_checkpoint_safely(start_from, "cpu", mapped=True)  # whatever is wrong shows now
        start = WeightsInfo(Path(start_from).name, file_sha256(start_from))
    commit, dirty = code_state()
    return RunFacts(
        encoder=cfg.encoder,
        weights=None,  # known when the encoder is built
        requested_weights=cfg.weights,
        protocol_sha256=protocol_sha256(
            template, request.amp, total_batch, None if start is None else start.sha256
        ),
        seed=cfg.randomness.seed,
        amp=request.amp,
        world_size=world_size,
        start_from=start,
        canvas=cfg.get("canvas"),
        train_command=command_with_launcher(request.argv, request.launcher, world_size),
        train_seconds=None,
        commit=commit,
        dirty=dirty,
        speed=list(request.speed),
        loop=loop_of(cfg),
        total_batch=total_batch,
        **found_in_data(cfg),
    )
