"""One training run: a resolved config through one MMEngine Runner."""

from __future__ import annotations

import importlib
import logging
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.runner import Runner

from pe_dense.experiment import load_config, protocol_settings
from pe_dense.results.provenance import command_line, config_sha256, file_sha256, git_state
from pe_dense.runtime import load_checkpoint_safely, newest_checkpoint, remove_unfinished
from pe_dense.sharding import ShardedRunner, sharding_of, use_host_memory


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


def protocol_sha256(
    template: Config,
    amp: bool = False,
    world_size: int | None = None,
    start_from: str | None = None,
) -> str:
    """Hash of everything that was done, apart from encoder, weights, paths and seed.

    What differs from one process, float32 and no fine-tuning start enters the hash.

    Args:
        template: Config with references in place.
        amp: Whether the encoder ran in bfloat16.
        world_size: Number of processes in training; None: `processes` of the config, or 1.
        start_from: Checkpoint that was fine-tuned.
    """
    extra: dict[str, Any] = {}
    if world_size is None:
        world_size = template.get("processes", 1)
    if amp:
        extra["amp"] = True
    if world_size > 1:  # batch_size is that of one process
        extra["world_size"] = world_size
    if start_from:
        extra["start_from"] = file_sha256(Path(start_from))
    settings = protocol_settings(template)
    return config_sha256({**settings, "run": extra} if extra else settings)


def processes(launcher: str) -> int:
    """Number of processes of this run.

    Raises:
        ValueError: If the launcher's environment is missing.
    """
    names = {"none": None, "pytorch": "WORLD_SIZE", "slurm": "SLURM_NTASKS"}
    name = names[launcher]
    if name is None:
        return 1
    if name not in os.environ:
        start = {"pytorch": "torchrun --nproc-per-node N", "slurm": "srun"}[launcher]
        raise ValueError(
            f"--launcher {launcher} needs {name} in the environment; start with: {start} "
            f"... --launcher {launcher}"
        )
    return int(os.environ[name])


def command_with_launcher(argv: Sequence[str], launcher: str, world_size: int) -> str:
    """The command line, with torchrun or srun in front where it was used."""
    command = command_line(list(argv))
    start = {
        "none": "",
        "pytorch": f"torchrun --nproc-per-node {os.environ.get('LOCAL_WORLD_SIZE', world_size)} ",
        "slurm": f"srun --ntasks {world_size} ",
    }[launcher]
    return start + (command.removeprefix("python ") if launcher == "pytorch" else command)


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


def require_same_run(checkpoint: Path, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Refuse to continue a run under other settings than it was begun with.

    Returns:
        What the run said of itself when it began: command, commit, and encoder weights.

    Raises:
        ValueError: If a setting differs; the message has the original command.
    """
    content = load_checkpoint_safely(str(checkpoint), map_location="cpu")
    stored = content.get("meta", {}).get("pe_dense", {})
    other = [name for name, value in facts.items() if stored.get(name) != value]
    if other:
        command = stored.get("train_command", "another program")
        raise ValueError(
            f"{checkpoint.parent} holds a run with other settings ({', '.join(other)}), begun by: "
            f"{command}; give the same command with --resume, or another --work-dir"
        )
    return {name: stored[name] for name in ("train_command", "commit", "dirty", "weights")}


def data_of(cfg: Config) -> dict[str, Any]:
    """What a config does not say itself but found in the data: classes, and hashes of own files."""
    own = (cfg.get("protocol") or {}).get("own_annotations")
    return {
        "classes": list(cfg.classes) if "data_facts" in cfg and "classes" in cfg else None,
        "own_annotations": None if own is None else dict(own),
    }


def check_data(cfg: Config, splits: Sequence[str]) -> None:
    """Run the check that the config names, 'package.module:function', on the given splits.

    What it returns, a table of what the data hold, is printed by the first process.
    """
    if "data_check" in cfg:
        module, function = cfg.data_check.split(":")
        table = getattr(importlib.import_module(module), function)(cfg, splits)
        if table and int(os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0"))) == 0:
            print_log(table)


def require_gpu_for_float16(cfg: Config, config: str | Path) -> None:
    """Refuse MMEngine's float16 training where there is no GPU.

    Raises:
        ValueError: If the optimiser scales float16 gradients and there is no GPU.
    """
    if cfg.optim_wrapper.type == "AmpOptimWrapper" and not torch.cuda.is_available():
        raise ValueError(
            f"config {config} trains in float16, which needs a GPU, and there is none; train on "
            "one, or inherit from the config and set optim_wrapper.type='OptimWrapper' without "
            "its dtype for float32"
        )


def use_device(cfg: Config) -> None:
    """Choose the communication backend; without a GPU, join the process group here.

    MMEngine's own set-up of processes and of the model wrapper asks for a GPU.
    """
    cuda = torch.cuda.is_available()
    cfg.env_cfg.dist_cfg.backend = "nccl" if cuda else "gloo"
    if cuda or cfg.launcher == "none":
        return
    if "model_wrapper_cfg" not in cfg:  # MMEngine's default wrapper names a GPU
        cfg.model_wrapper_cfg = dict(
            type="MMDistributedDataParallel",
            device_ids=None,
            broadcast_buffers=False,
            find_unused_parameters=cfg.get("find_unused_parameters", False),
        )
    environment = os.environ
    if cfg.launcher == "slurm":
        nodes = environment["SLURM_NODELIST"]
        command = ["scontrol", "show", "hostname", nodes]
        hosts = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        environment.setdefault("MASTER_ADDR", hosts.split()[0])
        environment.setdefault("MASTER_PORT", "29500")
        environment["RANK"] = environment["SLURM_PROCID"]
        environment["WORLD_SIZE"] = environment["SLURM_NTASKS"]
        environment["LOCAL_RANK"] = environment["SLURM_LOCALID"]
    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group("gloo")


def repository_root() -> Path:
    """Folder of the checkout that this package runs from."""
    return Path(__file__).resolve().parents[1]
