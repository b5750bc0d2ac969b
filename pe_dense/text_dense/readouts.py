"""An embedding for every patch, in the space of the texts: where to read it, and how.

Shape legend: B images, N tokens (prefix first), C width, M heads, d head width, D width of the
embedding, h w patch grid.

A read-out takes the stream around one block and sends every token by itself through what makes the
image embedding (final norm, attention pool, projection; see `TokenParts.embed`). With the last
block that is how the published methods work; with an earlier one, the blocks behind it are left
out, so that a sweep over layers costs one pass of the tower.

'layer'      the stream after the block as it is.
'maskclip'   in the block every token attends to itself alone, so that its value passes; residual
             and MLP stay. MaskCLIP (arXiv:2112.01071) for ViTs.
'sclip'      attention by the likeness of queries plus that of keys, the two summed; residual and
             MLP stay. SCLIP (arXiv:2312.01597).
'clearclip'  attention by the likeness of queries; neither residual nor MLP. ClearCLIP
             (arXiv:2407.12442).

Sources: volgachen/MaskCLIP, wangf3014/SCLIP @ d84d4ab and mc-lan/ClearCLIP @ 88a775e; written from
the descriptions. Deviations: with rotary positions queries and keys are turned before they are
compared, as the block itself does; LayerScale, where a block has it, stays. In all four, prefix
tokens are attended to and then left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, Protocol

import torch.nn.functional as F
from torch import Tensor

from pe_dense.encoders.contract import check_choice, resolve_indices
from pe_dense.encoders.token_parts import TokenParts

Mixing = Literal["query-key", "self", "query-query", "queries and keys"]


class Surgery(NamedTuple):
    """What is changed in a block.

    Attributes:
        mixing: By which likeness values are mixed.
        residual: Whether the stream before the block is added.
        mlp: Whether the MLP of the block follows.
    """

    mixing: Mixing
    residual: bool
    mlp: bool


SURGERIES: dict[str, Surgery | None] = {
    "layer": None,
    "maskclip": Surgery("self", residual=True, mlp=True),
    "sclip": Surgery("queries and keys", residual=True, mlp=True),
    "clearclip": Surgery("query-query", residual=False, mlp=False),
}
READOUTS = tuple(SURGERIES)


class PatchReader(Protocol):
    """Gives patches vectors in the space of the texts, in some ways and at some blocks.

    Attributes:
        readouts: The ways.
        depth: Number of blocks.
    """

    readouts: tuple[str, ...]
    depth: int

    def look(self, images_B3HW: Tensor) -> Any:
        """One pass over images, from which all vectors are read."""
        ...

    def embeddings(self, looked: Any, readout: str, layer: int) -> Tensor:
        """(B, D, h, w) of unit length.

        Raises:
            ValueError: If there is no such read-out or block.
        """
        ...


class TowerReader:
    """The read-outs of a contrastive tower.

    Args:
        parts: Of the tower.
    """

    readouts = READOUTS

    def __init__(self, parts: TokenParts) -> None:
        self.parts, self.depth = parts, parts.depth

    def look(self, images_B3HW: Tensor) -> tuple[list[Tensor], tuple[int, int]]:
        """Streams and grid."""
        return self.parts.streams(images_B3HW)

    def embeddings(
        self, looked: tuple[list[Tensor], tuple[int, int]], readout: str, layer: int
    ) -> Tensor:
        """`patch_embeddings` of them."""
        return patch_embeddings(self.parts, *looked, readout, layer)


def mixed_values(q_BMNd: Tensor, k_BMNd: Tensor, v_BMNd: Tensor, mixing: Mixing) -> Tensor:
    """Values, mixed as asked: (B, M, N, d). Likeness is divided by the root of d, then softmax."""
    if mixing == "self":
        return v_BMNd
    if mixing == "query-key":
        return F.scaled_dot_product_attention(q_BMNd, k_BMNd, v_BMNd)
    by_queries_BMNd = F.scaled_dot_product_attention(q_BMNd, q_BMNd, v_BMNd)
    if mixing == "query-query":
        return by_queries_BMNd
    assert mixing == "queries and keys", mixing
    return by_queries_BMNd + F.scaled_dot_product_attention(k_BMNd, k_BMNd, v_BMNd)


def patch_embeddings(
    parts: TokenParts,
    streams: Sequence[Tensor],
    grid_hw: tuple[int, int],
    readout: str,
    layer: int = -1,
) -> Tensor:
    """(B, D, h, w) of unit length.

    Args:
        parts: Of the tower.
        streams: What `parts.streams` gave, depth + 1 of (B, N, C).
        grid_hw: What it gave, (h, w).
        readout: One of `READOUTS`.
        layer: 0-based block; -1 is the last.

    Raises:
        ValueError: If there is no such read-out or block.
    """
    check_choice("readout", readout, READOUTS)
    (block,) = resolve_indices([layer], parts.depth)
    surgery = SURGERIES[readout]
    if surgery is None:
        x_BNC = streams[block + 1]
    else:
        before_BNC = streams[block]
        q, k, v = parts.query_key_value(block, before_BNC, grid_hw)
        x_BNC = parts.attention_branch(block, mixed_values(q, k, v, surgery.mixing))
        if surgery.residual:
            x_BNC = before_BNC + x_BNC
        if surgery.mlp:
            x_BNC = x_BNC + parts.mlp_branch(block, x_BNC)
    embedding_BND = parts.embed(x_BNC[:, parts.num_prefix_tokens :])
    return F.normalize(embedding_BND, dim=-1).transpose(1, 2).unflatten(2, grid_hw)
