"""Checkpoint files in and out: one file of any known layout converted into another.

Files are written beside their place, flushed to the disk and renamed, so that a place holds the old
file or the whole new one.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pe_dense.detection.checkpoint_conversion import Converted, convert, find_layout
from pe_dense.encoders.low_rank import merged_state
from pe_dense.encoders.torch_file import read_torch_file, stand_ins_in
from pe_dense.encoders.weights import read_state_dict, resolve_weights
from pe_dense.files import atomic_file

SUFFIXES = (".pth", ".pt", ".safetensors")


def convert_file(
    source: str,
    target: Path,
    to: str,
    read_as: str | None = None,
    num_classes: int | None = None,
    encoder_only: bool = False,
    overwrite: bool = False,
) -> Converted:
    """Convert a checkpoint file.

    What tools/train.py noted in one of our checkpoints is kept from one .pth file of ours to
    another, so that tools/test.py scores it as the run that it is. Optimizer states and averaged
    weights are left out, and LoRA updates added to their weights.

    Args:
        source: Path, or 'hf://repo[:file]'.
        target: File to write, .pth, .pt or .safetensors.
        to: Layout, one of `checkpoint_conversion.LAYOUTS`.
        read_as: Layout of the source; None recognises it.
        num_classes: 80 or 91, for a DETA on COCO.
        encoder_only: Leave neck and heads out.
        overwrite: Replace an existing file.

    Raises:
        ValueError: If a file cannot be read, converted or written, in one sentence.
    """
    require_target(target, overwrite)
    path = resolve_weights(source)
    state = merged_state(read_state_dict(path))
    try:
        converted = convert(state, to, read_as, num_classes, encoder_only)
    except ValueError as error:
        raise ValueError(f"{source} cannot be converted: {error}") from error
    facts = None
    if to == "ours" and path.suffix != ".safetensors" and not encoder_only:
        facts = _facts_of_training(path) if find_layout(state, read_as).layout == "ours" else None
    if target.suffix == ".safetensors" and facts is not None:
        note = "safetensors files hold no facts of training, which tools/test.py needs: use .pth"
        converted = Converted(
            converted.state, converted.found, converted.written, (*converted.notes, note)
        )
    write_checkpoint(converted.state, target, to, facts)
    return converted


def require_target(target: Path, overwrite: bool) -> None:
    """Refuse a place where no checkpoint can be written, or that is taken.

    Raises:
        ValueError: If it is one.
    """
    if target.suffix not in SUFFIXES:
        raise ValueError(f"{target} must end in {', '.join(SUFFIXES)}, which says what is written")
    if target.is_dir():
        raise ValueError(f"{target} is a folder; name the file to write")
    if target.exists() and not overwrite:
        raise ValueError(f"{target} exists already; pass --overwrite to replace it")


def _facts_of_training(path: Path) -> Mapping[str, Any] | None:
    """What tools/train.py left in the meta of a checkpoint, if it wrote it."""
    content = read_torch_file(path, mapped=True)
    facts = (content.get("meta") or {}).get("pe_dense")
    if stand_ins_in(facts):
        raise ValueError(f"{path} holds objects in the facts of its training; train it again")
    return facts


def write_checkpoint(
    state: Mapping[str, Tensor], target: Path, layout: str, facts: Mapping[str, Any] | None = None
) -> None:
    """Write a state dict as projects of its layout expect it, whole or not at all.

    In .pth and .pt files it lies under 'model' (detectron2, deta), 'state_dict' (ours) or alone
    (official, timm).

    Args:
        state: Tensors by name.
        target: File; its folder is made.
        layout: One of `checkpoint_conversion.LAYOUTS`.
        facts: Entries for `meta.pe_dense`, in .pth and .pt files of ours.
    """
    with atomic_file(target) as temporary:
        if target.suffix == ".safetensors":
            _write_safetensors(state, temporary)
        else:
            _write_torch(state, temporary, layout, facts)


def _write_torch(
    state: Mapping[str, Tensor], path: Path, layout: str, facts: Mapping[str, Any] | None
) -> None:
    tensors = {key: _alone(value) for key, value in state.items()}
    key = {"detectron2": "model", "deta": "model", "ours": "state_dict"}.get(layout)
    content: dict[str, Any] = tensors if key is None else {key: tensors}
    if facts is not None:
        content["meta"] = {"pe_dense": dict(facts)}
    with path.open("wb") as file:  # a path would be written into the file
        torch.save(content, file)


def _alone(value: Tensor) -> Tensor:
    """The tensor without the rest of a larger storage that it is a view of."""
    whole = value.untyped_storage().nbytes() == value.numel() * value.element_size()
    return value if whole and value.is_contiguous() else value.clone().contiguous()


def _write_safetensors(state: Mapping[str, Tensor], path: Path) -> None:
    try:
        from safetensors.torch import save_file
    except ModuleNotFoundError as error:
        raise ValueError("safetensors is not installed; pip install safetensors") from error
    seen: set[int] = set()
    tensors = {}
    for key, value in state.items():  # the format has no aliases
        shared = value.data_ptr() in seen
        seen.add(value.data_ptr())
        tensors[key] = value.clone() if shared else _alone(value)
    save_file(tensors, path, metadata={"format": "pt"})
