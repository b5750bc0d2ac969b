"""Runs that survive SIGKILL: atomic files, safe checkpoints, exact resumption.

Importing this module swaps MMEngine's local file writer and checkpoint reader for stricter ones.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import random
import re
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.dataset.utils import worker_init_fn
from mmengine.dist import get_rank
from mmengine.fileio import LocalBackend, register_backend
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.registry import HOOKS
from mmengine.runner import IterBasedTrainLoop, Runner
from mmengine.runner.checkpoint import CheckpointLoader, get_torch_safe_globals

from pe_dense.encoders.weights import read_state_dict


class AtomicLocalBackend(LocalBackend):
    """Local files that are either the old ones or the whole new ones, never half."""

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write bytes next to `filepath`, flush them to the disk, then rename."""
        target = Path(filepath)
        target.parent.mkdir(parents=True, exist_ok=True)
        # Unlike tempfile's, the mode of this file follows the umask: others may read checkpoints.
        temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
        try:
            with temporary.open("xb") as file:
                file.write(obj)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(target)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


register_backend("local", AtomicLocalBackend, prefixes="", force=True)


# Functions (state dict, model) -> state dict in our layout, or None where they do not know it. Task
# folders add those of published checkpoints; `load_strictly` asks them in turn.
FOREIGN_LAYOUTS: list[Callable[[Mapping[str, Any], torch.nn.Module], dict[str, Any] | None]] = []


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


CheckpointLoader.register_scheme(prefixes="", loader=load_checkpoint_safely, force=True)


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


def _iteration_seed(*parts: int) -> int:
    return int(np.random.SeedSequence(parts).generate_state(1)[0])


