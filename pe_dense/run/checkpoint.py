"""Checkpoints: read without running code, loaded strictly, and what each knows of its run."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from mmengine.fileio import LocalBackend, register_backend
from mmengine.logging import HistoryBuffer, print_log
from mmengine.runner.checkpoint import CheckpointLoader

from pe_dense.encoders.low_rank import adapted_state, has_adapters, merged_state
from pe_dense.encoders.torch_file import (
    ForeignObjectsError,
    InertHistory,
    read_torch_file,
    stand_ins_in,
)
from pe_dense.encoders.weights import WeightsInfo, read_state_dict, require_finite
from pe_dense.files import atomic_write_bytes
from pe_dense.openmmlab.foreign_layouts import FOREIGN_LAYOUTS
from pe_dense.run.near_names import near_names
from pe_dense.run.published_folder import downloaded, is_hub_name, read_folder, weights_of_folder
from pe_dense.run.validations import read_validations


@dataclass(frozen=True)
class RunFacts:
    """What a checkpoint knows of the run that wrote it; it lies in its meta under 'pe_dense'.

    Task folders may keep entries of their own beside these.

    Attributes:
        encoder: Name in the zoo.
        weights: What the encoder started from; None before it is built.
        protocol_sha256: Hash of what was done; None where the training is not known.
        seed: Of the run.
        amp: Whether the encoder ran in bfloat16.
        world_size: Number of processes that the run began with.
        start_from: Checkpoint of the whole model that was fine-tuned, or None.
        train_command: The command line, '' where nothing was trained here.
        train_seconds: Seconds of training, None where nothing was trained here.
        commit: Commit that was trained at.
        dirty: Whether the tree differed from it.
        requested_weights: As the user named them.
        canvas: Side in pixels that positions are bound to, or None.
        classes: Names that were found in the data, or None where the config has them.
        own_annotations: sha256 of the user's annotation files by split, or None.
        accepted: Faults of the data that were accepted by name, 'negative-boxes (3 in a/val.json)'.
        speed: Options of `speed.OPTIONS` that were on.
        validated_on: Hash of the labels and pictures that the run validates on, or None.
        trained_on: Hash over what the run trains on, `trained_files.trained_sha256`, or None.
        went_on_at: Other commits at which the run went on after it had been stopped.
        loop: How far the run was to train and what it validates on, `checkpoint_choice.loop_of`;
            None in checkpoints that do not know.
        total_batch: Images of a step on all processes; None in checkpoints that do not know, and
            where nothing is trained in batches.
        recipe: The config and what was typed, `recipe.Recipe.to_meta`; None in checkpoints that
            do not know.
    """

    encoder: str
    weights: WeightsInfo | None
    protocol_sha256: str | None
    seed: int
    amp: bool
    world_size: int
    start_from: WeightsInfo | None
    train_command: str
    train_seconds: float | None
    commit: str
    dirty: bool
    requested_weights: str | None = None
    canvas: Any = None
    classes: list[str] | None = None
    own_annotations: dict[str, str | None] | None = None
    accepted: list[str] = field(default_factory=list)
    speed: list[str] = field(default_factory=list)
    validated_on: str | None = None
    trained_on: str | None = None
    went_on_at: list[str] = field(default_factory=list)
    loop: dict[str, Any] | None = None
    total_batch: int | None = None
    recipe: dict[str, Any] | None = None

    @classmethod
    def from_meta(cls, meta: Mapping[str, Any], file: str | Path) -> RunFacts:
        """Read what `to_meta` wrote; `file` is how errors call the checkpoint.

        Raises:
            ValueError: If something is missing.
        """
        needed = {
            f.name
            for f in dataclasses.fields(cls)
            if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
        }
        strange = ValueError(
            f"checkpoint {file} was not written by tools/train.py, or by another version of it; "
            "train it there"
        )
        if not meta.keys() >= needed:
            raise strange
        own = {f.name: meta[f.name] for f in dataclasses.fields(cls) if f.name in meta}
        # MMEngine's configs have a class for dicts, which a safe loader of checkpoints refuses.
        own |= {name: dict(value) for name, value in own.items() if isinstance(value, Mapping)}
        for name in ("weights", "start_from"):
            if own[name] is None:
                continue
            try:
                known = {f.name for f in dataclasses.fields(WeightsInfo)}
                given = {key: value for key, value in own[name].items() if key in known}
                own[name] = WeightsInfo(**given | {"notes": tuple(given.get("notes", ()))})
            except (AttributeError, KeyError, TypeError):
                raise strange from None
        return cls(**own)

    def to_meta(self) -> dict[str, Any]:
        """Plain values, which a checkpoint may hold."""
        return dataclasses.asdict(self)

    @property
    def scored_weights(self) -> WeightsInfo:
        """What a record names: where everything came from a checkpoint, the encoder did too."""
        weights = self.start_from or self.weights
        assert weights is not None, "asked before the encoder was built"
        return weights

    def settings(self) -> dict[str, Any]:
        """What a run may not change when it goes on; the rest tells how it went.

        The number of processes may; the images of a step are in the hash of the protocol.
        """
        told = (
            "weights", "train_command", "train_seconds", "commit", "dirty", "accepted", "loop",
            "went_on_at", "validated_on", "trained_on", "world_size", "total_batch",
            "recipe",
        )  # fmt: skip
        return {name: value for name, value in self.to_meta().items() if name not in told}


class AtomicLocalBackend(LocalBackend):
    """Local files that are either the old ones or the whole new ones, never half."""

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write bytes next to `filepath`, flush them to the disk, then rename."""
        atomic_write_bytes(filepath, obj)


