"""What a depth head gets from the backbone: maps of its layers, with or without class tokens.

Shape legend: B images, C width of the encoder, h, w token grid.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor


def split_layers(
    layers: Sequence[Tensor] | Sequence[tuple[Tensor, Tensor]],
    num_layers: int,
    with_class_token: bool,
) -> tuple[list[Tensor], list[Tensor]]:
    """Maps (B, C, h, w) and class tokens (B, C) of the layers; no tokens where none are read.

    A head that reads no class token also accepts a backbone that gives them.

    Raises:
        ValueError: If the backbone gives another number of layers, or no class tokens.
    """
    if len(layers) != num_layers:
        raise ValueError(
            f"decode_head.num_layers is {num_layers}, but the backbone gives {len(layers)} maps; "
            "make it the length of out_indices"
        )
    paired = not isinstance(layers[0], Tensor)
    if with_class_token and not paired:
        raise ValueError(
            "the depth head reads class tokens, but the backbone gives maps alone; set "
            "with_class_token=True in backbone"
        )
    maps = [layer[0] if paired else layer for layer in layers]
    return maps, [token for _, token in layers] if with_class_token else []
