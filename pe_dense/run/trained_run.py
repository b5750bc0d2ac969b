"""A checkpoint with the config that fits it, or what stands in for one where nothing is trained."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner

from pe_dense.encoders.conversion import trained_canvas
from pe_dense.encoders.weights import WeightsInfo
from pe_dense.files import file_sha256
from pe_dense.openmmlab.devices import device_of_machine
from pe_dense.results.provenance import code_state
from pe_dense.run.checkpoint import (
    RunFacts,
    checkpoint_file,
    load_checkpoint_safely,
    load_strictly,
)
from pe_dense.run.config import load_template
from pe_dense.run.protocol import protocol_sha256
from pe_dense.run.request import RunRequest


@dataclass(frozen=True)
class TrainedRun:
    """A checkpoint with the config that fits it.

    Attributes:
        file: The checkpoint; None where nothing was trained.
        content: What it holds, or None.
        facts: What training, or the publisher's file, says of it.
        cfg: Resolved config.
        template: The same with references in place.
    """

    file: Path | None
    content: dict[str, Any] | None
    facts: RunFacts
    cfg: Config
    template: Config

    def with_weights(self, weights: WeightsInfo) -> TrainedRun:
        """The same with the weights of an encoder that has been built by now."""
        return dataclasses.replace(self, facts=dataclasses.replace(self.facts, weights=weights))


def open_run(request: RunRequest, checkpoint: Path | None = None) -> TrainedRun:
    """Read a checkpoint and the config that it is to be used with.

    Args:
        request: Config, encoder and overrides; without a checkpoint also weights, seed and amp.
        checkpoint: A checkpoint file, or a work dir whose newest one is meant. None for a config
            that trains nothing (`training_free = True`).

    Raises:
        ValueError: If the two do not fit.
    """
    if checkpoint is None:
        return _open_untrained(request)
    if request.weights is not None or request.seed is not None or request.amp:
        raise ValueError(
            "--weights, --seed and --amp are for configs that train nothing; a checkpoint has its "
            "own"
        )
    file = checkpoint_file(checkpoint)
    content = load_checkpoint_safely(str(file), map_location="cpu")
    meta = content.get("meta", {}).get("pe_dense")
    if meta is None:
        facts = _published_facts(request, file, content["state_dict"])
    else:
        facts = RunFacts.from_meta(meta, file)
    encoder = request.encoder or facts.encoder
    cfg, template = dataclasses.replace(request, encoder=encoder, weights="random").load()
    if cfg.get("training_free"):
        raise ValueError(
            f"config {request.config} trains nothing and takes no checkpoint; leave {checkpoint} "
            "out"
        )
    _require_fit(facts, cfg, file)
    use_plain_weights(cfg)
    return TrainedRun(file, content, facts, cfg, template)


def _require_fit(facts: RunFacts, cfg: Config, file: Path) -> None:
    """Refuse a config of another encoder, canvas or list of classes than was trained."""
    if cfg.encoder != facts.encoder:
        raise ValueError(
            f"checkpoint {file} holds {facts.encoder}, not {cfg.encoder}; leave --encoder out"
        )
    if facts.canvas is not None and cfg.get("canvas") != facts.canvas:
        raise ValueError(
            f"checkpoint {file} was trained on a canvas of {facts.canvas} px, and the config has "
            f"{cfg.get('canvas')}; positions would not fit: set --cfg-options "
            f"canvas={facts.canvas}, or use a config of that canvas"
        )
    if facts.classes is not None and list(cfg.classes) != list(facts.classes):
        raise ValueError(
            f"checkpoint {file} was trained on {class_words(facts.classes)}, but the data have "
            f"{class_words(cfg.classes)}; score it on data with the same classes in the same order"
        )


def use_plain_weights(cfg: Config) -> None:
    """Build a model whose LoRA updates were trained without them: its checkpoint is merged.

    In place; for models that do not train.
    """
    if not {"backbone", "detector"} & cfg.model.keys():
        return
    backbone = encoder_settings(cfg)
    if str(backbone.get("tune")).startswith("lora"):
        backbone.tune = "full"


def class_words(classes: Sequence[str], limit: int = 8) -> str:
    """How errors name a list of classes.

    Example:
        >>> class_words(["cat", "dog"])
        '2 classes (cat, dog)'
    """
    tail = ", ..." if len(classes) > limit else ""
    return f"{len(classes)} classes ({', '.join(classes[:limit])}{tail})"


def _open_untrained(request: RunRequest) -> TrainedRun:
    """What stands in for a checkpoint under a protocol that trains nothing."""
    cfg, template = request.load()
    if not cfg.get("training_free"):
        raise ValueError(
            f"config {request.config} trains a model; name its checkpoint, which tools/train.py "
            "makes"
        )
    digest = protocol_sha256(template, request.amp)
    facts = _facts_of_no_training(
        cfg.encoder, None, digest, seed=cfg.randomness.seed, amp=request.amp
    )
    return TrainedRun(None, None, facts, cfg, template)


def _published_facts(request: RunRequest, file: Path, state: Mapping[str, Any]) -> RunFacts:
    """What stands in for the facts of training where a detector was trained elsewhere.

    Raises:
        ValueError: If the config does not only evaluate.
    """
    cfg = load_template(request.config)
    if not cfg.get("evaluation_only"):
        raise ValueError(
            f"checkpoint {file} was not written by tools/train.py; published detectors are scored "
            "with a config that only evaluates (its name ends in _eval or _tta)"
        )
    weights = WeightsInfo(file.name, file_sha256(file))
    facts = _facts_of_no_training(
        request.encoder or cfg.encoder, weights, None, seed=cfg.randomness.seed
    )
    return dataclasses.replace(facts, canvas=trained_canvas(state))


def _facts_of_no_training(
    encoder: str, weights: WeightsInfo | None, protocol: str | None, seed: int, amp: bool = False
) -> RunFacts:
    commit, dirty = code_state()
    return RunFacts(
        encoder=encoder,
        weights=weights,
        protocol_sha256=protocol,
        seed=seed,
        amp=amp,
        world_size=1,
        start_from=None,
        train_command="",
        train_seconds=None,
        commit=commit,
        dirty=dirty,
    )


def trained_model(run: TrainedRun) -> torch.nn.Module:
    """The model of a run with its weights, ready to predict, on the GPU if there is one.

    Raises:
        ValueError: If the checkpoint does not fit the model.
    """
    init_default_scope(run.cfg.get("default_scope", "mmengine"))
    if run.facts.amp:
        encoder_settings(run.cfg).amp_dtype = "bfloat16"
    model = MODELS.build(copy.deepcopy(run.cfg.model))
    load_strictly(model, run.content, str(run.file))
    return model.to(device_of_machine()).eval()


def encoder_settings(cfg: Config) -> Any:
    """Settings of the backbone; that of a tracker belongs to its detector."""
    return (cfg.model if "backbone" in cfg.model else cfg.model.detector).backbone


def bare_model(runner: Runner) -> torch.nn.Module:
    """The model without what wraps it for several processes or test-time augmentation."""
    model = runner.model.module if is_model_wrapper(runner.model) else runner.model
    return model.module if isinstance(model, BaseTTAModel) else model
