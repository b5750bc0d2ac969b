"""The contract that every encoder fulfils, and the shape legend of the package.

Shape legend: B images, T frames, N tokens, P prefix tokens, C feature width, H W pixels, h w patch
grid, L layers, K classes, Q queries. A name such as ``tokens_BNC`` has the shape (B, N, C).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor, nn


@dataclass(frozen=True)
class WeightsInfo:
    """Where the parameters of an encoder came from.

    Attributes:
        source: 'random', the 'hf://' name, or the name of the file (never a path).
        sha256: Hash of the file, 64 hex digits, or 'random'.
        notes: Every change that was made to fit the encoder, in words.
        is_published: Whether the file was compared with a hash that its publisher gives.
        revision: Commit of the hub's repository that it was fetched at, or None.
    """

    source: str
    sha256: str
    notes: tuple[str, ...] = ()
    is_published: bool = False
    revision: str | None = None


@runtime_checkable
class MapEncoder(Protocol):
    """The least that an encoder of one's own needs: it turns images into maps.

    Probes of a training, label propagation and the feature print take any module with these.

    Attributes:
        patch_size: Side of a square patch in pixels.
        embed_dim: Width C of the residual stream.
        depth: Number of blocks that were built.
        num_prefix_tokens: Tokens P in front of the patch tokens (cls, registers); 0 if none.
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
            One (B, C, h, w) map per index, in the order asked, prefix tokens removed,
            h = H // patch_size. No final norm.
        """
        ...


@runtime_checkable
class Encoder(MapEncoder, Protocol):
    """A vision encoder whose blocks can all be read in one pass: a module with these members.

    Attributes:
        name: How records and errors call it.
        native_hw: Height and width in pixels that its position grid was made for.
        any_size: Whether it takes images of other sizes than `native_hw`.
        has_class_token: Whether the first prefix token is a class token (registers alone are none).
        output_dim: Width of the image embedding, None for an encoder without one.
        blocks: Its transformer blocks, a ModuleList or Sequential of `depth`.
        patch_embedding: The module that turns pixels into patches, (B, C, h, w), (B, h, w, C) or
            (B, N, C), before positions are added.
    """

    name: str
    native_hw: tuple[int, int]
    any_size: bool
    has_class_token: bool
    output_dim: int | None
    blocks: Any
    patch_embedding: nn.Module

    def forward_intermediates(
        self,
        images_B3HW: Tensor,
        out_indices: Sequence[int],
        *,
        norm: bool = False,
        return_prefix_tokens: bool = False,
    ) -> list:
        """Residual stream after the given blocks, in one pass that stops at the last of them.

        Args:
            images_B3HW: Normalised RGB, (B, 3, H, W).
            out_indices: 0-based block indices, negatives allowed, in any order.
            norm: Apply the final norm.
            return_prefix_tokens: Return (map, prefix tokens (B, P, C)) pairs instead of maps.

        Returns:
            One (B, C, h, w) map per index, in the order asked.

        Raises:
            ValueError: For an index outside the encoder, an image that does not fit, or `norm`
                on an encoder without a final norm of its tokens.
        """
        ...

    def encode_image(self, images_B3HW: Tensor, normalize: bool = False) -> Tensor:
        """Image embedding, (B, output_dim), of unit length if `normalize`.

        Raises:
            ValueError: If the encoder has none.
        """
        ...

    def head_parameters(self, norm: bool = False) -> list[nn.Parameter]:
        """Parameters behind the last block that maps, with or without final norm, never use."""
        ...

    def attention_window(self, block: int) -> int | None:
        """Side in tokens of the windows that a block attends in; None where it sees all tokens."""
        ...

    def weights_state(self) -> dict[str, Tensor]:
        """The state dict under the names of weights files, which `load_weights_file` reads."""
        ...

    def load_weights_file(self, path: str | Path, **options: str) -> tuple[str, ...]:
        """Load a file strictly.

        Args:
            path: A safetensors or torch file.
            **options: Those of `weights.load_weights` that are not at their default.

        Returns:
            Every change that was made to fit the encoder, in words.

        Raises:
            ValueError: If the file cannot be read or does not fit, or the encoder has no such
                option; no parameter has changed then.
        """
        ...

    def weights_info(self) -> WeightsInfo:
        """Where the parameters came from when the encoder was built."""
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


def check_choice(name: str, value: object, choices: Sequence[object]) -> None:
    """Refuse an option that is none of its choices.

    Raises:
        ValueError: If so; the message lists them.
    """
    if value not in choices:
        raise ValueError(f"{name}={value!r} is not one of {', '.join(map(str, choices))}")
