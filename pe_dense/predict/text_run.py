"""A tower that labels pictures by names, opened without a training: what is asked for, and the run.

    run = open_text(TextRequest(encoder="pe_core_b16_224", prompts=["road", "car", "sky"]))

The config is one of segmentation by names. With prompts it needs no data: they take the place of
its classes, and everything else (windows, templates, how a patch is read) is as its test has it.
One read-out and one block are used. A test chooses them on held-out labelled images; without labels
they are what the request names, or the config if it names one, or `READOUT` and `LAYER`.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config

from pe_dense.encoders.fingerprint import state_sha256
from pe_dense.pictures.colours import class_colour
from pe_dense.run.config import facts_of_data, overridden, read_config, resolved
from pe_dense.run.opened_run import facts_of_no_training
from pe_dense.run.references import Given, references
from pe_dense.run.trained_run import TrainedRun
from pe_dense.text_dense.patch_scores import listed
from pe_dense.text_dense.prompts import require_prompts

CONFIG = "configs/segmentation/text_custom.py"
# Used where nobody chose: without residual and MLP, as ClearCLIP (arXiv:2407.12442) reads CLIP.
READOUT, LAYER = "clearclip", -1
BACKGROUND = "background"
BACKGROUND_COLOUR = (0, 0, 0)
# Names at the top of a config that an argument of the request sets.
_SET_BY = {"classes": "prompts", "background": "threshold", "thresholds": "threshold"}
# And those that are for labelled images, which choose a read-out.
_OF_DATA = ("train_dataloader", "data_facts", "data_check", "holdout_share", "holdout_group")


@dataclass(frozen=True)
class TextRequest:
    """A segmentation by names as it was asked for.

    Attributes:
        config: Config file of segmentation by names.
        encoder: Replaces the config's encoder.
        weights: Replace the config's weights, of both towers.
        prompts: Names of the classes; None: the config's, whose data may have to be there.
        readout: One of `text_dense.readouts.READOUTS`.
        layer: 0-based block, negatives allowed.
        threshold: A pixel is background where no class has this probability. With prompts it makes
            a class of its own, `BACKGROUND`, without which every pixel gets a prompt.
        options: `--cfg-options`.
    """

    config: str = CONFIG
    encoder: str | None = None
    weights: str | None = None
    prompts: Sequence[str] | None = None
    readout: str | None = None
    layer: int | None = None
    threshold: float | None = None
    options: Mapping[str, Any] | None = None


def is_of_text(template: Mapping[str, Any]) -> bool:
    """Whether a config, references in place or not, labels pixels by the names of classes."""
    return (template.get("model") or {}).get("type") == "TextSegmentor"


def open_text(request: TextRequest) -> TrainedRun:
    """The run of a request; `trained_model` builds its model.

    Raises:
        ValueError: If the config is of something else, or prompts, threshold and options do not go
            together.
    """
    written = read_config(request.config)
    if not is_of_text(written):
        raise ValueError(
            f"config {request.config} does not label pixels by names, so that it takes no prompts; "
            f"use {CONFIG}"
        )
    if request.encoder is not None and Path(request.encoder).exists():
        raise ValueError(
            f"{request.encoder} is a file or folder; labels by name take the name of an encoder "
            "that has a text tower, whose file --weights names"
        )
    _require_once(request)
    if request.prompts is not None:
        written = _with_prompts(written, request)
    template = overridden(
        written, request.config, request.encoder, request.weights, request.options
    )
    template = _with_one_candidate(template, request)
    if request.prompts is None:
        cfg = _with_data(template, request)
    else:
        template = without_data(template, request.config)
        cfg = resolved(template, request.config, {})
    facts = facts_of_no_training(cfg.encoder, None, None, seed=cfg.randomness.seed)
    return TrainedRun(None, None, facts, cfg, template, request.config)


def text_facts(model: Any) -> dict[str, Any]:
    """What a folder of label maps by names has in common, besides the settings of all such.

    Names become vectors here, so that what cannot be one is refused before any picture is read.

    Args:
        model: The `TextSegmentor` of a run that `open_text` gave.

    Raises:
        ValueError: If a name cannot be used with the text tower.
    """
    model.name_vectors()
    (candidate,) = model.candidates
    info = model.backbone.weights_info
    sha256 = info.sha256
    if sha256 == "random":  # two seeds are two towers
        sha256 = state_sha256(model.backbone.state_dict(), with_layout=False)
    names: dict[str, list[str]] = {name: [] for name in model.classes}
    for name, k in zip(model.names.names, model.names.class_of_Q, strict=True):
        names[model.classes[k]].append(name)
    return dict(
        weights=info.source,
        weights_sha256=sha256,
        readout=candidate.readout,
        layer=candidate.layer,
        threshold=candidate.threshold,
        scale=model.scale,
        templates=list(model.templates),
        names=names,
        prompts_cut=model.num_cut,
        notes=list(getattr(model.backbone, "notes", ())),  # of a map, which the settings leave out
    )


def in_words(facts: Mapping[str, Any], depth: int) -> str:
    """One line on how patches are read.

    Example:
        >>> in_words(dict(readout="sclip", layer=11, threshold=0.5, prompts_cut=0), 12)
        'patches are read by sclip at block 11 of 0..11; background below a probability of 0.5'
    """
    words = f"patches are read by {facts['readout']} at block {facts['layer']} of 0..{depth - 1}"
    if facts["threshold"] is None:
        words += "; every pixel gets one of the names"
    else:
        words += f"; background below a probability of {facts['threshold']:g}"
    if facts["prompts_cut"]:
        words += f"; {facts['prompts_cut']} sentences were longer than the text tower and cut"
    return words


def without_data(template: Config, config: str) -> Config:
    """A config without what depends on data, however indirectly.

    Args:
        template: With references in place.
        config: How errors call it.

    Raises:
        ValueError: If the model depends on data.
    """
    kept = dict(template._cfg_dict)
    while True:
        gone = {
            key
            for key, value in kept.items()
            if any(
                name.startswith("data.") or (name in template and name not in kept)
                for name in references(value)
            )
        }
        if not gone:
            break
        if "model" in gone:
            raise ValueError(
                f"the model of {config} depends on data, so that prompts alone do not make it; "
                f"use {CONFIG}"
            )
        kept = {key: value for key, value in kept.items() if key not in gone}
    return Config(kept, filename=template.filename)


def _require_once(request: TextRequest) -> None:
    """Refuse what is said twice, and prompts that cannot be classes."""
    options = request.options or {}
    given = {"readouts": request.readout, "layers": request.layer, "thresholds": request.threshold}
    for key, value in given.items():
        if value is not None and key in options:
            raise ValueError(f"{key} is given twice, as {value} and in --cfg-options; keep one")
    if request.threshold is not None and not 0.0 < request.threshold < 1.0:
        raise ValueError(
            f"threshold {request.threshold} is outside (0, 1): it is the probability that a class "
            "must reach"
        )
    if request.prompts is None:
        return
    for key, by in _SET_BY.items():
        if key in options:
            raise ValueError(f"--cfg-options {key} is set by --{by} where there are prompts")
    require_prompts(request.prompts)
    folded = [prompt.casefold().strip() for prompt in request.prompts]
    if request.threshold is not None and BACKGROUND in folded:
        raise ValueError(
            f"{BACKGROUND!r} is what --threshold gives to pixels that no prompt fits; leave one of "
            "the two out"
        )


def _with_prompts(written: Config, request: TextRequest) -> Config:
    """A config whose classes are the prompts, and whose data set has neither files nor labels."""
    assert request.prompts is not None
    cfg = Config(copy.deepcopy(written.to_dict()), filename=written.filename)
    prompts = [Given(prompt) for prompt in request.prompts]
    has_background = request.threshold is not None
    # What the config calls its own classes is of no use for others.
    cfg.model.names = {BACKGROUND: []} if has_background else {}
    cfg.classes = [BACKGROUND, *prompts] if has_background else prompts
    cfg.background = BACKGROUND if has_background else None
    cfg.thresholds = [request.threshold] if has_background else []
    colours = [class_colour(k) for k in range(len(prompts))]
    first = 0 if has_background else 1  # prompts count from 1, whether there is a background or not
    numbers = list(range(first, len(prompts) + 1))
    loader = cfg.test_dataloader
    cfg.test_dataloader = dict(
        batch_size=loader.batch_size,
        num_workers=0,
        dataset=dict(
            type="BaseSegDataset",
            metainfo=dict(
                classes="$classes",
                numbers=numbers,
                palette=[BACKGROUND_COLOUR, *colours] if has_background else colours,
            ),
            reduce_zero_label=False,
            pipeline=copy.deepcopy(_reported(loader.dataset)["pipeline"]),
        ),
    )
    for name in _OF_DATA:
        cfg.pop(name, None)
    return cfg


def _with_data(template: Config, request: TextRequest) -> Config:
    """A resolved config with the classes of its data; the data set is the reported one."""
    facts = template.get("data_facts")
    if facts is not None and "data_root" in template and template.data_root is None:
        raise ValueError(
            f"{request.config} knows no names: say what to look for with --prompts, or take the "
            "classes of labelled data with --cfg-options data_root=DIR"
        )
    cfg = resolved(template, request.config, facts_of_data(template, request.config))
    cfg.test_dataloader.dataset = _reported(cfg.test_dataloader.dataset)
    return cfg


def _reported(dataset: Mapping[str, Any]) -> Mapping[str, Any]:
    """The data set whose images are reported: behind those that choose a read-out."""
    return dataset["datasets"][-1] if dataset["type"] == "ConcatDataset" else dataset


def _with_one_candidate(template: Config, request: TextRequest) -> Config:
    """One read-out, block and threshold."""
    cfg = Config(template.to_dict(), filename=template.filename)
    for key, given, default in (
        ("readouts", request.readout, READOUT),
        ("layers", request.layer, LAYER),
    ):
        if given is not None:
            cfg[key] = [given]
        elif cfg[key] == "all":
            cfg[key] = [default]
        elif len(named := listed(cfg[key], key)) != 1:
            raise ValueError(
                f"{key} {', '.join(named)} are to be chosen among, which takes labelled images; "
                f"name one of them with --{key.removesuffix('s')}"
            )
    if request.prompts is None:
        if request.threshold is not None:
            if cfg.background is None:
                raise ValueError(
                    f"--threshold {request.threshold}: the classes of {request.config} have no "
                    "background; say which it is with --cfg-options background=NAME, or leave "
                    "--threshold out"
                )
            cfg.thresholds = [request.threshold]
        elif len(cfg.thresholds) > 1:
            raise ValueError(
                f"the background of {request.config} has the thresholds {list(cfg.thresholds)}, "
                "among which labelled images choose; name one with --threshold"
            )
    return cfg
