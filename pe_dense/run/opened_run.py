"""Opening a run as the tools do: by its checkpoint, by a config and a checkpoint, or by a config.

The options of the training come from the checkpoint in every case; those that are typed go on top.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.logging import print_log

from pe_dense.encoders.conversion import trained_canvas
from pe_dense.encoders.weights import WeightsInfo
from pe_dense.files import file_sha256
from pe_dense.results.provenance import code_state
from pe_dense.run.changed_settings import (
    in_words,
    require_no_training,
    require_same_training,
    shapes_model,
)
from pe_dense.run.checkpoint import RunFacts, checkpoint_file, load_checkpoint_safely
from pe_dense.run.config import load_template, overridden, read_config, resolved
from pe_dense.run.config_files import CONFIGS
from pe_dense.run.launch import is_first_process
from pe_dense.run.layers_option import require_chosen
from pe_dense.run.protocol import followed_sha256, protocol_sha256, require_known_training
from pe_dense.run.protocol_facts import stated_protocol
from pe_dense.run.recipe import Recipe, TypedOptions, with_accepted
from pe_dense.run.request import NEEDED, RunRequest
from pe_dense.run.saved_run import (
    facts_in,
    found_again,
    open_saved,
    recipe_of,
    stored_template,
    with_found_root,
)
from pe_dense.run.stored_rules import of_project, require_harmless_options, require_trusted
from pe_dense.run.tracked_detector import open_tracker, takes_any_detector
from pe_dense.run.trained_run import TrainedRun, use_plain_weights

# Endings of files that a tool takes for a config where a checkpoint may stand.
CONFIG_FILES = (".py", ".json", ".yaml", ".yml")


def config_and_checkpoint(words: Sequence[str]) -> tuple[str, Path | None]:
    """What `[CONFIG] [CHECKPOINT]` at the command line names; '' for no config.

    Raises:
        ValueError: If the words are more than two.

    Example:
        >>> config_and_checkpoint(["work_dirs/a/epoch_3.pth"])[0]
        ''
        >>> config_and_checkpoint(["configs/detection/a.py"])
        ('configs/detection/a.py', None)
    """
    if len(words) > 2:
        raise ValueError(
            f"{' '.join(words)}: give a config and a checkpoint at most; options begin with --"
        )
    if len(words) == 2:
        return words[0], Path(words[1])
    path = Path(words[0]).expanduser()
    is_config = path.suffix in CONFIG_FILES or path.parts[:1] == CONFIGS.parts
    return (words[0], None) if is_config and not path.is_dir() else ("", path)


def open_run(
    request: RunRequest, checkpoint: Path | None = None, with_data: bool = True
) -> TrainedRun:
    """Read a checkpoint and the config that it is to be used with.

    Args:
        request: Config, or '' for the checkpoint's own; encoder and overrides; without a checkpoint
            also weights, seed and amp.
        checkpoint: A checkpoint file, or a work dir whose newest one is meant. None for a config
            that trains nothing (`training_free = True`).
        with_data: Whether the data will be read: they have to be where the options say, and what
            the config finds in them is found again. A checkpoint of an earlier version always asks.

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
    if takes_any_detector(request.config):
        return open_tracker(request, file)
    if not request.config:
        run = open_saved(file, request.options, request.accept, with_data=with_data)
        _require_encoder(run.facts, request.encoder or run.facts.encoder, file)
    else:
        run = _open_with_config(request, file, with_data)
    _require_fit(run.facts, run.cfg, file)
    if not run.template.get("evaluation_only"):
        _tell_changes(run)
    return run


