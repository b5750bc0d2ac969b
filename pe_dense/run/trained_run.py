"""A checkpoint with the config that fits it, or what stands in for one where nothing is trained."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner

from pe_dense.encoders.weights import WeightsInfo
from pe_dense.openmmlab.devices import device_of_machine
from pe_dense.run.checkpoint import RunFacts, load_strictly
from pe_dense.run.stored_rules import refused_if_malformed


@dataclass(frozen=True)
class TrainedRun:
    """A checkpoint with the config that fits it.

    Attributes:
        file: The checkpoint; None where nothing was trained.
        content: What it holds, or None.
        facts: What training, or the publisher's file, says of it.
        cfg: Resolved config.
        template: The same with references in place.
        config: How the config is called.
        trained: The template of the training; None where it is not known.
        own_sha256: Hash of the protocol of the config without options; None: that of its file.
    """

    file: Path | None
    content: dict[str, Any] | None
    facts: RunFacts
    cfg: Config
    template: Config
    config: str
    trained: Config | None = None
    own_sha256: str | None = None

    def with_weights(self, weights: WeightsInfo) -> TrainedRun:
        """The same with the weights of an encoder that has been built by now."""
        return dataclasses.replace(self, facts=dataclasses.replace(self.facts, weights=weights))

    def building(self) -> contextlib.AbstractContextManager[None]:
        """For what builds from the config: one of a checkpoint may be no config at all."""
        is_stored = self.own_sha256 is not None
        return refused_if_malformed(self.file) if is_stored else contextlib.nullcontext()


def use_plain_weights(cfg: Config) -> None:
    """Build a model whose LoRA updates were trained without them: its checkpoint is merged.

    In place; for models that do not train.
    """
    if not {"backbone", "detector"} & cfg.model.keys():
        return
    backbone = encoder_settings(cfg)
    if str(backbone.get("tune")).startswith("lora"):
        backbone.tune = "full"


def trained_model(run: TrainedRun) -> torch.nn.Module:
    """The model of a run with its weights, ready to predict, on the GPU if there is one.

    Without a checkpoint they are those of the encoder, drawn with the seed of the config where it
    has none.

    Raises:
        ValueError: If the checkpoint does not fit the model.
    """
    init_default_scope(run.cfg.get("default_scope", "mmengine"))
    if run.facts.amp:
        encoder_settings(run.cfg).amp_dtype = "bfloat16"
    with run.building(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(run.facts.seed)
        model = MODELS.build(copy.deepcopy(run.cfg.model))
    if run.content is not None:
        load_strictly(model, run.content, str(run.file))
    return model.to(device_of_machine()).eval()


def encoder_settings(cfg: Config) -> Any:
    """Settings of the backbone; that of a tracker belongs to its detector."""
    return (cfg.model if "backbone" in cfg.model else cfg.model.detector).backbone


def bare_model(runner: Runner) -> torch.nn.Module:
    """The model without what wraps it for several processes or test-time augmentation."""
    model = runner.model.module if is_model_wrapper(runner.model) else runner.model
    return model.module if isinstance(model, BaseTTAModel) else model