def install() -> None:
    """Make MMEngine write local files whole and read checkpoints without running code.

    Its readers of addresses ('https://', 'open-mmlab://' ...) fall back to running what a file
    says, so they are replaced, too.
    """
    register_backend("local", AtomicLocalBackend, prefixes="", force=True)
    addresses = [prefix for prefix in CheckpointLoader._schemes if prefix]
    CheckpointLoader.register_scheme(prefixes=addresses, loader=_refuse_address, force=True)
    CheckpointLoader.register_scheme(prefixes="", loader=load_checkpoint_safely, force=True)


def _refuse_address(filename: str, map_location: Any = None, **options: Any) -> NoReturn:
    raise ValueError(
        f"checkpoint {filename} is an address, and only files are read; download it and give its "
        "path"
    )


def load_checkpoint_safely(filename: str, map_location: Any = None, mapped: bool = False) -> dict:
    """Read a checkpoint without running code from it.

    MMEngine falls back to `weights_only=False` when a file holds other objects; this does not.
    Published detectors keep their tensors under 'model', beside settings that are skipped without
    touching their classes; safetensors files hold tensors alone. A 'config' in the meta, which
    MMEngine would execute, is dropped.

    Args:
        filename: The file.
        map_location: As of `torch.load`.
        mapped: Map it into memory, for tensors that are copied before the file may go. Then it
            costs memory only for what is copied, and processes of a machine read it once.

    Returns:
        The checkpoint; 'state_dict' is always there, 'meta' only if tools/train.py wrote it.

    Raises:
        ValueError: If the file is missing, damaged, holds objects that need code to load, or
            numbers that are not finite.
    """
    checkpoint = _read(filename, map_location, mapped)
    require_finite(checkpoint["state_dict"], filename)
    return checkpoint


def _checkpoints_beside(path: Path) -> list[str]:
    """Names of the checkpoints, and of the folders with some, in the folder of a file."""
    try:
        beside = list(path.parent.iterdir())
        return [b.name for b in beside if b.suffix == ".pth" or next(b.glob("*.pth"), None)]
    except OSError:
        return []


