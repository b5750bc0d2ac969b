"""Checkpoints: read without running code, loaded strictly, and what each knows of its run."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from mmengine.config import Config
from mmengine.fileio import LocalBackend, register_backend
from mmengine.runner.checkpoint import CheckpointLoader, get_torch_safe_globals

from pe_dense.encoders.conversion import trained_canvas
from pe_dense.encoders.weights import read_state_dict
from pe_dense.files import atomic_write_bytes, file_sha256
from pe_dense.openmmlab.foreign_layouts import FOREIGN_LAYOUTS
from pe_dense.results import provenance
from pe_dense.results.provenance import repository_root
from pe_dense.run.config import load_config, load_template
from pe_dense.run.protocol import (
    protocol_sha256,
)

# What tools/train.py leaves in the meta of every checkpoint.
NEEDED_FACTS = {
    "encoder", "weights", "protocol_sha256", "seed", "amp", "world_size", "start_from",
    "train_command", "train_seconds", "commit", "dirty",
}  # fmt: skip


class TrainedRun(NamedTuple):
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
    facts: dict[str, Any]
    cfg: Config
    template: Config


def open_run(
    config: str,
    checkpoint: Path,
    encoder: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> TrainedRun:
    """Read a checkpoint and the config that it is to be used with; arguments as in `evaluate`.

    Raises:
        ValueError: If the two do not fit.
    """
    file = checkpoint_file(checkpoint)
    content = load_checkpoint_safely(str(file), map_location="cpu")
    facts = content.get("meta", {}).get("pe_dense")
    if facts is None:
        facts = published_facts(config, encoder, file, content["state_dict"])
    if not facts.keys() >= NEEDED_FACTS:
        raise ValueError(
            f"checkpoint {file} was not written by tools/train.py, or by another version of it; "
            "train it there"
        )
    cfg, template = load_config(config, encoder or facts["encoder"], "random", options)
    if cfg.get("training_free"):
        raise ValueError(
            f"config {config} trains nothing and takes no checkpoint; leave {checkpoint} out"
        )
    if cfg.encoder != facts["encoder"]:
        raise ValueError(
            f"checkpoint {file} holds {facts['encoder']}, not {cfg.encoder}; leave --encoder out"
        )
    trained_canvas = facts.get("canvas")
    if trained_canvas is not None and cfg.get("canvas") != trained_canvas:
        raise ValueError(
            f"checkpoint {file} was trained on a canvas of {trained_canvas} px, and the config has "
            f"{cfg.get('canvas')}; positions would not fit: set --cfg-options "
            f"canvas={trained_canvas}, or use a config of that canvas"
        )
    trained = facts.get("classes")
    if trained is not None and list(cfg.classes) != trained:
        raise ValueError(
            f"checkpoint {file} was trained on {class_words(trained)}, but the data have "
            f"{class_words(cfg.classes)}; score it on data with the same classes in the same order"
        )
    return TrainedRun(file, content, facts, cfg, template)


def open_untrained(
    config: str,
    encoder: str | None = None,
    weights: str | None = None,
    options: Mapping[str, Any] | None = None,
    seed: int | None = None,
    amp: bool = False,
) -> TrainedRun:
    """What stands in for a checkpoint under a protocol that trains nothing; see `evaluate`.

    Raises:
        ValueError: If the config does train.
    """
    cfg, template = load_config(config, encoder, weights, options)
    if not cfg.get("training_free"):
        raise ValueError(
            f"config {config} trains a model; name its checkpoint, which tools/train.py makes"
        )
    if seed is not None:
        cfg.randomness.seed = seed
    commit, dirty = provenance.git_state(repository_root())
    facts = {
        "encoder": cfg.encoder,
        "weights": None,  # known once the encoder is built
        "protocol_sha256": protocol_sha256(template, amp),
        "seed": cfg.randomness.seed,
        "amp": amp,
        "world_size": 1,
        "start_from": None,
        "train_command": "",
        "train_seconds": None,
        "commit": commit,
        "dirty": dirty,
    }
    return TrainedRun(None, None, facts, cfg, template)


def class_words(classes: Sequence[str], limit: int = 8) -> str:
    """How errors name a list of classes.

    Example:
        >>> class_words(["cat", "dog"])
        '2 classes (cat, dog)'
    """
    tail = ", ..." if len(classes) > limit else ""
    return f"{len(classes)} classes ({', '.join(classes[:limit])}{tail})"


def published_facts(
    config: str, encoder: str | None, file: Path, state: Mapping[str, Any]
) -> dict[str, Any]:
    """What stands in for the facts of training where a detector was trained elsewhere.

    Raises:
        ValueError: If the config does not only evaluate.
    """
    cfg = load_template(config)
    if not cfg.get("evaluation_only"):
        raise ValueError(
            f"checkpoint {file} was not written by tools/train.py; published detectors are scored "
            "with a config that only evaluates (its name ends in _eval or _tta)"
        )
    commit, dirty = provenance.git_state(repository_root())
    return {
        "encoder": encoder or cfg.encoder,
        "weights": {"source": file.name, "sha256": file_sha256(file), "notes": ()},
        "protocol_sha256": None,
        "seed": cfg.randomness.seed,
        "amp": False,
        "world_size": 1,
        "start_from": None,
        "train_command": "",
        "train_seconds": None,
        "commit": commit,
        "dirty": dirty,
        "canvas": trained_canvas(state),
    }


def checkpoint_file(checkpoint: Path) -> Path:
    """The file itself, or the newest checkpoint of a work dir."""
    if not checkpoint.is_dir():
        return checkpoint
    newest = newest_checkpoint(checkpoint)
    if newest is None:
        raise ValueError(f"{checkpoint} holds no finished checkpoint; train there first")
    return newest


class AtomicLocalBackend(LocalBackend):
    """Local files that are either the old ones or the whole new ones, never half."""

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write bytes next to `filepath`, flush them to the disk, then rename."""
        atomic_write_bytes(filepath, obj)


