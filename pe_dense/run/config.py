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
"""

from __future__ import annotations

import importlib
import math
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict
from mmengine.logging import print_log

from pe_dense.run.launch import is_first_process

# Only encoder and data have facts behind a dot, so that '$split.json' is a name and a suffix.
_REFERENCE = re.compile(r"\$((?:encoder|data)\.\w+|[A-Za-z_]\w*)", re.ASCII)


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
    """Replace '$name' everywhere in a nested config value.

    A string that is one reference takes the named value whatever its type; inside a longer
    string the value must be a string or a number.

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
        ValueError: If the file is missing or broken, an override names nothing, or a reference
            is unknown.
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
    for key in options or {}:
        _require_key(cfg, key, path)
        if key in ("model.backbone.encoder", "model.backbone.weights"):
            name = key.rsplit(".", 1)[1]
            raise ValueError(f"--cfg-options {key}: use --{name}, which heads and records follow")
        _require_type(cfg.get(key), options[key], key)
    if options:
        cfg.merge_from_dict(dict(options))
    for name, value in (("encoder", encoder), ("weights", weights)):
        if value is None:
            continue
        if name not in cfg:
            raise ValueError(f"config {path} has no free {name!r}, so --{name} does nothing there")
        cfg[name] = value
    if isinstance(cfg.get("data_root"), str):
        cfg.data_root = os.path.expanduser(cfg.data_root)  # noqa: PTH111 (keeps the text else)
    return Config(cfg.to_dict(), filename=cfg.filename)


def resolved(template: Config, path: str | Path) -> Config:
    """Fill in the references of a config; `path` is how errors call it."""
    cfg = Config(template.to_dict(), filename=template.filename)
    names = {key: value for key, value in cfg.items() if not isinstance(value, dict)}
    if "encoder" in cfg:
        backbone = cfg.get("model", {}).get("backbone", {})
        own = _own_names(names, path)
        facts = encoder_facts(cfg.encoder, substitute(backbone.get("encoder_options") or {}, own))
        names |= {f"encoder.{key}": value for key, value in facts.items()}
    if "data_facts" in cfg:
        module, function = cfg.data_facts.split(":")
        find_facts = getattr(importlib.import_module(module), function)
        facts = find_facts(_own_names(names, path))
        names |= {f"data.{key}": value for key, value in facts.items()}
    filled = substitute(cfg._cfg_dict, _without_chains(names, path))
    return Config(ConfigDict(filled), filename=cfg.filename)


def _own_names(names: dict[str, Any], path: str | Path) -> dict[str, Any]:
    """The names whose values depend on no fact of encoder or data, directly or through others."""
    own = dict(names)
    while True:
        references = {k: set(_REFERENCE.findall(str(v))) for k, v in own.items()}
        strange = {k for k, found in references.items() if any("." in r for r in found)}
        gone = names.keys() - own.keys()
        strange |= {k for k, found in references.items() if found & gone}
        if not strange:
            return _without_chains(own, path)
        own = {k: v for k, v in own.items() if k not in strange}


def _without_chains(names: dict[str, Any], path: str | Path) -> dict[str, Any]:
    """The names with values that refer to no other name."""
    for _ in range(len(names)):
        filled = {key: substitute(value, names) for key, value in names.items()}
        if filled == names and not any("$" in str(value) for value in names.values()):
            return names
        names = filled
    circle = sorted(f"${key}" for key, value in names.items() if "$" in str(value))
    raise ValueError(f"config {path}: {', '.join(circle)} refer to each other in a circle")


def _require_key(cfg: Config, dotted: str, path: str | Path) -> None:
    node: Any = cfg._cfg_dict
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


def _require_type(old: Any, new: Any, key: str) -> None:
    """Refuse text where the config has a number or a list; most often a slip of the pen."""
    if isinstance(new, str) and not new.startswith("$") and isinstance(old, (int, float, list)):
        raise ValueError(
            f"--cfg-options {key}={new}: the config has {old!r} there; give a "
            f"{type(old).__name__}, for example '{key}={old}'"
        )


def check_data(cfg: Config, splits: Sequence[str]) -> None:
    """Run the check that the config names, 'package.module:function', on the given splits.

    What it returns, a table of what the data hold, is printed by the first process.
    """
    if "data_check" in cfg:
        module, function = cfg.data_check.split(":")
        table = getattr(importlib.import_module(module), function)(cfg, splits)
        if table and is_first_process():
            print_log(table)
