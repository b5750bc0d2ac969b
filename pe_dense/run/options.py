"""`--cfg-options`: values of a person in the place of those that a config has.

An option must name something that the config has, and be of the same kind. Its text is text: only
an option that is nothing but the name of something, `key='$max_epochs'`, is a reference.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.logging import print_log

from pe_dense.run.near_names import hint, near_names
from pe_dense.run.references import REFERENCE, Given
from pe_dense.run.tile_option import NAMES as TILE_NAMES
from pe_dense.run.vis_backends import FORM

# Text for which other configs have None, which turns something off.
_MAY_BE_NONE = (
    "amp_dtype", "core_to_spatial", "half", "journal_dir", "load_from", "results_dir", "score_crop"
)  # fmt: skip
# Names that an option may bring though the config has none.
_FROM_OPTIONS = (
    "early_stop", "ema", "holdout_group", "holdout_share", "image_bits", "keep_best",
    *TILE_NAMES, "tune", "vis_backends", "visualizer",
)  # fmt: skip
# Files and folders: text, though many a config has None there.
_PATHS = (
    "ann_file", "data_root", "train_json", "val_json", "train_images", "val_images", "load_from",
    "results_dir", "split_file",
)  # fmt: skip


def apply_options(cfg: Config, options: Mapping[str, Any], path: str | Path) -> None:
    """Put options into a config, in place.

    Args:
        cfg: Config with references in place.
        options: Dotted key -> value; as `command_line.parse_options` gives them, they know what
            was typed.
        path: How errors call the config.

    Raises:
        ValueError: If an option names nothing, or is of another kind than what it replaces.
    """
    texts = getattr(options, "texts", {})  # as the command line has them
    if "visualizer.vis_backends" in options and "visualizer" not in cfg:  # MMEngine's place
        options = {
            "vis_backends" if key == "visualizer.vis_backends" else key: value
            for key, value in options.items()
        }
    for key in options:
        _require_key(cfg, key, path)
    given = {
        key: _as_given(_as_expected(key, configured(cfg, key), value, texts.get(key)), cfg)
        for key, value in options.items()
    }
    _tell_literal_names(given, cfg)
    for key, value in given.items():
        if key in ("model.backbone.encoder", "model.backbone.weights"):
            name = key.rsplit(".", 1)[1]
            raise ValueError(f"--cfg-options {key}: use --{name}, which heads and records follow")
        _require_type(configured(cfg, key), _referenced(cfg, value), key, value)
    if given:
        cfg.merge_from_dict(given)


def _as_given(value: Any, cfg: Config) -> Any:
    """An option with its text marked as a person's, but for references to names of the config."""
    if isinstance(value, dict):
        return {key: _as_given(item, cfg) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_as_given(item, cfg) for item in value)
    return Given(value) if isinstance(value, str) and not _is_reference(value, cfg) else value


def _tell_literal_names(given: Mapping[str, Any], cfg: Config) -> None:
    """Warn where an option holds the '$name' of something that the config has, and more text."""
    for key, value in given.items():
        if isinstance(value, Given):
            names = [f"${name}" for name in REFERENCE.findall(value) if name in cfg]
            if names:
                print_log(
                    f"--cfg-options {key}={value}: {', '.join(names)} is taken as text there; only "
                    "an option that is nothing but '$name' refers to a name",
                    level=logging.WARNING,
                )


def _is_reference(text: str, cfg: Config) -> bool:
    """Whether text is nothing but '$name', of a name or of facts that the config has."""
    whole = REFERENCE.fullmatch(text)
    if whole is None:
        return False
    first, dot, _ = whole.group(1).partition(".")
    return ("data_facts" if dot and first == "data" else first) in cfg


def _require_key(cfg: Config, dotted: str, path: str | Path) -> None:
    node: Any = cfg._cfg_dict
    if dotted in _FROM_OPTIONS:
        return
    top = dotted.partition(".")[0]
    if top in ("vis_backends", "visualizer") and top not in cfg:
        raise ValueError(f"--cfg-options {dotted}: {path} has no {top!r} yet; write {FORM}")
    for part in dotted.split("."):
        if isinstance(node, (list, tuple)) and part.isdigit() and int(part) < len(node):
            node = node[int(part)]
        elif isinstance(node, dict) and part in node:
            node = node[part]
        elif isinstance(node, dict) and node is not cfg._cfg_dict:
            _require_no_slip(node, part, dotted, path)
            return  # a new argument of an existing part; the part itself checks it
        else:
            near = hint(dotted if part == dotted else part, places(cfg))
            raise ValueError(
                f"--cfg-options {dotted}: {path} has no {part!r}; "
                + (near or f"its top-level names are {', '.join(sorted(cfg))}")
            )