def seed_everything(seed: int) -> None:
    """Seed the generators of Python, NumPy and PyTorch."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 (mmdet's transforms use the global generator)
    torch.manual_seed(seed)


class SeededBatches:
    """A loader's `collate_fn` that seeds a worker before each of its batches.

    MMEngine resumes an iteration-based loop at the right images, but with workers whose generators
    start anew: the crops of a resumed run would be others. Here they depend on the number of the
    batch alone.

    Args:
        collate_fn: The loader's own.
        parts: Numbers that the seeds depend on: seed and rank.
        first: Number of the batch that is loaded first.
    """

    def __init__(
        self, collate_fn: Callable[[Any], Any], parts: tuple[int, ...], first: int
    ) -> None:
        self.collate_fn, self.parts, self._batch = collate_fn, parts, first
        self._step = 0  # 0 in the main process, which the hook seeds

    def seed_of(self, batch: int) -> int:
        """Seed of a batch by its number."""
        return _iteration_seed(*self.parts, batch, 3)

    def enter_worker(self, num_workers: int, worker_id: int) -> None:
        """As `worker_init_fn`: this process loads every `num_workers`-th batch."""
        self._batch, self._step = self._batch + worker_id, num_workers
        seed_everything(self.seed_of(self._batch))

    def __call__(self, samples: Any) -> Any:
        """Collate the samples of a batch, then seed for the next one."""
        batch = self.collate_fn(samples)
        if self._step:
            self._batch += self._step
            seed_everything(self.seed_of(self._batch))
        return batch


@HOOKS.register_module()
class ExactResumeHook(Hook):
    """Makes a resumed run equal an uninterrupted one, and counts the seconds of training.

    Random numbers of the model are a function of (seed, rank, iteration) and those of the
    loading workers a function of (seed, rank, epoch), or in iteration-based loops of (seed, rank,
    batch), so nothing about generators has to be stored. Epoch-based loops resume at the last
    finished epoch. Workers must not persist over epochs, which the hook checks.

    The checkpoint's meta carries what `tools/test.py` needs for a record: where the encoder's
    weights came from, and the training command.

    Args:
        facts: Extra entries for the checkpoint's meta, under 'pe_dense'.
        start_from: Checkpoint of the whole model to fine-tune from. It is loaded strictly;
            MMEngine's own `load_from` would let half a model through with a log line.
        start_without: Beginnings of parameter names that are not taken from `start_from`.
    """

    priority = "VERY_HIGH"

    def __init__(
        self,
        facts: Mapping[str, Any] | None = None,
        start_from: str | None = None,
        start_without: Sequence[str] = (),
    ) -> None:
        # A config turns every dict into its own class, which a safe loader of checkpoints refuses.
        self.facts = {
            key: dict(value) if isinstance(value, Mapping) else value
            for key, value in (facts or {}).items()
        }
        self.start_from, self.start_without = start_from, start_without
        self._started = 0.0

    def before_train(self, runner: Runner) -> None:
        """Refuse persistent workers, load what is fine-tuned, start the clock."""
        if getattr(runner.train_dataloader, "persistent_workers", False):
            raise ValueError(
                "persistent_workers=True keeps random states that a resumed run cannot restore; "
                "set train_dataloader.persistent_workers=False"
            )
        if self.start_from is not None:
            model = runner.model.module if is_model_wrapper(runner.model) else runner.model
            content = load_checkpoint_safely(self.start_from, "cpu")
            load_strictly(model, content, self.start_from, self.start_without)
        self._started = time.monotonic() - _seconds_so_far(runner)

    def before_train_epoch(self, runner: Runner) -> None:
        """Seed the workers of this epoch, and what the main process draws before its first step."""
        loader = runner.train_dataloader
        if self._counts_iterations(runner):  # one "epoch", which a resumed run enters midway
            collate_fn = getattr(loader.collate_fn, "collate_fn", loader.collate_fn)
            batches = SeededBatches(collate_fn, (runner.seed, get_rank()), runner.iter)
            loader.collate_fn = batches
            loader.worker_init_fn = functools.partial(batches.enter_worker, loader.num_workers)
            self._seed_everything(batches.seed_of(runner.iter))
            return
        seed = _iteration_seed(runner.seed, get_rank(), runner.epoch, 0)
        loader.worker_init_fn = functools.partial(
            worker_init_fn, num_workers=loader.num_workers, rank=0, seed=seed % 2**31
        )
        self._seed_everything(_iteration_seed(runner.seed, get_rank(), runner.epoch, 1))

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Seed what the model draws in this step."""
        self._seed_everything(_iteration_seed(runner.seed, get_rank(), runner.iter, 2))

    def after_val_epoch(self, runner: Runner, metrics: Mapping[str, float] | None = None) -> None:
        """Seed the next batch again where the main process loads it, whatever validation drew."""
        if self._counts_iterations(runner):
            self._seed_everything(_iteration_seed(runner.seed, get_rank(), runner.iter, 3))

    @staticmethod
    def _counts_iterations(runner: Runner) -> bool:
        return isinstance(getattr(runner, "_train_loop", None), IterBasedTrainLoop)

    @staticmethod
    def _seed_everything(seed: int) -> None:
        seed_everything(seed)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Keep the seconds of training where checkpoints carry them."""
        runner.message_hub.update_info("train_seconds", time.monotonic() - self._started)
        if self._counts_iterations(runner):  # for a batch that the main process loads
            self._seed_everything(_iteration_seed(runner.seed, get_rank(), runner.iter + 1, 3))

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Add to the checkpoint's meta what a record needs."""
        seconds = time.monotonic() - self._started
        sources = [
            dataclasses.asdict(module.weights_info)
            for module in runner.model.modules()
            if dataclasses.is_dataclass(getattr(module, "weights_info", None))
        ]
        facts = {**self.facts, "train_seconds": seconds}
        if sources:
            facts["weights"] = sources[0]
        checkpoint["meta"]["pe_dense"] = facts


def _seconds_so_far(runner: Runner) -> float:
    return float(runner.message_hub.runtime_info.get("train_seconds", 0.0))
