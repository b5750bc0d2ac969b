"""From a config file and a command line to one resolved, checked config.

A config names its free parts at the top (`encoder`, `weights`, `data_root`, `max_epochs`, ...)
and refers to them as '$name'. References are replaced once, after all overrides, so that
`--cfg-options max_epochs=3` also shortens the schedule. `$encoder.<fact>` is a fact of the
encoder: embed_dim, depth, patch_size, num_prefix_tokens, mean_255 and std_255 (0..255), the strides
of a simple pyramid (pyramid_strides, roi_strides), has_final_norm (whether the backbone's `norm`
can be True), has_class_token, half_width and dpt_readout (for DPT heads), four_layers (blocks that
four-layer heads read, as DINOv2), side_of_8_tokens, side_of_32_tokens and side_of_64_tokens in
pixels, and side_over_512, the smallest whole number of patches that is not below 512 pixels.
`$data.<fact>` is a fact of the data: what the function that the config names in `data_facts`
('package.module:function') finds out, given the names at the top of the config.

`image_bits`, which an option may bring, goes to all that decodes images: how many bits a set of
16-bit images uses (see pe_dense.data.picture). `tune` says how much of the encoder is trained, in
any recipe that trains one (see pe_dense.run.tune_option); `holdout_share`, `early_stop`, `ema` and
their like say how a training chooses its result (see pe_dense.run.training_options). `tile` lets
any detector be tested in tiles (see pe_dense.run.tile_option). `layers` of a recipe with
`layer_choice` may be words (see pe_dense.run.layers_option).

A base says which names it expects from the config that uses it, in a tuple of its own name:
`REQUIRED_probing = ("encoder", "weights", "model.task_options")` in probing.py. A config that lacks
one is refused, and so is one with a name at the top that nothing reads, most often a slip of the
pen: no '$name' and no Python of its files, and no code (`READ_BY_CODE`).
"""

from __future__ import annotations

import ast
import copy
import difflib
import importlib
import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict
from mmengine.logging import print_log

from pe_dense.data.checks.rules import CheckedData, require_known, require_sound
from pe_dense.run.config_files import find_config, near_configs
from pe_dense.run.launch import is_first_process
from pe_dense.run.layers_option import read_layers
from pe_dense.run.options import apply_options, configured
from pe_dense.run.references import (
    REFERENCE,
    Given,
    own_names,
    references,
    substitute,
    values_of,
)
from pe_dense.run.tile_option import with_tiles
from pe_dense.run.training_options import with_training_options
from pe_dense.run.tune_option import with_tuning
from pe_dense.run.value_rules import require_data_root, require_values

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
        "accept", "canvas", "classes", "data_check", "data_facts", "data_root",
        "detector_of_checkpoint", "early_stop", "ema", "encoder", "evaluation_only",
        "holdout_group", "holdout_share", "image_bits", "journal_dir", "keep_best", "layer",
        "layer_choice", "processes", "protocol", "results_dir", "sharding", "start_without",
        "total_batch", "tile", "tile_merge", "tile_overlap", "tracked", "trained_with",
        "training_free", "tta_model", "tune", "vis_backends", "weights",
    ),
    "pe_dense.suites and tools": ("layer", "report", "seeds"),
    "functions of data_facts and data_check": (
        "batch_size", "classes", "data_root", "dataset_type", "depth_scale", "depths",
        "found", "image_side", "images", "lr_factor", "masks", "max_depth", "max_iters",
        "names_file", "num_classes", "planned_for", "split", "split_group", "split_seed",
        "train_images", "train_json", "unlabelled", "val_images", "val_json",
    ),
    # Nobody reads it; it tells protocols apart whose data differ in nothing but the folder.
    "the hash of a protocol": ("dataset",),
}  # fmt: skip
# Parts of a config that decode images of a data set, and take how many bits they use.
_DECODERS = (
    "LoadImage", "UnlabelledImages", "ShardedImages", "CocoInstanceIds", "DavisVideos", "OwnVideos",
    "ClassFolders", "CaptionedPictures",
    "pe_dense.alignment.patch_probe:nearest_centroid_segmentation",
    "pe_dense.tracking.encoder_probe:propagation_scores",
)  # fmt: skip
# Packages whose reading of a config the table knows.
_KNOWN_CODE = ("pe_dense", "mmengine", "mmcv", "mmdet", "mmseg")


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
        "native_side": min(encoder.native_hw),
        "side_of_1_5_windows": 3 * min(encoder.native_hw) // 2,
        "side_of_8_tokens": 8 * encoder.patch_size,
        "side_of_32_tokens": 32 * encoder.patch_size,
        "side_of_64_tokens": 64 * encoder.patch_size,
        "side_over_512": math.ceil(512 / encoder.patch_size) * encoder.patch_size,
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
    return overridden(read_config(path), path, encoder, weights, options)


