"""How deep in an encoder a parameter lies, by its name: what layer-wise learning rates ask."""

from __future__ import annotations

import re
from collections.abc import Iterable

_BLOCK = re.compile(r"\b(?:resblocks|blocks|layers)\.(\d+)\.")
_IN_FRONT = re.compile(r"\bpatch_embed\.")
_BEHIND_BLOCKS = re.compile(r"\b(?:ln_post|attn_pool|proj|norm|fc_norm|head)\b")


def layer_of(name: str, num_layers: int) -> int:
    """Depth of an encoder parameter: 0 in front of the blocks, i + 1 in block i, then L + 1.

    Example:
        >>> layer_of("encoder.transformer.resblocks.3.ln_1.weight", 12)
        4
        >>> layer_of("encoder.conv1.weight", 12)
        0
    """
    block = _BLOCK.search(name)
    if block:
        return int(block.group(1)) + 1
    if _IN_FRONT.search(name):  # timm calls its patch projection proj, and may norm it
        return 0
    return num_layers + 1 if _BEHIND_BLOCKS.search(name) else 0


def block_of(name: str) -> int | None:
    """Number of the block, from 0, that a parameter belongs to; None in front of and behind them.

    Example:
        >>> block_of("blocks.3.norm1.weight"), block_of("conv1.weight")
        (3, None)
    """
    block = _BLOCK.search(name)
    return None if block is None else int(block.group(1))


def count_blocks(names: Iterable[str]) -> int:
    """Number L of blocks among encoder parameters; a truncated encoder has fewer.

    Example:
        >>> count_blocks(["blocks.0.w", "blocks.1.w", "conv1.weight"])
        2
    """
    found = [int(block.group(1)) + 1 for block in map(_BLOCK.search, names) if block]
    return max(found, default=0)