def _open_with_config(request: RunRequest, file: Path, with_data: bool) -> TrainedRun:
    """The run of a checkpoint that is used with a config that a person names."""
    content = load_checkpoint_safely(str(file), map_location="cpu")
    if content.get("meta", {}).get("pe_dense") is None:
        facts = _published_facts(request, file, content["state_dict"])
    else:
        facts = facts_in(content, file)
    encoder = request.encoder or facts.encoder
    trained = None
    if facts.recipe is None:  # options of the training are typed again
        cfg, template = dataclasses.replace(request, encoder=encoder, weights="random").load()
        require_chosen(template, {}, file)
    else:
        recipe = recipe_of(facts, file)
        template, trained = _with_stored(request, encoder, recipe, facts, file)
        data: Mapping[str, Any] = recipe.data
        if with_data:
            template = with_found_root(template, recipe, file)
            data = found_again(template, recipe, request.config)
        require_chosen(template, data, file)
        cfg = resolved(template, request.config, data)
        require_needed(cfg, request.config)
    if cfg.get("training_free"):
        raise ValueError(
            f"config {request.config} trains nothing and takes no checkpoint; leave {file} out"
        )
    _require_encoder(facts, cfg.encoder, file)
    use_plain_weights(cfg)
    return TrainedRun(file, content, facts, cfg, template, request.config, trained)


def _with_stored(
    request: RunRequest, encoder: str, recipe: Recipe, facts: RunFacts, file: Path
) -> tuple[Config, Config | None]:
    """A config with the options of the training and those that are typed; and the training's own.

    Raises:
        ValueError: If the config would train otherwise.
    """
    written = read_config(request.config)
    only_scores = bool(written.get("evaluation_only"))
    stored = recipe.typed_options()
    if only_scores:  # it has settings of its own; the data and what shapes the model are the run's
        kept = {key: value for key, value in stored.items() if _goes_over(key, written)}
        stored = TypedOptions(kept, stored.texts)
    trusted = of_project().and_of(written)
    require_harmless_options(stored, file, trusted)
    try:
        now = overridden(written, request.config, encoder, "random", stored)
    except ValueError as error:
        raise ValueError(
            f"checkpoint {file} was trained with options that do not fit {request.config} "
            f"({error}); leave the config out, which the checkpoint knows"
        ) from error
    require_trusted(now, file, trusted)
    with_accepted(now, recipe.accept)
    trained = None
    if not (only_scores or now.get("training_free")):
        trained = stored_template(recipe, facts, file, None)
        if followed_sha256(now, facts) != facts.protocol_sha256:
            require_same_training(trained, now, file, request.config)
    typed = overridden(now, request.config, options=request.options)
    with_accepted(typed, request.accept)
    if trained is not None and request.options:
        require_no_training(now, typed, file)
    return typed, trained


def _goes_over(key: str, written: Config) -> bool:
    """Whether a config that only scores takes an option of the training."""
    return key.split(".")[0] in written and (key == "data_root" or shapes_model(key, written))


def require_needed(cfg: Config, config: str) -> None:
    """Raises ValueError if a config lacks what every run needs, or has half a protocol."""
    for name in NEEDED:
        if name not in cfg:
            raise ValueError(
                f"config {config} has no {name!r}, which every run needs; start from one of "
                "configs/"
            )
    stated_protocol(cfg, config)


def _tell_changes(run: TrainedRun) -> None:
    """Say on one line what differs from the training; refuse it where the options are not known."""
    if followed_sha256(run.template, run.facts) == run.facts.protocol_sha256:
        return
    require_known_training(run.facts, run.file, run.trained is not None)
    if is_first_process():
        print_log(
            f"not as trained: {in_words(run.trained, run.template)}; the protocol's id ends in "
            ".mod",
            level=logging.WARNING,
        )


def _require_fit(facts: RunFacts, cfg: Config, file: Path) -> None:
    """Refuse a config of another canvas or list of classes than was trained."""
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


def _require_encoder(facts: RunFacts, encoder: str, file: Path) -> None:
    if encoder != facts.encoder:
        raise ValueError(
            f"checkpoint {file} holds {facts.encoder}, not {encoder}; leave --encoder out"
        )


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
    facts = facts_of_no_training(
        cfg.encoder, None, digest, seed=cfg.randomness.seed, amp=request.amp
    )
    return TrainedRun(None, None, facts, cfg, template, request.config)


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
    facts = facts_of_no_training(
        request.encoder or cfg.encoder, weights, None, seed=cfg.randomness.seed
    )
    return dataclasses.replace(facts, canvas=trained_canvas(state))


def facts_of_no_training(
    encoder: str, weights: WeightsInfo | None, protocol: str | None, seed: int, amp: bool = False
) -> RunFacts:
    """What stands in for the facts of training where nothing was trained here."""
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
