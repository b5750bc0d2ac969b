"""The image tower in a file of SAM 3, in the official layout of PE; what else it holds, by name.

SAM 3's released file holds a detector, with a text tower, and a tracker. The image tower, a PE
trained further, lies under `detector.backbone.vision_backbone.trunk.` with detectron2's names.

Source: facebookresearch/sam3 @ 99d02f2 (sam3/model/vitdet.py, necks.py, vl_combiner.py,
model_builder.py: `_load_checkpoint`), written from the description. SAM 3.1 has the tower under the
same names, without the tables of its rotary positions.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping

import torch
from torch import Tensor

from pe_dense.encoders.conversion import State, shorten, timm_to_official
from pe_dense.encoders.rotation import rope_table

_TRUNK = "backbone.vision_backbone.trunk."
_ANCHOR = _TRUNK + "patch_embed.proj.weight"
# Tables of rotary positions: complex, or their two parts.
_ROTARY = re.compile(r"blocks\.(\d+)\.attn\.freqs_cis(_real|_imag)?")
ROTARY_TOLERANCE = 1e-2  # of cosines and sines; also bfloat16 keeps that


def is_sam3(state: Mapping[str, Tensor]) -> bool:
    """Whether a state dict has SAM 3's image tower under its name."""
    return any(key.endswith(_ANCHOR) for key in state)


def sam3_to_official(state: Mapping[str, Tensor]) -> tuple[State, tuple[str, ...]]:
    """The image tower of a SAM 3 file in the official layout of PE.

    Keys below the trunk that are unknown keep their name, for the strict load to refuse. Tables of
    rotary positions are made anew by the tower: those of the file are compared with SAM 3's rule
    (one step of pre-training in windows; the side of a window over all tokens in global blocks).

    Args:
        state: All tensors of the file by name.

    Returns:
        The tower, and in words what of the file is not part of it.

    Raises:
        ValueError: If there are several towers, or rotary positions of another rule.

    Example:
        >>> one = torch.ones(1, 1, 1, 1)
        >>> key = "detector.backbone.vision_backbone.trunk.patch_embed.proj.weight"
        >>> tower, left = sam3_to_official({key: one, "tracker.a": one, "tracker.b": one})
        >>> list(tower), left
        (['conv1.weight'], ('left out: 2 entries that are not of the image tower (tracker 2)',))
    """
    anchors = [key for key in state if key.endswith(_ANCHOR)]
    if len(anchors) > 1:
        names = ", ".join(repr(key.removesuffix("patch_embed.proj.weight")) for key in anchors)
        raise ValueError(
            f"it holds {len(anchors)} image towers (under {names}); save the one you want alone"
        )
    prefix = anchors[0].removesuffix("patch_embed.proj.weight")
    trunk = {key.removeprefix(prefix): v for key, v in state.items() if key.startswith(prefix)}
    rotary = {key: trunk.pop(key) for key in list(trunk) if _ROTARY.fullmatch(key)}
    _check_rotary(rotary)
    timm = {
        "norm_pre." + key.removeprefix("ln_pre.") if key.startswith("ln_pre.") else key: value
        for key, value in trunk.items()
    }
    notes = []
    if rotary:
        notes.append(f"left out: {len(rotary)} tables of rotary positions, equal to the tower's")
    others = [key for key in state if not key.startswith(prefix)]
    if others:
        counts = Counter(_part_of(key, prefix) for key in others)
        parts = ", ".join(f"{part} {count}" for part, count in counts.items())
        notes.append(f"left out: {len(others)} entries that are not of the image tower ({parts})")
    return timm_to_official(timm), tuple(notes)


def _part_of(key: str, prefix: str) -> str:
    """What a key belongs to: the first name in which it leaves the path of the tower."""
    words, path = key.split("."), prefix.split(".")
    shared = 0
    while shared < min(len(words), len(path)) and words[shared] == path[shared]:
        shared += 1
    return ".".join(words[: shared + 1])


def _check_rotary(tables: Mapping[str, Tensor]) -> None:
    """Compare tables (N, D / 2) with the rule, N = side^2; the smallest side is a window's.

    Raises:
        ValueError: If one has another shape or other values.
    """
    sides = {key: math.isqrt(table.shape[0]) for key, table in tables.items()}
    wrong = []
    for key, table in tables.items():
        side, kind = sides[key], _ROTARY.fullmatch(key)[2]
        if table.ndim != 2 or table.shape[0] != side**2 or table.shape[1] % 2:
            raise ValueError(
                f"its {key} has shape {tuple(table.shape)}, and a table of rotary positions has a "
                "row for every token of a square grid; give the released file"
            )
        step = min(sides.values()) / side
        expected = rope_table((side, side), 2 * table.shape[1], (step, step), 0.0, 0)
        if kind is not None:
            expected = expected[..., ("_real", "_imag").index(kind)]
        found = torch.view_as_real(table) if table.is_complex() else table
        if found.shape != expected.shape or not torch.allclose(
            found.float(), expected, rtol=0, atol=ROTARY_TOLERANCE
        ):
            wrong.append(key)
    if wrong:
        raise ValueError(
            f"its rotary positions {shorten(wrong, 2)} are not those of SAM 3, "
            "which the tower makes itself; give the released file, or remove them from it"
        )
