"""How an encoder becomes a student: LayerScale goes in, and can be folded away afterwards.

Source: Perception Encoder (arXiv:2504.13181), appendix on spatial alignment: PE core G is tuned
with LayerScale of 0.1 added, which the released PE Spatial G has and L, B, S and T have not.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from torch import Tensor, nn

from pe_dense.encoders.pe import LayerScale
from pe_dense.openmmlab.backbone import DenseBackbone

# Gains and the projection that each of them scales, in PE towers and in timm's.
_FOLDS = {"ls_1": "attn.out_proj", "ls_2": "mlp.c_proj", "ls1": "attn.proj", "ls2": "mlp.fc2"}
_GAIN = re.compile(r"^(.*\.)(ls_?[12])\.gamma$")


def has_layer_scale(names: Iterable[str]) -> bool:
    """Whether there are gains of residual branches among names of parameters.

    Example:
        >>> has_layer_scale(["blocks.0.ls1.gamma", "blocks.0.norm1.weight"])
        True
    """
    return any(_GAIN.match(name) for name in names)


def add_layer_scale(backbone: DenseBackbone, init_value: float) -> None:
    """Give every residual branch of a backbone without LayerScale one, in place.

    Args:
        backbone: Its encoder is a PE tower or a timm ViT.
        init_value: Gain to start with. 0.1 damps every branch, as the paper does; 1 keeps the
            function.

    Raises:
        ValueError: If the encoder has LayerScale already, or no place for it.
    """
    name = backbone.encoder_name
    if has_layer_scale(backbone.encoder.state_dict()):
        raise ValueError(f"student {name} has LayerScale already; set layer_scale=None")
    if not insert_gains(backbone.encoder, backbone.embed_dim, init_value):
        raise ValueError(f"student {name} has no place for LayerScale; set layer_scale=None")
    backbone.keep_parameters()  # the new gains are no overwriting of what was loaded


def insert_gains(encoder: nn.Module, embed_dim: int, init_value: float) -> int:
    """Put LayerScale where an encoder has a place for it, in place; the number of places."""
    slots = [
        (block, slot)
        for block in encoder.modules()
        for slot in _FOLDS
        if isinstance(getattr(block, slot, None), nn.Identity)
    ]
    for block, slot in slots:
        setattr(block, slot, LayerScale(embed_dim, init_value))
    return len(slots)


def fold_layer_scale(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """An encoder's state dict without gains: each is multiplied into the projection before it.

    The same function up to rounding, for towers that are built without LayerScale.

    Raises:
        ValueError: If there is no gain, or the projection of one is missing.
    """
    folded = dict(state)
    gains = [match for match in map(_GAIN.match, state) if match]
    if not gains:
        raise ValueError("the student has no LayerScale to fold; leave the folding out")
    for match in gains:
        prefix, slot = match.groups()
        gamma_C = folded.pop(match.group(0))
        for part in ("weight", "bias"):
            key = f"{prefix}{_FOLDS[slot]}.{part}"
            if key not in folded:
                raise ValueError(f"{match.group(0)} scales {key}, which the student does not have")
            value = folded[key]
            folded[key] = value * (gamma_C[:, None] if value.ndim == 2 else gamma_C)
    return folded
