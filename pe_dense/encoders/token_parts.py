"""A contrastive vision tower taken apart: what each block adds, and the embedding of one token.

Read-outs of single patches change one block or skip the rest of the tower; for that they need its
pieces, which every family names otherwise. Three families: PE Core, open_clip's own ViT (CLIP,
MetaCLIP, DFN), and timm's plain ViT inside open_clip (SigLIP, SigLIP 2).

Shape legend: B images, N tokens (prefix first), C width, M heads, d head width, D width of the
embedding, h w patch grid.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch.nn.functional as F
from torch import Tensor, nn

from pe_dense.encoders.open_clip_vision import OpenClipEncoder
from pe_dense.encoders.pe import PerceptionEncoder
from pe_dense.encoders.rotation import turned_qkv

Heads = tuple[Tensor, Tensor, Tensor]


class TokenParts(Protocol):
    """The pieces of a tower.

    Attributes:
        depth: Number of blocks.
        num_prefix_tokens: Tokens in front of the patches.
    """

    depth: int
    num_prefix_tokens: int

    def streams(self, images_B3HW: Tensor) -> tuple[list[Tensor], tuple[int, int]]:
        """The residual stream before block 0 and after every block, (B, N, C) each, and the grid.

        Raises:
            ValueError: For an image that the tower does not take.
        """
        ...

    def query_key_value(self, block: int, x_BNC: Tensor, grid_hw: tuple[int, int]) -> Heads:
        """What the attention of a block mixes, (B, M, N, d) each, positions turned in."""
        ...

    def attention_branch(self, block: int, mixed_BMNd: Tensor) -> Tensor:
        """What the attention of a block adds to the stream, from mixed values: (B, N, C)."""
        ...

    def mlp_branch(self, block: int, x_BNC: Tensor) -> Tensor:
        """What the MLP of a block adds to the stream: (B, N, C)."""
        ...

    def embed(self, x_BNC: Tensor) -> Tensor:
        """Every token by itself through what makes the image embedding: (B, N, C) -> (B, N, D).

        Where the tower pools by attention, a token that is alone is attended to with weight 1, so
        that its value passes, and neither the query nor the keys count.
        """
        ...


def token_parts(visual: nn.Module) -> TokenParts:
    """The pieces of a vision tower.

    Raises:
        ValueError: If it has no image embedding, or is of a family that is not known here.
    """
    if isinstance(visual, PerceptionEncoder):
        if visual.attn_pool is None:
            raise ValueError(
                f"{visual.name} has no image embedding, so that no text can be compared with its "
                "patches; use a pe_core_* encoder"
            )
        return _PerceptionParts(visual)
    if isinstance(visual, OpenClipEncoder):
        if not visual.trunk_is_timm:
            return _ClipParts(visual)
        from timm.models.vision_transformer import Block

        if all(type(block) is Block for block in visual.blocks):
            return _TimmParts(visual)
    name = getattr(visual, "name", type(visual).__name__)
    raise ValueError(
        f"the blocks of {name} are of no family whose patches can be read here: PE Core, CLIP's "
        "and SigLIP's are (PE Core under its own name, pe_core_*)"
    )


def _recorded(blocks: Sequence[nn.Module], run: Callable[[], Any]) -> tuple[list[Tensor], Any]:
    """What goes into every block and what comes out of the last, and what `run` gives."""
    found: list[Tensor] = []

    def keep_input(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        found.append(inputs[0])

    def keep_output(_module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
        found.append(output)

    handles = [block.register_forward_pre_hook(keep_input) for block in blocks]
    handles.append(blocks[-1].register_forward_hook(keep_output))
    try:
        result = run()
    finally:
        for handle in handles:
            handle.remove()
    assert len(found) == len(blocks) + 1, "a block was left out or ran twice"
    return found, result


def _split(qkv_BNC: Tensor, num_heads: int) -> Heads:
    q, k, v = qkv_BNC.unflatten(2, (3, num_heads, -1)).permute(2, 0, 3, 1, 4)
    return q, k, v


def _joined(mixed_BMNd: Tensor) -> Tensor:
    return mixed_BMNd.transpose(1, 2).flatten(2)


class _PerceptionParts:
    """Of PE Core."""

    def __init__(self, tower: PerceptionEncoder) -> None:
        self.tower, self.depth = tower, tower.depth
        self.num_prefix_tokens = tower.num_prefix_tokens

    def streams(self, images_B3HW: Tensor) -> tuple[list[Tensor], tuple[int, int]]:
        tower = self.tower
        found, (_, grid_hw) = _recorded(
            tower.blocks, lambda: tower.run_blocks(images_B3HW, [tower.depth - 1])
        )
        return found, grid_hw

    def query_key_value(self, block: int, x_BNC: Tensor, grid_hw: tuple[int, int]) -> Heads:
        of = self.tower.blocks[block]
        if of.window_size is not None:
            raise ValueError(f"block {block} of {self.tower.name} attends in windows; build none")
        table_ND2 = self.tower.rotary(grid_hw, False, x_BNC.device)
        return turned_qkv(of.attn.qkv(of.ln_1(x_BNC)), table_ND2, of.attn.num_heads)

    def attention_branch(self, block: int, mixed_BMNd: Tensor) -> Tensor:
        of = self.tower.blocks[block]
        return of.ls_1(of.attn.out_proj(_joined(mixed_BMNd)))

    def mlp_branch(self, block: int, x_BNC: Tensor) -> Tensor:
        of = self.tower.blocks[block]
        return of.ls_2(of.mlp(of.ln_2(x_BNC)))

    def embed(self, x_BNC: Tensor) -> Tensor:
        pool = self.tower.attn_pool
        assert pool is not None
        width = self.tower.embed_dim
        value_BNC = F.linear(
            self.tower.ln_post(x_BNC),
            pool.attn.in_proj_weight[2 * width :],
            pool.attn.in_proj_bias[2 * width :],
        )
        pooled_BNC = pool.attn.out_proj(value_BNC)
        return (pooled_BNC + pool.mlp(pool.layernorm(pooled_BNC))) @ self.tower.proj


class _ClipParts:
    """Of open_clip's own ViT."""

    def __init__(self, visual: OpenClipEncoder) -> None:
        self.visual, self.depth = visual, visual.depth
        self.num_prefix_tokens = visual.num_prefix_tokens
        for block in visual.blocks:
            if not isinstance(block.attn, nn.MultiheadAttention) or not block.attn.batch_first:
                raise ValueError(
                    f"{visual.name} has blocks with an attention of another kind than CLIP's; "
                    "its patches cannot be read here"
                )

    def streams(self, images_B3HW: Tensor) -> tuple[list[Tensor], tuple[int, int]]:
        images_B3HW, grid_hw = self.visual.fit_images(images_B3HW)
        found, _ = _recorded(self.visual.blocks, lambda: self.visual.model(images_B3HW))
        return found, grid_hw

    def query_key_value(self, block: int, x_BNC: Tensor, grid_hw: tuple[int, int]) -> Heads:
        of = self.visual.blocks[block]
        qkv_BNC = F.linear(of.ln_1(x_BNC), of.attn.in_proj_weight, of.attn.in_proj_bias)
        return _split(qkv_BNC, of.attn.num_heads)

    def attention_branch(self, block: int, mixed_BMNd: Tensor) -> Tensor:
        of = self.visual.blocks[block]
        return of.ls_1(of.attn.out_proj(_joined(mixed_BMNd)))

    def mlp_branch(self, block: int, x_BNC: Tensor) -> Tensor:
        of = self.visual.blocks[block]
        return of.ls_2(of.mlp(of.ln_2(x_BNC)))

    def embed(self, x_BNC: Tensor) -> Tensor:
        return self.visual.model.ln_post(x_BNC) @ self.visual.model.proj