def read_config(path: str | Path) -> Config:
    """A config as its file has it, references in place.

    Raises:
        ValueError: If the file is missing or broken, lacks a name that a base requires or has one
            that nothing reads.
    """
    file = find_config(path)
    if not file.is_file():
        near = near_configs(path)
        meant = (
            f"did you mean {', '.join(near)}?"
            if near
            else "see those that do with: python tools/train.py --list"
        )
        raise ValueError(f"config {path} does not exist; {meant}")
    try:
        cfg = Config.fromfile(str(file))
    except Exception as error:  # a config is code, which may raise anything
        raise ValueError(f"config {path} cannot be read: {error}") from error
    _require_names(cfg, file, path)
    return cfg


def overridden(
    cfg: Config,
    path: str | Path,
    encoder: str | None = None,
    weights: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> Config:
    """A copy of a config with overrides in their places; arguments as in `load_config`.

    Raises:
        ValueError: If an override names nothing.
    """
    cfg = Config(copy.deepcopy(cfg.to_dict()), filename=cfg.filename)
    apply_options(cfg, options or {}, path)
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


def facts_of_data(template: Config, path: str | Path) -> dict[str, Any]:
    """What the config's function of `data_facts` finds in the data; nothing where it names none."""
    if "data_facts" not in template:
        return {}
    names = {key: value for key, value in template.items() if not isinstance(value, dict)}
    return dict(named_function(template.data_facts)(values_of(own_names(names), {}, path)))


def resolved(template: Config, path: str | Path, data: Mapping[str, Any] | None = None) -> Config:
    """Fill in the references of a config.

    Args:
        template: Config with references in place.
        path: How errors call it.
        data: What `facts_of_data` found earlier; None: it is found now.
    """
    cfg = Config(template.to_dict(), filename=template.filename)
    if not isinstance(cfg.get("model", {}), dict):
        raise ValueError(f"config {path} has model={cfg.model!r}; a run needs a dict there")
    names = {key: value for key, value in cfg.items() if not isinstance(value, dict)}
    facts: dict[str, Any] = {}
    if "encoder" in cfg:
        options = configured(cfg, "model.backbone.encoder_options") or {}
        own = values_of(own_names(names), {}, path)
        if not isinstance(options, Mapping):
            raise ValueError(
                f"model.backbone.encoder_options={options} is no dict; write \"{{'depth': 4}}\""
            )
        found = encoder_facts(str(cfg.encoder), substitute(options, own))
        facts |= {f"encoder.{key}": value for key, value in found.items()}
    found = dict(facts_of_data(cfg, path) if data is None else data)
    facts |= {f"data.{key}": value for key, value in found.items()}
    if "layer_choice" in cfg:
        depth, four = facts["encoder.depth"], facts["encoder.four_layers"]
        read = read_layers(names, found, depth, four, path)
        names |= read
        for key, value in read.items():
            cfg[key] = value
    filled = substitute(cfg._cfg_dict, values_of(names, facts, path))
    require_values(filled, path)
    if filled.get("image_bits") is not None:
        given = _with_bits(filled, filled["image_bits"])
        if given == filled:
            raise ValueError(
                f"image_bits={filled['image_bits']} does nothing in {path}, whose images are read "
                "without a setting; save them with 8 bits"
            )
        filled = given
    filled = with_tiles(filled, path)
    if filled.get("tune") is not None:
        filled = with_tuning(filled, path)
    filled = with_training_options(filled, path, references(cfg._cfg_dict))
    return Config(ConfigDict(filled), filename=cfg.filename)


def _with_bits(value: Any, bits: int) -> Any:
    """A config whose decoders of images know how many bits the set uses."""
    if isinstance(value, dict):
        mine = {"bits": bits} if value.get("type", value.get("function")) in _DECODERS else {}
        return {**{key: _with_bits(item, bits) for key, item in value.items()}, **mine}
    if isinstance(value, (list, tuple)):
        return type(value)(_with_bits(item, bits) for item in value)
    return value


def _require_names(cfg: Config, file: Path, path: str | Path) -> None:
    """Refuse a config that lacks what a base requires, or has what nothing reads."""
    required = {key: cfg.pop(key) for key in list(cfg) if key.startswith(_REQUIRED)}
    for key, names in required.items():
        for name in names:
            if not _has(cfg, name):
                raise ValueError(
                    f"config {path} defines no {name!r}, which its base "
                    f"{key.removeprefix(_REQUIRED)}.py requires; define it there"
                )
    if not references(cfg._cfg_dict):
        return  # all is filled in, as in the copy that MMEngine writes into a work dir
    read = _read_in_files(file)
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
            read |= set(REFERENCE.findall(node.value))
        elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "_base_":
            bases = ast.literal_eval(node.value)
    for base in [bases] if isinstance(bases, str) else bases:
        found = None if "::" in base else _read_in_files(path.parent / base)
        if found is None:
            return None
        read |= found
    return read


def check_data(cfg: Config, splits: Sequence[str], tells: bool = True) -> list[str]:
    """Run the check that the config names, 'package.module:function', on the given splits.

    The table of what the data hold and the notes are printed by the first process. A check may
    set what follows from the data in the config, such as objects that scores leave out.

    Args:
        cfg: Resolved config; its `accept` names rules of sound data that may be broken.
        splits: Of 'train', 'val', 'test'.
        tells: Whether the table and the notes are printed.

    Returns:
        What was accepted, for the record: 'negative-boxes (3 in annotations/val.json)'.

    Raises:
        ValueError: With the first problem that is not accepted, or if `accept` names none.
    """
    names = list(cfg.get("accept", ()))
    if "data_check" not in cfg:
        require_data_root(cfg)
        require_known(names, ())
        return []
    found = named_function(cfg.data_check)(cfg, splits)
    if not isinstance(found, CheckedData):  # a check of the user's own
        found = CheckedData(found or "")
    require_known(names, found.rules)
    accepted = require_sound(found.findings, names)
    require_data_root(cfg)  # where no rule asked for the folder
    notes = [f for f in found.findings if f in accepted or not f.is_problem]
    lines = [line for finding in notes for line in finding.lines(finding in accepted)]
    if tells and is_first_process() and (found.table or lines):
        print_log("\n".join(filter(None, [found.table, *lines])))
    return [finding.brief() for finding in accepted]


def data_table(cfg: Config, splits: Sequence[str]) -> str:
    """What the check of a config tells of its data, '' where there is none or it finds faults.

    Looks at the data again, which takes no time where they did not change.
    """
    if "data_check" not in cfg:
        return ""
    try:
        found = named_function(cfg.data_check)(cfg, splits)
    except (ValueError, OSError):
        return ""
    return found.table if isinstance(found, CheckedData) else ""


def named_function(text: str) -> Callable[..., Any]:
    """What 'package.module:function' of a config names.

    Raises:
        ValueError: If it names none.
    """
    module, _, function = str(text).partition(":")
    try:
        return getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(
            f"config value {text!r} names no function ({error}); write 'package.module:function'"
        ) from error