def install() -> None:
    """Make MMEngine write local files whole and read checkpoints without running code."""
    register_backend("local", AtomicLocalBackend, prefixes="", force=True)
    CheckpointLoader.register_scheme(prefixes="", loader=load_checkpoint_safely, force=True)


def load_checkpoint_safely(filename: str, map_location: Any = None) -> dict:
    """Read a checkpoint without running code from it.

    MMEngine falls back to `weights_only=False` when a file holds other objects; this does not.
    Published detectors keep their tensors under 'model', beside settings that are skipped without
    touching their classes; safetensors files hold tensors alone.

    Returns:
        The checkpoint; 'state_dict' is always there, 'meta' only if tools/train.py wrote it.

    Raises:
        ValueError: If the file is missing, damaged, or holds objects that need code to load.
    """
    path = Path(filename).expanduser()
    if not path.is_file():
        raise ValueError(f"checkpoint {filename} does not exist; give a .pth file or a work dir")
    if path.suffix == ".safetensors":
        return {"state_dict": read_state_dict(path)}
    try:
        with torch.serialization.safe_globals(get_torch_safe_globals()):
            checkpoint = torch.load(path, map_location=map_location, weights_only=True)
    except Exception as error:  # torch raises many kinds for damaged files
        # "Unsupported global: GLOBAL x" or "unsupported GLOBAL x whose module is blocked".
        foreign = "GLOBAL " in str(error)
        if foreign:
            with contextlib.suppress(ValueError):
                return {"state_dict": read_state_dict(path)}
        reason = "holds objects that could run code" if foreign else "is damaged"
        raise ValueError(
            f"checkpoint {filename} {reason} and was not loaded; use one that tools/train.py "
            "wrote, or delete it and continue from an earlier one"
        ) from error
    if isinstance(checkpoint, dict) and isinstance(checkpoint.get("model"), dict):
        return {"state_dict": checkpoint["model"]}
    if not isinstance(checkpoint, dict) or "state_dict" not in checkpoint:
        raise ValueError(
            f"checkpoint {filename} has no 'state_dict'; it was not written by tools/train.py "
            "(encoder weights alone belong in --weights)"
        )
    return checkpoint


def newest_checkpoint(work_dir: str | Path) -> Path | None:
    """The checkpoint of a work dir that lies furthest in training, or None.

    MMEngine's `last_checkpoint` note is not asked: a kill can leave it empty, while every
    checkpoint file is whole.
    """
    numbered = []
    for file in Path(work_dir).glob("*.pth"):
        match = re.fullmatch(r"(?:epoch|iter)_(\d+)", file.stem)
        if match:
            numbered.append((int(match.group(1)), file))
    return max(numbered)[1] if numbered else None


def remove_unfinished(work_dir: str | Path) -> None:
    """Delete the half-written copies that a killed run left beside its checkpoints."""
    for file in Path(work_dir).glob(".*.pth.*"):
        file.unlink()


def load_strictly(
    model: torch.nn.Module,
    checkpoint: Mapping[str, Any],
    filename: str,
    without: Sequence[str] = (),
) -> None:
    """Load a Runner checkpoint into the model it was written from.

    Args:
        model: The model.
        checkpoint: What `load_checkpoint_safely` read.
        filename: How errors call it.
        without: Beginnings of keys that are not loaded, whatever the checkpoint has there: these
            parameters stay as they were initialised.

    Raises:
        ValueError: If a key is missing, left over, or has another shape, or if nothing in the
            model begins as one of `without`.
    """
    own = model.state_dict()
    for prefix in without:
        if not any(key.startswith(prefix) for key in own):
            raise ValueError(
                f"start_without has {prefix!r}, but no parameter of the model begins so; they "
                f"begin with {', '.join(sorted({key.split('.')[0] for key in own}))}"
            )
    loaded = checkpoint["state_dict"]
    for convert in FOREIGN_LAYOUTS:
        try:
            converted = convert(loaded, model)
        except ValueError as error:
            raise ValueError(f"checkpoint {filename} cannot be converted: {error}") from error
        loaded = loaded if converted is None else converted
    skipped = tuple(without)
    kept = {key: value for key, value in own.items() if key.startswith(skipped)}
    state = {k: v for k, v in loaded.items() if not k.startswith(skipped)} | kept
    missing = sorted(set(own) - set(state))
    unexpected = sorted(set(state) - set(own))
    shapes = [k for k in own if k in state and own[k].shape != state[k].shape]
    if not (missing or unexpected or shapes):
        model.load_state_dict(state, strict=True)
        return
    words = []
    for what, keys in (("missing", missing), ("unexpected", unexpected), ("reshaped", shapes)):
        if keys:
            tail = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
            words.append(f"{what}: {', '.join(keys[:3])}{tail}")
    hint = "use the config, --encoder and --cfg-options that it was trained with"
    names = ("cls_branches", "fc_cls", "label_embedding")
    classes = [
        key
        for key in shapes
        if any(name in key for name in names) and state[key].shape[:1] != own[key].shape[:1]
    ]
    if classes:
        hint = (
            f"the checkpoint has {state[classes[0]].shape[0]} classes and the config "
            f"{own[classes[0]].shape[0]}; {hint}"
        )
    raise ValueError(f"checkpoint {filename} does not fit the model ({'; '.join(words)}); {hint}")
