"""From a config file and a command line to one resolved, checked config.

A config names its free parts at the top (`encoder`, `weights`, `data_root`, `max_epochs`, ...)
and refers to them as '$name'. References are replaced once, after all overrides, so that
`--cfg-options max_epochs=3` also shortens the schedule. `$encoder.<fact>` is a fact of the
encoder: embed_dim, depth, patch_size, num_prefix_tokens, mean_255 and std_255 (0..255), the strides
of a simple pyramid (pyramid_strides, roi_strides), has_final_norm (whether the backbone's `norm`
can be True), has_class_token, half_width and dpt_readout (for DPT heads), four_layers (blocks that
four-layer heads read, as DINOv2), and side_of_8_tokens, side_of_32_tokens and side_of_64_tokens in
pixels.
`$data.<fact>` is a fact of the data: what the function that the config names in `data_facts`
('package.module:function') finds out, given the names at the top of the config.

References are what a config file wrote. Text that a person gives (`--encoder`, `--weights`,
`--cfg-options`) or that is found in the data goes in as it is, a '$' in a path or a class name
included; only an option that is nothing but the name of something, `key='$max_epochs'`, is one.

`image_bits`, which an option may bring, goes to all that decodes images: how many bits a set of
16-bit images uses (see pe_dense.data.picture).

A base says which names it expects from the config that uses it, in a tuple of its own name:
`REQUIRED_probing = ("encoder", "weights", "model.task_options")` in probing.py. A config that lacks
one is refused, and so is one with a name at the top that nothing reads, most often a slip of the
pen: no '$name' and no Python of its files, and no code (`READ_BY_CODE`).
"""

from __future__ import annotations

import ast
import difflib
import importlib
import logging
import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict
from mmengine.logging import print_log

from pe_dense.data.checks.rules import CheckedData, require_known, require_sound
from pe_dense.run.launch import is_first_process

# Only encoder and data have facts behind a dot, so that '$split.json' is a name and a suffix.
_REFERENCE = re.compile(r"\$((?:encoder|data)\.\w+|[A-Za-z_]\w*)", re.ASCII)
_REQUIRED = "REQUIRED_"

# Names at the top of a config that code reads, and who does; all others need a '$name' somewhere.
READ_BY_CODE: dict[str, tuple[str, ...]] = {
    "MMEngine's Config and Runner": (
        "activation_checkpointing", "auto_scale_lr", "compile", "custom_hooks", "custom_imports",
        "data_preprocessor", "default_hooks", "default_scope", "efficient_conv_bn_eval", "env_cfg",
        "experiment_name", "find_unused_parameters", "launcher", "load_from", "log_level",
        "log_processor", "model", "model_wrapper_cfg", "optim_wrapper", "param_scheduler",
        "randomness", "resume", "runner_type", "sync_bn", "test_cfg", "test_dataloader",
        "test_evaluator", "train_cfg", "train_dataloader", "val_cfg", "val_dataloader",
        "val_evaluator", "visualizer", "work_dir",
    ),
    "pe_dense.run": (
        "accept", "canvas", "classes", "data_check", "data_facts", "data_root", "encoder",
        "evaluation_only", "image_bits", "journal_dir", "layer", "processes", "protocol",
        "results_dir", "sharding", "start_without", "trained_with", "training_free", "tta_model",
        "weights",
    ),
    "pe_dense.suites and tools": ("layer", "report", "seeds"),
    "functions of data_facts and data_check": (
        "classes", "data_root", "dataset_type", "max_depth", "num_classes", "train_images",
        "train_json", "val_images", "val_json",
    ),
    # Nobody reads it; it tells protocols apart whose data differ in nothing but the folder.
    "the hash of a protocol": ("dataset",),
}  # fmt: skip
# Names that an option may bring though the config has none.
_FROM_OPTIONS = ("image_bits",)
# Parts of a config that decode images of a data set, and take how many bits they use.
_DECODERS = ("LoadImage", "UnlabelledImages", "ShardedImages", "CocoInstanceIds")
# Packages whose reading of a config the table knows.
_KNOWN_CODE = ("pe_dense", "mmengine", "mmcv", "mmdet", "mmseg")