def places(cfg: Config) -> list[str]:
    """Names at the top of a config, those that options may bring, and 'part.name' one level in."""
    inner = [
        f"{name}.{key}"
        for name, value in cfg._cfg_dict.items()
        if isinstance(value, dict)
        for key in value
    ]
    return [*cfg, *_FROM_OPTIONS, *inner]


def _require_no_slip(node: Mapping[str, Any], part: str, dotted: str, path: str | Path) -> None:
    """Refuse a part that a config has under nearly this name, and its own would stay beside it.

    Only parts, which have a dict: a name of a value may well be new. 'scale' and 'scales' are two.
    """
    is_part = not dotted.endswith(f".{part}")
    near = near_names(part, (key for key, value in node.items() if isinstance(value, dict)), 1, 0.8)
    if is_part and near:
        meant = dotted.replace(f".{part}.", f".{near[0]}.")
        raise ValueError(
            f"--cfg-options {dotted}: {path} has no {part!r} there; did you mean {meant}?"
        )


def configured(cfg: Config, dotted: str) -> Any:
    """The value that a config has at a place, through references; None where it has none."""
    node: Any = cfg._cfg_dict
    for part in dotted.split("."):
        node = _referenced(cfg, node)
        if isinstance(node, (list, tuple)) and part.isdigit() and int(part) < len(node):
            node = node[int(part)]
        else:
            node = node.get(part) if isinstance(node, dict) else None
    return _referenced(cfg, node)


def _referenced(cfg: Config, value: Any) -> Any:
    """What a '$name' stands for, through others; itself if it is none, or of facts."""
    seen: set[str] = set()
    while type(value) is str and (whole := REFERENCE.fullmatch(value)) and value not in seen:
        if whole.group(1) not in cfg:
            return None  # a fact, whose type is not known yet
        seen.add(value)
        value = cfg._cfg_dict[whole.group(1)]
    return value


def _as_expected(key: str, old: Any, new: Any, text: str | None) -> Any:
    """Text where the config has text, or a path that it leaves open: a folder called 2024.

    A list of bare words, `classes=[cat,dog]`, is one where the config has a list or finds out.
    """
    is_path = old is None and key.rpartition(".")[2] in _PATHS
    takes_list = isinstance(old, (list, tuple)) or (old is None and not is_path)
    if takes_list and isinstance(new, str) and key not in _FROM_OPTIONS:
        if re.fullmatch(r"[\[(].*[\])]", new):
            return [item for item in map(_bare, new[1:-1].split(",")) if item != ""]
        if "," in new and old is not None:
            return [_bare(item) for item in new.split(",")]
    if (is_path or isinstance(old, str)) and isinstance(new, (bool, int, float)):
        return str(new) if text is None else text
    return new


def _bare(word: str) -> Any:
    """One word of a list: a number if it is one, else text without quotes around it."""
    word = word.strip()
    for kind in (int, float):
        try:
            return kind(word)
        except ValueError:
            continue
    return word.strip("'\"")


_EXPECTED = (
    (bool, (bool,), "True or False"),
    ((int, float), (bool, int, float, list, tuple), "a number"),
    (list, (list, tuple), "a list, such as '{key}=[a,b]'"),
    (tuple, (list, tuple, int, float), "a tuple, such as {key}=64,64"),
    (dict, (dict,), "a dict, such as \"{key}={{'type':'NAME'}}\""),
    (str, (bool, int, float, str, list, tuple, dict), "a text"),  # anything but None
)


def _require_type(old: Any, new: Any, key: str, given: Any) -> None:
    """Refuse what is of another kind than the config's value; most often a slip of the pen.

    None is left to whoever reads it within a part. At the top of a config it may stand for whole
    numbers, tuples and parts, and for text that turns something on; elsewhere it is a slip, too.
    """
    if key.rpartition(".")[2] in _PATHS and isinstance(new, (list, tuple, dict)):
        raise ValueError(f"--cfg-options {key}={given}: a file or folder is text; give its path")
    is_open = "." in key or key in _MAY_BE_NONE
    is_named = isinstance(old, (bool, float, list, str))
    if old is None or (new is None and (is_open or not is_named)):
        return
    for kind, allowed, words in _EXPECTED:
        if isinstance(old, kind):
            if not isinstance(new, allowed):
                example = str(old) if len(str(old)) < 60 else "..."
                raise ValueError(
                    f"--cfg-options {key}={given}: the config has {example} there; give "
                    + words.format(key=key)
                )
            return
