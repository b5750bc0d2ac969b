"""The contract that every encoder fulfils, and the shape legend of the package.

Shape legend: B images, T frames, N tokens, C feature width, H W pixels, h w patch grid,
L layers, K classes, Q queries. A name such as ``tokens_BNC`` has the shape (B, N, C).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from torch import Tensor, nn


@runtime_checkable
class Encoder(Protocol):
    """A vision encoder whose blocks can all be read in one pass.

    Attributes:
        patch_size: Side of a square patch in pixels.
        embed_dim: Width C of the residual stream.
        depth: Number of blocks that were built.
        num_prefix_tokens: Tokens in front of the patch tokens (cls, registers); 0 if none.
        mean: Normalisation mean of RGB in 0..1.
        std: Normalisation standard deviation of RGB in 0..1.
    """

    patch_size: int
    embed_dim: int
    depth: int
    num_prefix_tokens: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def forward_intermediates(
        self, images_B3HW: Tensor, out_indices: Sequence[int]
    ) -> list[Tensor]:
        """Return the residual stream after the given blocks.

        Args:
            images_B3HW: Normalised RGB images, (B, 3, H, W).
            out_indices: 0-based block indices, negatives allowed; -1 is the last block.

        Returns:
            One (B, C, h, w) map an index, in the order asked, prefix tokens removed,
            h = H // patch_size. No final norm.
        """
        ...

    def head_parameters(self, norm: bool = False) -> list[nn.Parameter]:
        """Parameters behind the last block that maps, with or without final norm, never use."""
        ...


def resolve_indices(out_indices: Sequence[int], depth: int) -> list[int]:
    """Turn block indices, negatives allowed, into 0..depth-1.

    Raises:
        ValueError: If there is none, or one lies outside the encoder.

    Example:
        >>> resolve_indices([-1, 0], depth=12)
        [11, 0]
    """
    if len(out_indices) == 0:
        raise ValueError("out_indices is empty; name at least one block, for example (-1,)")
    for index in out_indices:
        if not -depth <= index < depth:
            raise ValueError(
                f"block index {index} is outside an encoder of {depth} blocks; "
                f"use {-depth}..{depth - 1} (0-based, -1 is the last block)"
            )
    return [index % depth for index in out_indices]
