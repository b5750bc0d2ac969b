"""Before a training with `layers=best`: the block is chosen once, and kept with the run.

The first process chooses, all others are told. The choice lies in the work dir (`FILE`) from then
on, and in every checkpoint; a run that goes on takes it from there and does not choose again.
"""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.dist import init_dist, is_distributed
from mmengine.logging import print_log
from mmengine.registry import init_default_scope

from pe_dense.files import atomic_write_text, file_sha256
from pe_dense.openmmlab.read_once import of_first_process
from pe_dense.run.checkpoint import load_checkpoint_safely, newest_checkpoint
from pe_dense.run.config import check_data, encoder_facts, named_function, resolved
from pe_dense.run.launch import is_first_process, processes, use_device
from pe_dense.run.layers_option import (
    CHOSEN,
    CHOSEN_WORDS,
    chooses,
    name_of,
    without_choice,
)
from pe_dense.run.options import configured
from pe_dense.run.protocol import protocol_sha256
from pe_dense.run.request import Loaded, RunRequest

FILE = "layer_choice.json"


def with_chosen_layers(
    request: RunRequest, loaded: Loaded, resume: bool, splits: Sequence[str]
) -> tuple[Loaded, bool]:
    """The config with the block that was chosen, and whether its data were looked at for that.

    Args:
        request: Of the run.
        loaded: Its config, before the choice.
        resume: Whether the run may go on.
        splits: Whose data are looked at first, as `check_data` takes them.

    Raises:
        ValueError: If the data are not sound, or the run that goes on does not know its block.
    """
    if not chooses(loaded.template):
        if "layer_choice" in loaded.template:
            blocks = loaded.cfg[name_of(loaded.cfg)]
            _tell(f"{name_of(loaded.cfg)}: {blocks}, not chosen by these data")
        return loaded, False
    work_dir = Path(request.work_dir or request.default_work_dir())
    newest = newest_checkpoint(work_dir)
    if newest is not None:
        return (_as_begun(request, loaded, newest) if resume else loaded), False
    question = _question(request, loaded)
    known = _remembered(work_dir, question) if resume else None
    looked_at = known is None
    if known is None:
        known = _choose(request, loaded.cfg, work_dir, question, splits)
    else:
        _tell(f"{name_of(loaded.template)}: {known['words']}; chosen when the run began")
    return _with(request, loaded, known["layers"], known["words"]), looked_at


def _with(request: RunRequest, loaded: Loaded, layers: Sequence[int], words: str) -> Loaded:
    data = {**loaded.data, CHOSEN: list(layers), CHOSEN_WORDS: words}
    cfg = resolved(loaded.template, request.config, data)
    cfg.randomness.seed = loaded.cfg.randomness.seed
    return dataclasses.replace(loaded, cfg=cfg, data=data)


def _as_begun(request: RunRequest, loaded: Loaded, newest: Path) -> Loaded:
    """The config with the block of a run that goes on."""
    content = load_checkpoint_safely(str(newest), "cpu", mapped=True)
    recipe = content.get("meta", {}).get("pe_dense", {}).get("recipe") or {}
    data = recipe.get("data") or {}
    if CHOSEN not in data:
        raise ValueError(
            f"{newest.parent} holds a run with other settings, which chose no block; go on with "
            "the command of its training, or name another --work-dir"
        )
    _tell(f"{name_of(loaded.template)}: {data[CHOSEN_WORDS]}; chosen when the run began")
    return _with(request, loaded, data[CHOSEN], data[CHOSEN_WORDS])


def _choose(
    request: RunRequest,
    cfg: Config,
    work_dir: Path,
    question: dict[str, Any],
    splits: Sequence[str],
) -> dict[str, Any]:
    cfg = Config(cfg.to_dict(), filename=cfg.filename)
    cfg.launcher = request.launcher
    if request.amp:
        cfg.model.backbone.amp_dtype = "bfloat16"
    check_data(cfg, splits)
    use_device(cfg)
    if processes(request.launcher) > 1 and not is_distributed():
        init_dist(request.launcher, **cfg.env_cfg.dist_cfg)
    init_default_scope(cfg.get("default_scope", "mmengine"))
    return of_first_process(lambda: _chosen_here(cfg, work_dir, question))


def _chosen_here(cfg: Config, work_dir: Path, question: dict[str, Any]) -> dict[str, Any]:
    found = named_function(cfg.layer_choice)(cfg).to_plain()
    if found["layers"] is None:
        facts = encoder_facts(cfg.encoder, configured(cfg, "model.backbone.encoder_options"))
        found["layers"] = without_choice(cfg, facts["depth"], facts["four_layers"])
        found["words"] = f"{found['layers']}, as nothing chose them: {found['words']}"
        print_log(f"layers: {found['words']}", level=logging.WARNING)
    else:
        print_log(found["table"])
    work_dir.mkdir(parents=True, exist_ok=True)
    content = {**found, "question": question}
    atomic_write_text(work_dir / FILE, json.dumps(content, indent=1) + "\n")
    return found


def _tell(words: str) -> None:
    if is_first_process():
        print_log(words)


def _question(request: RunRequest, loaded: Loaded) -> dict[str, Any]:
    """All that a choice depends on."""
    cfg = loaded.cfg
    weights = Path(str(cfg.weights)).expanduser()
    return {
        "encoder": str(cfg.encoder),
        "weights": file_sha256(weights) if weights.is_file() else str(cfg.weights),
        "protocol": protocol_sha256(loaded.template, request.amp),
        "data": loaded.data.get("train_sha256"),
        "seed": cfg.randomness.seed,
    }


def _remembered(work_dir: Path, question: dict[str, Any]) -> dict[str, Any] | None:
    """The choice of a run that was killed before its first checkpoint, if it is the same run."""
    try:
        content = json.loads((work_dir / FILE).read_text(encoding="utf-8"))
        if content["question"] == question:
            return {"layers": content["layers"], "words": content["words"]}
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return None