def _read(filename: str, map_location: Any, mapped: bool) -> dict:
    path = Path(filename).expanduser()
    if not path.is_file():
        near = [] if path.exists() else near_names(path.name, _checkpoints_beside(path))
        remedy = f"did you mean {' or '.join(str(path.parent / name) for name in near)}?"
        raise ValueError(
            f"checkpoint {filename} does not exist; "
            f"{remedy if near else 'give a .pth file or a work dir'}"
        )
    if path.suffix == ".safetensors":
        return read_folder(path) or {"state_dict": read_state_dict(path)}
    remedy = "use one that tools/train.py wrote, or delete it and continue from an earlier one"
    try:
        checkpoint = read_torch_file(path, map_location, mapped)
    except ForeignObjectsError as error:
        raise ValueError(
            f"checkpoint {filename} holds objects that could run code and was not loaded; {remedy}"
        ) from error
    except ValueError as error:
        raise ValueError(
            f"checkpoint {filename} is damaged and was not loaded; {remedy}"
        ) from error
    if isinstance(checkpoint, dict) and isinstance(checkpoint.get("model"), dict):
        return {"state_dict": read_state_dict(path)}
    if not isinstance(checkpoint, dict) or not isinstance(checkpoint.get("state_dict"), dict):
        raise ValueError(
            f"checkpoint {filename} has no 'state_dict'; it was not written by tools/train.py "
            "(encoder weights alone belong in --weights)"
        )
    if isinstance(checkpoint.get("message_hub"), dict):
        checkpoint["message_hub"] = _with_histories(checkpoint["message_hub"])
    strange = stand_ins_in(checkpoint)
    if strange:
        raise ValueError(
            f"checkpoint {filename} holds an object that is no number at {strange[0]} and was not "
            f"loaded; {remedy}"
        )
    if isinstance(checkpoint.get("meta"), dict):
        checkpoint["meta"].pop("config", None)
    return checkpoint


def _with_histories(hub: dict[str, Any]) -> dict[str, Any]:
    """MMEngine's message hub with its histories of scalars built anew from their numbers."""
    scalars = hub.get("log_scalars")
    for name, history in dict(scalars if isinstance(scalars, dict) else {}).items():
        if isinstance(history, InertHistory) and isinstance(history.state, dict):
            logs, counts = (history.state.get(f"_{key}_history") for key in ("log", "count"))
            length = history.state.get("max_length")
            if _is_row(logs) and _is_row(counts) and type(length) is int and length > 0:
                scalars[name] = HistoryBuffer(logs, counts, length)
    return hub


def _is_row(values: Any) -> bool:
    return isinstance(values, np.ndarray) and values.ndim == 1


def checkpoint_file(checkpoint: Path) -> Path:
    """The file itself, or of a work dir the best checkpoint where it was chosen, else the newest.

    Chosen is what `keep_best.KeepBest` keeps; which one it took is said. Of a published folder the
    weights; 'hf://owner/name' is one that is downloaded.
    """
    if is_hub_name(checkpoint):
        checkpoint = downloaded(checkpoint)
    if not checkpoint.is_dir():
        return checkpoint
    if published := weights_of_folder(checkpoint):
        return published
    validations = read_validations(checkpoint)
    best = None if validations is None else validations.best_file()
    if validations is not None and best is not None and (checkpoint / best).is_file():
        print_log(f"{checkpoint / best}: {validations.in_words()}", logger="current")
        return checkpoint / best
    newest = newest_checkpoint(checkpoint)
    if newest is None:
        raise ValueError(f"{checkpoint} holds no finished checkpoint; train there first")
    return newest


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

    LoRA updates of a checkpoint become part of the weights of a model without them, and a
    checkpoint without them leaves those of a model as they are.

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
    loaded = adapted_state(loaded, own) if has_adapters(model) else merged_state(loaded)
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
    downs = [key for key in shapes if ".lora_A." in key]
    if downs:
        rank = state[downs[0]].shape[0]
        hint = f"its LoRA updates are of rank {rank}: give tune=lora={rank}"
    raise ValueError(f"checkpoint {filename} does not fit the model ({'; '.join(words)}); {hint}")
