"""One training run: a resolved config through one MMEngine Runner."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.logging import print_log
from mmengine.runner import Runner

from pe_dense.files import file_sha256
from pe_dense.results.provenance import git_state, repository_root
from pe_dense.run.checkpoint import (
    install,
    load_checkpoint_safely,
    newest_checkpoint,
    remove_unfinished,
)
from pe_dense.run.config import check_data, load_config
from pe_dense.run.launch import (
    command_with_launcher,
    processes,
    require_gpu_for_float16,
    use_device,
)
from pe_dense.run.protocol import (
    data_of,
    protocol_sha256,
)
from pe_dense.run.resume import require_same_run
from pe_dense.run.sharding import ShardedRunner, sharding_of, use_host_memory


def train(
    config: str,
    encoder: str | None = None,
    weights: str | None = None,
    options: Mapping[str, Any] | None = None,
    work_dir: Path | None = None,
    launcher: str = "none",
    resume: bool = False,
    amp: bool = False,
    seed: int | None = None,
    argv: Sequence[str] = ("tools/train.py",),
) -> Runner:
    """Train as `tools/train.py` does.

    Args:
        config: Config file.
        encoder: Replaces the config's encoder.
        weights: Replaces the config's encoder weights.
        options: Overrides of config values.
        work_dir: Where checkpoints go; see `default_work_dir`.
        launcher: 'none', 'pytorch' or 'slurm'.
        resume: Go on from the newest checkpoint of `work_dir`, if it has one.
        amp: Run the encoder in bfloat16.
        seed: Replaces the config's seed.
        argv: Command line, for the record.

    Raises:
        ValueError: If anything that the user gave is wrong, before training where possible.
    """
    install()
    cfg, template = load_config(config, encoder, weights, options)
    if cfg.get("evaluation_only"):
        raise ValueError(f"config {config} only evaluates; score a checkpoint with tools/test.py")
    if cfg.get("training_free"):
        raise ValueError(
            f"config {config} trains nothing; score an encoder with tools/test.py {config} "
            "--encoder NAME"
        )
    world_size = processes(launcher)
    if seed is not None:
        cfg.randomness.seed = seed
    if amp:
        cfg.model.backbone.amp_dtype = "bfloat16"
    cfg.work_dir = str(work_dir or default_work_dir(config, encoder, weights, seed))
    cfg.launcher = launcher
    sharding = sharding_of(cfg, launcher)
    start_from, cfg.load_from = cfg.get("load_from"), None
    facts = {
        "encoder": cfg.encoder,
        "requested_weights": cfg.weights,
        "protocol_sha256": protocol_sha256(template, amp, world_size, start_from),
        "seed": cfg.randomness.seed,
        "amp": amp,
        "world_size": world_size,
        "start_from": None,
        "canvas": cfg.get("canvas"),
        **data_of(cfg),
    }
    if start_from:
        load_checkpoint_safely(start_from, map_location="cpu")  # whatever is wrong shows now
        name, sha256 = Path(start_from).name, file_sha256(Path(start_from))
        facts["start_from"] = {"source": name, "sha256": sha256}
    newest = newest_checkpoint(cfg.work_dir)
    stored = {}
    if newest is not None:
        if not resume:
            raise ValueError(
                f"{cfg.work_dir} already holds a run; add --resume to continue it, or name "
                "another --work-dir"
            )
        cfg.resume, cfg.load_from = True, str(newest)
        stored = require_same_run(newest, facts)
    require_gpu_for_float16(cfg, config)
    intended = cfg.get("processes", 1)
    if world_size != intended:
        print_log(
            f"{config} is a recipe for {intended} processes and runs on {world_size}, with another "
            "total batch: its protocol id will end in .mod",
            level=logging.WARNING,
        )
    check_data(cfg, ("train", "val"))
    facts["train_command"] = command_with_launcher(argv, launcher, world_size)
    facts["commit"], facts["dirty"] = git_state(repository_root())
    hooks = [hook for hook in cfg.custom_hooks if hook.type == "ExactResumeHook"]
    if not hooks:
        raise ValueError(
            f"config {config} has no ExactResumeHook in custom_hooks, which resuming and records "
            "need; start from configs/_base_/runtime.py"
        )
    hooks[0].facts = {**facts, **stored}
    hooks[0].start_from = start_from if newest is None else None
    hooks[0].start_without = cfg.get("start_without", [])
    use_device(cfg)
    if sharding is not None and sharding.cpu_offload:
        use_host_memory(cfg)
    if int(os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0"))) == 0:
        remove_unfinished(cfg.work_dir)
    runner = (Runner if sharding is None else ShardedRunner).from_cfg(cfg)
    if sharding is None and cfg.get("sharding") is not None:
        runner.logger.info(
            "sharding: one process without a launcher holds the whole model; to shard it, start "
            "with torchrun --nproc-per-node N ... --launcher pytorch"
        )
    runner.train()
    return runner


def default_work_dir(
    config: str, encoder: str | None, weights: str | None, seed: int | None
) -> Path:
    """work_dirs/<config>[-<encoder>][-<weights>][-seed<n>]: variants of a recipe stay apart."""
    name = Path(config).stem
    for part in (encoder, Path(weights).name if weights else None):
        if part is not None:
            name += "-" + part.replace(":", "+").replace("/", "=")
    if seed is not None:
        name += f"-seed{seed}"
    return Path("work_dirs") / name
