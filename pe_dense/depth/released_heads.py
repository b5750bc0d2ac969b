"""Depth heads that DINOv2 released: their names to ours, and the whole model around them.

A released file (dinov2_vitl14_nyu_dpt_head.pth and the like) holds the head alone, under
'decode_head.'. Source of the names: DPTHead and BNHead of hub/depth/decode_heads.py in
facebookresearch/dinov2 @ b8931f7; no value changes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from pe_dense.depth.depth_head import DepthHead
from pe_dense.openmmlab.foreign_layouts import FOREIGN_LAYOUTS

HEAD = "decode_head."
_LINEAR = f"{HEAD}conv_depth.weight"
_DPT = f"{HEAD}conv_depth.head.0.weight"
_UNITS = {"1": "skip_unit", "2": "unit"}
_CONVOLUTIONS = {"1": "1", "2": "3"}
_RULES: list[tuple[str, Any]] = [
    (r"conv_depth\.head\.0\.(\w+)", r"halve.\1"),
    (r"conv_depth\.head\.2\.(\w+)", r"detail.\1"),
    (r"conv_depth\.head\.4\.(\w+)", r"conv_seg.\1"),
    (r"conv_depth\.(\w+)", r"conv_seg.\1"),
    (r"reassemble_blocks\.projects\.(\d)\.conv\.(\w+)", r"reassemble.\1.project.\2"),
    (r"reassemble_blocks\.resize_layers\.(\d)\.(\w+)", r"reassemble.\1.resize.\2"),
    (r"reassemble_blocks\.readout_projects\.(\d)\.0\.(\w+)", r"reassemble.\1.merge.\2"),
    (r"convs\.(\d)\.conv\.weight", r"narrow.\1.weight"),
    # Blocks are counted from the coarsest stage there, and stages from the finest here.
    (
        r"fusion_blocks\.([0-3])\.project\.conv\.(\w+)",
        lambda found: f"fusion.{3 - int(found[1])}.project.{found[2]}",
    ),
    (
        r"fusion_blocks\.([0-3])\.res_conv_unit([12])\.conv([12])\.conv\.weight",
        lambda found: (
            f"fusion.{3 - int(found[1])}.{_UNITS[found[2]]}.layers.{_CONVOLUTIONS[found[3]]}.weight"
        ),
    ),
    (r"project\.conv\.(\w+)", r"smooth.\1"),
]


def is_released_head(state: Mapping[str, Any]) -> bool:
    """Whether the keys are those of a depth head of DINOv2, and of nothing else."""
    return (_LINEAR in state or _DPT in state) and all(key.startswith(HEAD) for key in state)


def name_of_released(key: str) -> str:
    """Our name of a parameter; one that is not known keeps its own, and is refused when loaded.

    Example:
        >>> name_of_released("decode_head.fusion_blocks.1.res_conv_unit2.conv1.conv.weight")
        'decode_head.fusion.2.unit.layers.1.weight'
        >>> name_of_released("decode_head.conv_depth.bias")
        'decode_head.conv_seg.bias'
    """
    inner = key.removeprefix(HEAD)
    for pattern, ours in _RULES:
        if found := re.fullmatch(pattern, inner):
            return HEAD + (ours(found) if callable(ours) else found.expand(ours))
    return key


def model_of_released_head(
    state: Mapping[str, Any], model: torch.nn.Module
) -> dict[str, Tensor] | None:
    """State of a whole model: the head of the file, and the model's own encoder, bins and counters.

    Args:
        state: Of a file.
        model: What it is to be loaded into, with the weights of its encoder.

    Returns:
        A state dict; None if the file is no released head or the model has no depth head.

    Raises:
        ValueError: If the model's encoder has random weights, to which no released head fits.
    """
    head = getattr(model, "decode_head", None)
    if not is_released_head(state) or not isinstance(head, DepthHead):
        return None
    if not model.backbone.is_loaded:
        raise ValueError(
            "it is a depth head alone, and the encoder has no weights here; put both into one file "
            "with python tools/convert_weights.py SRC DST --to ours --config CONFIG --encoder NAME"
        )
    parameters = {HEAD + name for name, _ in head.named_parameters()}
    own = {key: value for key, value in model.state_dict().items() if key not in parameters}
    return own | {name_of_released(key): value for key, value in state.items()}


FOREIGN_LAYOUTS.append(model_of_released_head)
