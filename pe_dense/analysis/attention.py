"""Attention weights of any block, read while the encoder runs as it always does.

The queries and keys are those that the block itself hands to PyTorch's
`scaled_dot_product_attention`, after norms, biases and rotary positions: nothing of a tower is
written a second time here and its output does not change. Weights are softmax(q k^T scale), in
float32 whatever the type of the tower, and only for the queries that are asked for.

In a windowed block of a PE tower a token attends to its window, so its map is zero elsewhere;
padded tokens at the bottom and right get attention too, which `padding` counts.

Shape legend: B images, V windows, M heads, N tokens (prefix first), S keys of a window, h w grid.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from pe_dense.encoders.contract import resolve_indices
from pe_dense.encoders.pe import windows_from_grid

_SDPA_ARGUMENTS = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal")


@dataclass(frozen=True)
class BlockAttention:
    """Queries and keys of one block and one image.

    Attributes:
        queries_VMSD: (V, M, S, D); V = 1 and S = N where the block is global.
        keys_VMSD: Same shape.
        scale: Factor of the scores, D^-0.5 in plain towers.
        tokens_VS: Token of each row of a window, -1 where it is padding.
        num_tokens: N.
        num_prefix_tokens: Tokens in front of those of the grid.
        grid_hw: Token grid.
        hidden_NC: Residual stream behind the block.
    """

    queries_VMSD: Tensor
    keys_VMSD: Tensor
    scale: float
    tokens_VS: Tensor
    num_tokens: int
    num_prefix_tokens: int
    grid_hw: tuple[int, int]
    hidden_NC: Tensor

    @property
    def num_heads(self) -> int:
        """Number of query heads M."""
        return self.queries_VMSD.shape[1]

    def weights_of_window(self, window: int, head: int) -> Tensor:
        """(S, S) float32: row q holds the weights that query q gives to the keys; sums to 1."""
        queries, keys = self.queries_VMSD[window, head], self.keys_VMSD[window, head]
        return (queries.float() @ keys.float().T * self.scale).softmax(dim=-1)

    def from_token(self, token: int) -> Tensor:
        """What one token attends to in each head, (M, N) float32.

        Rows sum to 1, less what goes to padding.

        Args:
            token: 0..N-1; prefix tokens come first.

        Raises:
            ValueError: If there is no such token.
        """
        if not 0 <= token < self.num_tokens:
            raise ValueError(f"token {token} does not exist; use 0..{self.num_tokens - 1}")
        window, row = (int(i) for i in (self.tokens_VS == token).nonzero()[0])
        query_MD = self.queries_VMSD[window, :, row].float()
        scores = torch.einsum("md,msd->ms", query_MD, self.keys_VMSD[window].float())
        weights_MS = (scores * self.scale).softmax(dim=-1)
        tokens_S = self.tokens_VS[window]
        weights_MN = weights_MS.new_zeros(self.num_heads, self.num_tokens)
        weights_MN[:, tokens_S[tokens_S >= 0]] = weights_MS[:, tokens_S >= 0]
        return weights_MN

    def grid_of(self, values_N: Tensor) -> Tensor:
        """Values of the patch tokens on their grid, (..., N) -> (..., h, w)."""
        return values_N[..., self.num_prefix_tokens :].unflatten(-1, self.grid_hw)


class _Recorder(TorchFunctionMode):
    """Keeps queries and keys of the attention calls of the block that is running."""

    def __init__(self) -> None:
        super().__init__()
        self.block: int | None = None
        self.calls: dict[int, list[tuple[Tensor, Tensor, float]]] = {}

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention and self.block is not None:
            given = dict(zip(_SDPA_ARGUMENTS, args, strict=False)) | kwargs
            query, key = given["query"], given["key"]
            if given.get("attn_mask") is not None or given.get("is_causal"):
                raise ValueError(
                    f"block {self.block} masks its attention, which cannot be shown; use a plain "
                    "ViT"
                )
            scale = given.get("scale")
            scale = query.shape[-1] ** -0.5 if scale is None else float(scale)
            self.calls.setdefault(self.block, []).append((query, key, scale))
        return func(*args, **kwargs)


@torch.no_grad()
def read_attention(
    encoder: nn.Module, image_3HW: Tensor, layers: Sequence[int]
) -> list[BlockAttention]:
    """Queries, keys and outputs of the blocks asked for, from one ordinary forward pass.

    Memory: two (N, C) arrays and the output of each block; weights are made when asked for.

    Args:
        encoder: A PE tower or a timm ViT of this package, in eval mode.
        image_3HW: Normalised RGB of one image.
        layers: 0-based block indices, negatives allowed, in any order.

    Returns:
        One entry per layer, in the order asked.

    Raises:
        ValueError: For a layer outside the encoder, an image that does not fit, an encoder whose
            blocks are not known, or a block without one plain attention.
    """
    indices = resolve_indices(layers, encoder.depth)
    try:
        blocks = encoder.blocks
    except AttributeError as error:
        raise ValueError(
            f"{type(encoder).__name__} has no list of blocks that is known here; use a PE tower "
            "or timm:<model>"
        ) from error
    recorder, hooks = _Recorder(), []

    def enter(index: int):
        def hook(module: nn.Module, inputs: tuple) -> None:
            recorder.block = index

        return hook

    def leave(module: nn.Module, inputs: tuple, output: Tensor) -> None:
        recorder.block = None

    was_training = encoder.training
    encoder.eval()  # stochastic depth would show another network at every call
    try:
        for index in set(indices):
            hooks.append(blocks[index].register_forward_pre_hook(enter(index)))
            hooks.append(blocks[index].register_forward_hook(leave))
        with recorder:
            found = encoder.forward_intermediates(
                image_3HW[None], indices, return_prefix_tokens=True
            )
    finally:
        for hook in hooks:
            hook.remove()
        encoder.train(was_training)
    outputs = []
    for index, (map_1Chw, prefix_1PC) in zip(indices, found, strict=True):
        calls = recorder.calls.get(index, [])
        if len(calls) != 1:
            raise ValueError(
                f"block {index} made {len(calls)} calls of scaled_dot_product_attention, but only "
                "blocks with one can be shown; for timm towers unset TIMM_FUSED_ATTN"
            )
        hidden_NC = torch.cat([prefix_1PC[0], map_1Chw[0].flatten(1).T])
        grid_hw = tuple(map_1Chw.shape[-2:])
        window = encoder.attention_window(index)
        outputs.append(_attention_of(*calls[0], hidden_NC, grid_hw, window, index))
    return outputs


def _attention_of(
    queries: Tensor,
    keys: Tensor,
    scale: float,
    hidden_NC: Tensor,
    grid_hw: tuple[int, int],
    window_size: int | None,
    index: int,
) -> BlockAttention:
    h, w = grid_hw
    num_tokens = len(hidden_NC)
    if window_size is None:
        tokens_VS = torch.arange(num_tokens)[None]
    else:  # the same cut as the tower's own, so that rows and tokens cannot part ways
        numbered = torch.arange(h * w, dtype=torch.float64).view(1, h, w, 1)
        windows = windows_from_grid(numbered, window_size, torch.tensor([-1.0]))
        tokens_VS = windows[..., 0].long()
    if queries.shape != keys.shape or queries.shape[:1] + queries.shape[2:3] != tokens_VS.shape:
        raise ValueError(
            f"block {index} attends with queries {tuple(queries.shape)} and keys "
            f"{tuple(keys.shape)}, where {tuple(tokens_VS.shape)} (windows, tokens) are expected; "
            "this layout cannot be shown"
        )
    return BlockAttention(
        queries,
        keys,
        scale,
        tokens_VS.to(queries.device),
        num_tokens,
        num_tokens - h * w,
        grid_hw,
        hidden_NC,
    )