class Given(str):
    """Text from a person: a '$' in it means nothing. In resolved configs it is plain text."""

    __slots__ = ()


def encoder_facts(name: str, options: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """What heads and schedules need to know of an encoder, without making its weights."""
    import torch

    from pe_dense.encoders.build import build_encoder

    with torch.device("meta"):
        encoder = build_encoder(name, **(options or {}))
    return {
        "embed_dim": encoder.embed_dim,
        "depth": encoder.depth,
        "patch_size": encoder.patch_size,
        "num_prefix_tokens": encoder.num_prefix_tokens,
        "pyramid_strides": [encoder.patch_size * scale for scale in (0.25, 0.5, 1, 2, 4)],
        "roi_strides": [encoder.patch_size * scale for scale in (0.25, 0.5, 1, 2)],
        # What is not in the maps without `norm`, but is with it, is the final norm.
        "has_final_norm": len(encoder.head_parameters(False)) > len(encoder.head_parameters(True)),
        "has_class_token": encoder.has_class_token,
        "half_width": encoder.embed_dim // 2,
        "dpt_readout": "project" if encoder.has_class_token else "ignore",
        "four_layers": four_layers(encoder.depth),
        "side_of_8_tokens": 8 * encoder.patch_size,
        "side_of_32_tokens": 32 * encoder.patch_size,
        "side_of_64_tokens": 64 * encoder.patch_size,
        "mean_255": [255.0 * value for value in encoder.mean],
        "std_255": [255.0 * value for value in encoder.std],
    }


def four_layers(depth: int) -> list[int]:
    """Four 0-based blocks, the last one among them: the quarters, but those of DINOv2 at depth 24.

    Source: DINOv2 (arXiv:2304.07193): blocks 3, 6, 9, 12 of 12; 5, 12, 18, 24 of 24; 10, 20, 30,
    40 of 40, counted from 1.

    Example:
        >>> four_layers(12), four_layers(50)
        ([2, 5, 8, 11], [12, 24, 37, 49])
    """
    if depth == 24:
        return [4, 11, 17, 23]
    return [math.ceil(depth * part / 4) - 1 for part in (1, 2, 3, 4)]


def substitute(value: Any, names: Mapping[str, Any]) -> Any:
    """Replace '$name' everywhere in a nested config value, but not in what is `Given`.

    A string that is one reference takes the named value whatever its type; inside a longer
    string the value must be a string or a number. Values go in as they are: a '$' in them stays.

    Raises:
        ValueError: If a name is unknown.

    Example:
        >>> substitute({"end": "$n", "path": "$root/x.json"}, {"n": 3, "root": "data"})
        {'end': 3, 'path': 'data/x.json'}
    """
    if isinstance(value, dict):
        return type(value)({key: substitute(item, names) for key, item in value.items()})
    if isinstance(value, (list, tuple)):
        return type(value)(substitute(item, names) for item in value)
    if isinstance(value, Given):
        return str(value)
    if not isinstance(value, str) or "$" not in value:
        return value

    def lookup(match: re.Match) -> Any:
        if match.group(1) not in names:
            raise ValueError(
                f"config value {value!r} refers to {match.group(0)}, which the config does not "
                f"define; it has {', '.join(sorted(names))}"
            )
        return names[match.group(1)]

    whole = _REFERENCE.fullmatch(value)
    return lookup(whole) if whole else _REFERENCE.sub(lambda m: str(lookup(m)), value)


def _references(value: Any) -> set[str]:
    """The names that `substitute` would look up."""
    if isinstance(value, (list, tuple)):
        return set().union(*map(_references, value))
    if isinstance(value, dict):
        return _references(list(value.values()))
    return set(_REFERENCE.findall(value)) if type(value) is str else set()


def load_config(
    path: str | Path,
    encoder: str | None = None,
    weights: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> tuple[Config, Config]:
    """Read a config, apply overrides, fill in references.

    Args:
        path: Config file.
        encoder: Zoo name that replaces the config's.
        weights: Weights that replace the config's.
        options: `--cfg-options`, dotted keys allowed; every key must exist in the config.

    Returns:
        The resolved config, and the same with references still in place.

    Raises:
        ValueError: If the file is missing or broken, lacks a name that a base requires or has one
            that nothing reads, an override names nothing, or a reference is unknown.
    """
    template = load_template(path, encoder, weights, options)
    return resolved(template, path), template


def load_template(
    path: str | Path,
    encoder: str | None = None,
    weights: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> Config:
    """Read a config and apply overrides; references stay in place, and no data are needed.

    Arguments and errors as in `load_config`.
    """
    if not Path(path).is_file():
        raise ValueError(f"config {path} does not exist; see configs/ for those that do")
    try:
        cfg = Config.fromfile(str(path))
    except Exception as error:  # a config is code, which may raise anything
        raise ValueError(f"config {path} cannot be read: {error}") from error
    _require_names(cfg, path)
    options = options or {}
    texts = getattr(options, "texts", {})  # as the command line has them
    for key in options:
        _require_key(cfg, key, path)
    given = {
        key: _as_given(_as_expected(_configured(cfg, key), value, texts.get(key)), cfg)
        for key, value in options.items()
    }
    _tell_literal_names(given, cfg)
    for key, value in given.items():
        if key in ("model.backbone.encoder", "model.backbone.weights"):
            name = key.rsplit(".", 1)[1]
            raise ValueError(f"--cfg-options {key}: use --{name}, which heads and records follow")
        _require_type(_configured(cfg, key), _referenced(cfg, value), key, value)
    if given:
        cfg.merge_from_dict(given)
    for name, text in (("encoder", encoder), ("weights", weights)):
        if text is None:
            continue
        if name not in cfg:
            raise ValueError(f"config {path} has no free {name!r}, so --{name} does nothing there")
        cfg[name] = Given(text)
    if isinstance(cfg.get("data_root"), str):
        kind = type(cfg.data_root)
        cfg.data_root = kind(os.path.expanduser(cfg.data_root))  # noqa: PTH111 (keeps the text else)
    return Config(cfg.to_dict(), filename=cfg.filename)


def resolved(template: Config, path: str | Path) -> Config:
    """Fill in the references of a config; `path` is how errors call it."""
    cfg = Config(template.to_dict(), filename=template.filename)
    if not isinstance(cfg.get("model", {}), dict):
        raise ValueError(f"config {path} has model={cfg.model!r}; a run needs a dict there")
    names = {key: value for key, value in cfg.items() if not isinstance(value, dict)}
    facts: dict[str, Any] = {}
    if "encoder" in cfg:
        options = _configured(cfg, "model.backbone.encoder_options") or {}
        own = _values(_own_names(names), {}, path)
        found = encoder_facts(str(cfg.encoder), substitute(options, own))
        facts |= {f"encoder.{key}": value for key, value in found.items()}
    if "data_facts" in cfg:
        found = _named_function(cfg.data_facts)(_values(_own_names(names), {}, path))
        facts |= {f"data.{key}": value for key, value in found.items()}
    filled = substitute(cfg._cfg_dict, _values(names, facts, path))
    if filled.get("image_bits") is not None:
        given = _with_bits(filled, filled["image_bits"])
        if given == filled:
            raise ValueError(
                f"image_bits={filled['image_bits']} does nothing in {path}, whose images are read "
                "without a setting; save them with 8 bits"
            )
        filled = given
    return Config(ConfigDict(filled), filename=cfg.filename)


def _with_bits(value: Any, bits: int) -> Any:
    """A config whose decoders of images know how many bits the set uses."""
    if isinstance(value, dict):
        mine = {"bits": bits} if value.get("type") in _DECODERS else {}
        return {**{key: _with_bits(item, bits) for key, item in value.items()}, **mine}
    if isinstance(value, (list, tuple)):
        return type(value)(_with_bits(item, bits) for item in value)
    return value


def _own_names(names: Mapping[str, Any]) -> dict[str, Any]:
    """The names whose values depend on no fact of encoder or data, directly or through others."""
    own = dict(names)
    while True:
        gone = names.keys() - own.keys()
        strange = {
            key
            for key, value in own.items()
            if any("." in name or name in gone for name in _references(value))
        }
        if not strange:
            return own
        own = {key: value for key, value in own.items() if key not in strange}


def _values(names: Mapping[str, Any], facts: Mapping[str, Any], path: str | Path) -> dict[str, Any]:
    """Facts as they are, and names with the values of the names that they refer to."""
    values = dict(facts)
    left = dict(names)
    while left:
        ready = {k: v for k, v in left.items() if not _references(v) & left.keys()}
        if not ready:
            circle = ", ".join(f"${key}" for key in sorted(left))
            raise ValueError(f"config {path}: {circle} refer to each other in a circle")
        known = {**names, **values}  # all, for errors; those that are looked up are in `values`
        values |= {key: substitute(value, known) for key, value in ready.items()}
        left = {key: value for key, value in left.items() if key not in ready}
    return values


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
            names = [f"${name}" for name in _REFERENCE.findall(value) if name in cfg]
            if names:
                print_log(
                    f"--cfg-options {key}={value}: {', '.join(names)} is taken as text there; only "
                    "an option that is nothing but '$name' refers to a name",
                    level=logging.WARNING,
                )


def _is_reference(text: str, cfg: Config) -> bool:
    """Whether text is nothing but '$name', of a name or of facts that the config has."""
    whole = _REFERENCE.fullmatch(text)
    if whole is None:
        return False
    first, dot, _ = whole.group(1).partition(".")
    return ("data_facts" if dot and first == "data" else first) in cfg


def _require_names(cfg: Config, path: str | Path) -> None:
    """Refuse a config that lacks what a base requires, or has what nothing reads."""
    required = {key: cfg.pop(key) for key in list(cfg) if key.startswith(_REQUIRED)}
    for key, names in required.items():
        for name in names:
            if not _has(cfg, name):
                raise ValueError(
                    f"config {path} defines no {name!r}, which its base "
                    f"{key.removeprefix(_REQUIRED)}.py requires; define it there"
                )
    if not _references(cfg._cfg_dict):
        return  # all is filled in, as in the copy that MMEngine writes into a work dir
    read = _read_in_files(Path(path))
    code = [*(cfg.get("custom_imports") or {}).get("imports", [])]
    code += [cfg[key] for key in ("data_facts", "data_check") if cfg.get(key)]
    if read is None or any(module.split(".")[0] not in _KNOWN_CODE for module in code):
        return  # nobody knows what other code reads
    read = read.union(*READ_BY_CODE.values())
    for name in sorted(cfg.keys() - read):
        near = difflib.get_close_matches(name, sorted(read | set(cfg) - {name}), n=1)
        hint = f" (near: {near[0]})" if near else ""
        raise ValueError(
            f"config {path} defines {name!r}, which nothing reads{hint}; correct the name, refer "
            f"to it as '${name}' or remove it"
        )


def _has(cfg: Config, dotted: str) -> bool:
    node: Any = cfg._cfg_dict
    for part in dotted.split("."):
        if not isinstance(node, dict) or part not in node:
            return False
        node = node[part]
    return True


def _read_in_files(path: Path) -> set[str] | None:
    """The names that a config file and its bases read, as '$name' or by Python.

    None where that cannot be told: a file that is no Python, imports code, or lies in a package.
    """
    if path.suffix != ".py":
        return None
    text = path.read_text(encoding="utf-8")
    read, bases = set(re.findall(r"_base_\.(\w+)", text)), []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            return None
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            read.add(node.id)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            read |= set(_REFERENCE.findall(node.value))
        elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "_base_":
            bases = ast.literal_eval(node.value)
    for base in [bases] if isinstance(bases, str) else bases:
        found = None if "::" in base else _read_in_files(path.parent / base)
        if found is None:
            return None
        read |= found
    return read


def _require_key(cfg: Config, dotted: str, path: str | Path) -> None:
    node: Any = cfg._cfg_dict
    if dotted in _FROM_OPTIONS:
        return
    for part in dotted.split("."):
        if isinstance(node, (list, tuple)) and part.isdigit() and int(part) < len(node):
            node = node[int(part)]
        elif isinstance(node, dict) and part in node:
            node = node[part]
        elif isinstance(node, dict) and node is not cfg._cfg_dict:
            return  # a new argument of an existing part; the part itself checks it
        else:
            raise ValueError(
                f"--cfg-options {dotted}: {path} has no {part!r}; its top-level names are "
                f"{', '.join(sorted(cfg))}"
            )


def _configured(cfg: Config, dotted: str) -> Any:
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
    while type(value) is str and (whole := _REFERENCE.fullmatch(value)) and value not in seen:
        if whole.group(1) not in cfg:
            return None  # a fact, whose type is not known yet
        seen.add(value)
        value = cfg._cfg_dict[whole.group(1)]
    return value


def _as_expected(old: Any, new: Any, text: str | None) -> Any:
    """Text where the config has text: a folder called 2024."""
    if isinstance(old, str) and isinstance(new, (bool, int, float)):
        return str(new) if text is None else text
    return new


_EXPECTED = (
    (bool, (bool,), "True or False"),
    ((int, float), (bool, int, float, list, tuple), "a number"),
    (list, (list, tuple), "a list"),
    (tuple, (list, tuple, int, float), "a tuple"),
    (dict, (dict,), "a dict"),
)


def _require_type(old: Any, new: Any, key: str, given: Any) -> None:
    """Refuse what is of another kind than the config's value; most often a slip of the pen.

    None is left to whoever reads it, but for the numbers and lists at the top of a config.
    """
    is_absent = new is None and ("." in key or not isinstance(old, (float, list)))
    if old is None or is_absent:
        return
    for kind, allowed, words in _EXPECTED:
        if isinstance(old, kind):
            if not isinstance(new, allowed):
                example = str(old) if len(str(old)) < 60 else "..."
                raise ValueError(
                    f"--cfg-options {key}={given}: the config has {example} there; give {words}"
                )
            return


def check_data(cfg: Config, splits: Sequence[str]) -> list[str]:
    """Run the check that the config names, 'package.module:function', on the given splits.

    The table of what the data hold and the notes are printed by the first process. A check may
    set what follows from the data in the config, such as objects that scores leave out.

    Args:
        cfg: Resolved config; its `accept` names rules of sound data that may be broken.
        splits: Of 'train', 'val', 'test'.

    Returns:
        What was accepted, for the record: 'negative-boxes (3)'.

    Raises:
        ValueError: With the first problem that is not accepted, or if `accept` names none.
    """
    names = list(cfg.get("accept", ()))
    if "data_check" not in cfg:
        require_known(names, ())
        return []
    found = _named_function(cfg.data_check)(cfg, splits)
    if not isinstance(found, CheckedData):  # a check of the user's own
        found = CheckedData(found or "")
    require_known(names, found.rules)
    accepted = require_sound(found.findings, names)
    notes = [f for f in found.findings if f in accepted or not f.is_problem]
    lines = [line for finding in notes for line in finding.lines()]
    if is_first_process() and (found.table or lines):
        print_log("\n".join(filter(None, [found.table, *lines])))
    return [f"{finding.rule.name} ({finding.count:,})" for finding in accepted]


def _named_function(text: str) -> Callable[..., Any]:
    module, _, function = str(text).partition(":")
    try:
        return getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(
            f"config value {text!r} names no function ({error}); write 'package.module:function'"
        ) from error