class _TimmParts:
    """Of timm's plain ViT inside open_clip."""

    def __init__(self, visual: OpenClipEncoder) -> None:
        self.visual, self.depth = visual, visual.depth
        self.trunk = visual.model.trunk
        self.num_prefix_tokens = visual.num_prefix_tokens

    def streams(self, images_B3HW: Tensor) -> tuple[list[Tensor], tuple[int, int]]:
        images_B3HW, grid_hw = self.visual.fit_images(images_B3HW)
        found, _ = _recorded(self.visual.blocks, lambda: self.visual.model(images_B3HW))
        return found, grid_hw

    def query_key_value(self, block: int, x_BNC: Tensor, grid_hw: tuple[int, int]) -> Heads:
        of = self.visual.blocks[block]
        q, k, v = _split(of.attn.qkv(of.norm1(x_BNC)), of.attn.num_heads)
        return of.attn.q_norm(q), of.attn.k_norm(k), v

    def attention_branch(self, block: int, mixed_BMNd: Tensor) -> Tensor:
        of = self.visual.blocks[block]
        inner = getattr(of.attn, "norm", nn.Identity())
        return of.ls1(of.attn.proj(inner(_joined(mixed_BMNd))))

    def mlp_branch(self, block: int, x_BNC: Tensor) -> Tensor:
        of = self.visual.blocks[block]
        return of.ls2(of.mlp(of.norm2(x_BNC)))

    def embed(self, x_BNC: Tensor) -> Tensor:
        x_BNC = self.trunk.norm(x_BNC)
        pool = getattr(self.trunk, "attn_pool", None)
        if pool is not None:
            value_BNC = pool.kv(x_BNC).chunk(2, dim=-1)[1]
            x_BNC = pool.proj(value_BNC)
            x_BNC = x_BNC + pool.mlp(pool.norm(x_BNC))
        return self.visual.model.head(self.trunk.head(self.trunk.fc_norm(x_BNC)))
