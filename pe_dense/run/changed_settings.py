"""What a run is scored or drawn with, beside what it was trained with.

Training is over: a setting that only it has cannot be changed any more, and a config that would
train otherwise is none that the checkpoint fits. What scoring uses may change: that is another
protocol, and is said.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config

from pe_dense.run.protocol_difference import ABSENT, Difference, differences
from pe_dense.run.references import references

# Parts of a config that training has for itself.
_OF_TRAINING = (
    "train_dataloader", "train_cfg", "optim_wrapper", "param_scheduler", "custom_hooks",
    "auto_scale_lr", "start_without", "val_cfg", "total_batch", "processes", "train_pipeline",
    "train_set", "tune", "ema", "early_stop", "keep_best", "holdout_share", "holdout_group",
)  # fmt: skip
# Parts that neither trains nor scores, or says how a checkpoint was chosen.
_VALIDATION = ("val_dataloader", "val_evaluator")


def is_only_of_training(setting: str, template: Config) -> bool:
    """Whether nothing but training uses a setting, read off the references of a config.

    Args:
        setting: Its place, 'optim_wrapper.optimizer.lr', or a name at the top.
        template: Config with references in place.
    """
    top = _top(setting)
    if top in _OF_TRAINING:
        return True
    return top in _names_in(template, _OF_TRAINING) and top not in _names_in(
        template, [key for key in template if key not in (*_OF_TRAINING, *_VALIDATION)]
    )


def shapes_training(setting: str, template: Config) -> bool:
    """Whether training was another one with another value of a setting."""
    top = _top(setting)
    if top == "model":
        return "test_cfg" not in re.split(r"[.\[\]]+", setting)
    if top in _OF_TRAINING or top in _names_in(template, _OF_TRAINING):
        return True
    model = {key: value for key, value in template.model.items() if key != "test_cfg"}
    return top in _with_inner(references(model), template)


def shapes_model(setting: str, template: Config) -> bool:
    """Whether a setting is one of the model, by its place or by the model's references."""
    top = _top(setting)
    return top in ("model", "canvas") or top in _with_inner(references(template.model), template)


def require_same_training(trained: Config, now: Config, file: str | Path, config: str) -> None:
    """Refuse a config that would train otherwise than a checkpoint was trained.

    Args:
        trained: Template of the training.
        now: Template of the config, with the training's options.
        file: The checkpoint, for the message.
        config: The config, for the message.

    Raises:
        ValueError: Naming the first setting, with both values.
    """
    for row in differences(trained, now):
        sides = [
            side for side, value in ((trained, row.first), (now, row.second)) if value is not ABSENT
        ]
        if any(shapes_training(row.setting, side) for side in sides):
            raise ValueError(
                f"checkpoint {file} was trained under other settings than these: {row.setting} is "
                f"{_short(row.first)} there and {_short(row.second)} in {config}; leave the config "
                "out, which the checkpoint knows"
            )


def require_no_training(trained: Config, now: Config, file: str | Path) -> None:
    """Refuse options that only a training would follow, and this one did not.

    Args:
        trained: Template of the training.
        now: The same with the options.
        file: The checkpoint, for the message.

    Raises:
        ValueError: Naming the first setting.
    """
    for row in differences(trained, now):
        if is_only_of_training(row.setting, now):
            raise ValueError(
                f"checkpoint {file} was trained under other settings than these: {row.setting} is "
                f"{_short(row.first)} there and {_short(row.second)} here, which only a training "
                "can change; leave it out of --cfg-options"
            )


def in_words(trained: Config, now: Config) -> str:
    """What differs from the training, on one line; '' for nothing.

    Example:
        'image_scale [512, 512] -> [192, 192]'
    """
    return "; ".join(
        f"{row.setting} {_short(row.first)} -> {_short(row.second)}"
        for row in rows_told(differences(trained, now))
    )


def rows_told(found: Iterable[Difference]) -> list[Difference]:
    """The differences in scoring; those of the validation while training say the same again."""
    return [row for row in found if _top(row.setting) not in _VALIDATION]


def _top(setting: str) -> str:
    return re.split(r"[.\[]", setting, maxsplit=1)[0]


def _names_in(template: Config, parts: Iterable[str]) -> set[str]:
    """Names that some parts of a config refer to, directly or through others.

    A name that only another name refers to is no use of it: 'end = "$max_epochs"'.
    """
    used: set[str] = set()
    for part in parts:
        value = template.get(part)
        if isinstance(value, Mapping) or _holds_dicts(value):
            used |= references(value)
    return _with_inner(used, template)


def _holds_dicts(value: Any) -> bool:
    return isinstance(value, list | tuple) and any(isinstance(item, Mapping) for item in value)


def _with_inner(names: set[str], template: Config) -> set[str]:
    left, found = set(names), set()
    while left:
        name = left.pop()
        if name not in found:
            found.add(name)
            left |= references(template.get(name)) if name in template else set()
    return found


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
