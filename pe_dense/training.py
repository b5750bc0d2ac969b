"""One training run: a resolved config through one MMEngine Runner."""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.runner import Runner

from pe_dense.experiment import load_config, protocol_settings
from pe_dense.results.provenance import command_line, config_sha256
from pe_dense.runtime import load_checkpoint_safely, newest_checkpoint, remove_unfinished


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
        work_dir: Where checkpoints go; by default work_dirs/<config>[-<encoder>][-seed<n>].
        launcher: 'none', 'pytorch' or 'slurm'.
        resume: Go on from the newest checkpoint of `work_dir`, if it has one.
        amp: Run the encoder in bfloat16.
        seed: Replaces the config's seed.
        argv: Command line, for the record.

    Raises:
        ValueError: If anything that the user gave is wrong, before training where possible.
    """
    cfg, template = load_config(config, encoder, weights, options)
    if seed is not None:
        cfg.randomness.seed = seed
    if amp:
        cfg.model.backbone.amp_dtype = "bfloat16"
    cfg.work_dir = str(work_dir or default_work_dir(config, encoder, seed))
    cfg.launcher = launcher
    start_from, cfg.load_from = cfg.get("load_from"), None
    newest = newest_checkpoint(cfg.work_dir)
    if newest is not None:
        if not resume:
            raise ValueError(
                f"{cfg.work_dir} already holds a run; add --resume to continue it, or name "
                "another --work-dir"
            )
        cfg.resume, cfg.load_from = True, str(newest)
    protocol_sha256 = config_sha256(protocol_settings(template))
    if newest is not None:
        require_same_run(newest, cfg.encoder, protocol_sha256)
    check_data(cfg, ("train", "val"))
    facts = {
        "encoder": cfg.encoder,
        "protocol_sha256": protocol_sha256,
        "train_command": command_line(list(argv)),
        "seed": cfg.randomness.seed,
        "amp": amp,
    }
    for hook in cfg.custom_hooks:
        if hook.type == "ExactResumeHook":
            hook.facts = facts
            hook.start_from = start_from if newest is None else None
    use_device(cfg)
    if int(os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0"))) == 0:
        remove_unfinished(cfg.work_dir)
    runner = Runner.from_cfg(cfg)
    runner.train()
    return runner


def default_work_dir(config: str, encoder: str | None, seed: int | None) -> Path:
    """work_dirs/<config>[-<encoder>][-seed<n>], so that variants of a recipe stay apart."""
    name = Path(config).stem
    if encoder is not None:
        name += "-" + encoder.replace(":", "+").replace("/", "=")
    if seed is not None:
        name += f"-seed{seed}"
    return Path("work_dirs") / name


def require_same_run(checkpoint: Path, encoder: str, protocol_sha256: str) -> None:
    """Refuse to continue a run under other settings than it was begun with.

    Raises:
        ValueError: If encoder or settings differ; the message has the original command.
    """
    content = load_checkpoint_safely(str(checkpoint), map_location="cpu")
    facts = content.get("meta", {}).get("pe_dense", {})
    if (facts.get("encoder"), facts.get("protocol_sha256")) != (encoder, protocol_sha256):
        command = facts.get("train_command", "another program")
        raise ValueError(
            f"{checkpoint.parent} holds a run with other settings, begun by: {command}; give the "
            "same config, --encoder and --cfg-options, or another --work-dir"
        )


def check_data(cfg: Config, splits: Sequence[str]) -> None:
    """Run the check that the config names, 'package.module:function', on the given splits."""
    if "data_check" in cfg:
        module, function = cfg.data_check.split(":")
        getattr(importlib.import_module(module), function)(cfg, splits)


def use_device(cfg: Config) -> None:
    """Choose the communication backend by what the machine has."""
    cfg.env_cfg.dist_cfg.backend = "nccl" if torch.cuda.is_available() else "gloo"
