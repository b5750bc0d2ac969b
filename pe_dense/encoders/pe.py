"""The vision tower of Perception Encoder, top to bottom.

Shape legend: B images, T frames, N tokens (prefix first), C width, M heads, D head width,
H W pixels, h w patch grid, S window side, V windows.

Source: Perception Encoder, arXiv:2504.13181; the behaviour of
facebookresearch/perception_models @ 3e352cc (core/vision_encoder/pe.py and rope.py, and the
detection backbones pev1_det.py and DETA_pe/models/pev1.py). Written from the description, under
the official parameter names.

Deviations: one tower serves pre-training and detection; padding of windows enters as keys and
values alone (the same function); gradient checkpointing works; detection carries no cls row.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from pe_dense.encoders.compiled_block import check_mode, compiled_block
from pe_dense.encoders.contract import WeightsInfo, check_choice, resolve_indices
from pe_dense.encoders.residual_norm import (
    added,
    linear_gelu,
    normed,
    patches_by_product,
    runs_fused,
)
from pe_dense.encoders.rotation import rope_table, turned_qkv
from pe_dense.encoders.traced import is_exported, is_known
from pe_dense.encoders.weights import fill_tower
from pe_dense.encoders.whole_patches import REMAINDERS, fit_to_patches

MAX_ROPE_TABLES = 64  # grids whose tables are kept, about 1 MB each
# Hidden activations of an MLP above this many numbers are made chunk by chunk when no gradient
# is kept. 8 M float32 are few enough to halve the peak memory of wide towers, and enough rows
# for a matrix product at full speed (2 M cost 25 % at widths 1024 and 1536). On a GPU putting the
# chunks together costs a pass over the output, so that only batches of 0.5 GB are cut.
MLP_CHUNK_NUMEL = {"cpu": 2**23, "default": 2**28}


def windows_from_grid(grid_BhwC: Tensor, window_size: int, fill_C: Tensor) -> Tensor:
    """Cut a grid into non-overlapping windows, padding bottom and right with `fill_C`.

    Args:
        grid_BhwC: (B, h, w, C).
        window_size: S, tokens on a side.
        fill_C: (C,), the value of a padded token.

    Returns:
        (B * V, S * S, C); V windows per image, row-major.
    """
    b, h, w, c = grid_BhwC.shape
    s = window_size
    rows, cols = math.ceil(h / s), math.ceil(w / s)
    if (rows * s, cols * s) != (h, w):
        padded = fill_C.to(grid_BhwC.dtype).expand(b, rows * s, cols * s, c).clone()
        padded[:, :h, :w] = grid_BhwC
        grid_BhwC = padded
    windows = grid_BhwC.reshape(b, rows, s, cols, s, c).transpose(2, 3)
    return windows.reshape(b * rows * cols, s * s, c)


def grid_from_windows(windows_VNC: Tensor, window_size: int, grid_hw: tuple[int, int]) -> Tensor:
    """Undo `windows_from_grid`: (B * V, S * S, C) -> (B, h, w, C), padding cut off."""
    h, w = grid_hw
    s = window_size
    rows, cols = math.ceil(h / s), math.ceil(w / s)
    c = windows_VNC.shape[-1]
    grid = windows_VNC.reshape(-1, rows, cols, s, s, c).transpose(2, 3)
    return grid.reshape(-1, rows * s, cols * s, c)[:, :h, :w]


class DropPath(nn.Module):
    """Zeroes whole samples with probability `drop_prob` and rescales the rest (stochastic depth).

    A module, and named as timm's, so that a training can put another in its place.
    """

    def __init__(self, drop_prob: float) -> None:
        super().__init__()
        self.drop_prob = drop_prob

    def forward(self, x: Tensor) -> Tensor:
        """(B, ...) -> the same shape."""
        if self.drop_prob == 0.0 or not self.training:
            return x
        keep = x.new_empty(x.shape[0], *[1] * (x.ndim - 1)).bernoulli_(1.0 - self.drop_prob)
        return x * (keep / (1.0 - self.drop_prob))


class LayerScale(nn.Module):
    """Learned gain for every channel of a residual branch."""

    def __init__(self, embed_dim: int, init_value: float) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((embed_dim,), init_value))

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) -> the same shape."""
        return x * self.gamma


class SelfAttention(nn.Module):
    """Multi-head self-attention with rotary positions, over all tokens or inside windows."""

    def __init__(self, embed_dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * embed_dim, embed_dim))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * embed_dim))
        self.out_proj = nn.Linear(embed_dim, embed_dim)

    def qkv(self, tokens_BNC: Tensor) -> Tensor:
        """Query, key and value: (B, N, C) -> (B, N, 3 C)."""
        return F.linear(tokens_BNC, self.in_proj_weight, self.in_proj_bias)

    def attend(self, qkv_BNC: Tensor, table_ND2: Tensor) -> Tensor:
        """Attention over axis 1: (B, N, 3 C) -> (B, N, C)."""
        q, k, v = turned_qkv(qkv_BNC, table_ND2, self.num_heads)
        return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)

    def forward(
        self,
        tokens_BNC: Tensor,
        table_ND2: Tensor,
        window_size: int | None,
        grid_hw: tuple[int, int],
    ) -> Tensor:
        """(B, N, C) -> (B, N, C); `window_size` None attends to all tokens."""
        qkv = self.qkv(tokens_BNC)
        if window_size is None:
            return self.out_proj(self.attend(qkv, table_ND2))
        # A padded token is zero after the norm, so its query, key and value are the bias.
        windows = windows_from_grid(qkv.unflatten(1, grid_hw), window_size, self.in_proj_bias)
        mixed = grid_from_windows(self.attend(windows, table_ND2), window_size, grid_hw)
        return self.out_proj(mixed.flatten(1, 2))


class MLP(nn.Module):
    """Two linear layers around an exact GELU."""

    def __init__(self, embed_dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.c_fc = nn.Linear(embed_dim, hidden_dim)
        self.c_proj = nn.Linear(hidden_dim, embed_dim)

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) -> the same shape."""
        limit = MLP_CHUNK_NUMEL.get(x.device.type, MLP_CHUNK_NUMEL["default"])
        rows = max(1, limit // self.c_fc.out_features)
        few = is_exported() or x.numel() <= rows * x.shape[-1]  # a traced size may be a variable
        if few or torch.is_grad_enabled() or x.ndim != 3:
            return self.c_proj(linear_gelu(x, self.c_fc))
        chunks = [self.c_proj(linear_gelu(part, self.c_fc)) for part in x.flatten(0, 1).split(rows)]
        return torch.cat(chunks).view(*x.shape[:2], -1)


class Block(nn.Module):
    """Pre-norm transformer block; `window_size` None means global attention."""

    compile_mode: str | None = None  # of torch.compile, None runs as written

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        mlp_hidden: int,
        layer_scale: float | None,
        drop_path_rate: float,
        window_size: int | None,
    ) -> None:
        super().__init__()
        self.window_size = window_size
        self.drop_path_1, self.drop_path_2 = DropPath(drop_path_rate), DropPath(drop_path_rate)
        self.ln_1 = nn.LayerNorm(embed_dim, eps=1e-5)
        self.attn = SelfAttention(embed_dim, num_heads)
        self.ln_2 = nn.LayerNorm(embed_dim, eps=1e-5)
        self.mlp = MLP(embed_dim, mlp_hidden)
        scaled = layer_scale is not None
        self.ls_1 = LayerScale(embed_dim, layer_scale) if scaled else nn.Identity()
        self.ls_2 = LayerScale(embed_dim, layer_scale) if scaled else nn.Identity()

    def forward(self, x_BNC: Tensor, table_ND2: Tensor, grid_hw: tuple[int, int]) -> Tensor:
        """One block: (B, N, C) -> (B, N, C)."""
        if self.compile_mode is not None:
            return compiled_block(Block.as_written, self.compile_mode)(
                self, x_BNC, table_ND2, grid_hw
            )
        return self.as_written(x_BNC, table_ND2, grid_hw)

    def as_written(self, x_BNC: Tensor, table_ND2: Tensor, grid_hw: tuple[int, int]) -> Tensor:
        """`forward` without a compiler."""
        mixed = self.attn(self.ln_1(x_BNC), table_ND2, self.window_size, grid_hw)
        x_BNC = x_BNC + self.drop_path_1(self.ls_1(mixed))
        return x_BNC + self.drop_path_2(self.ls_2(self.mlp(self.ln_2(x_BNC))))


def _gain(layer: LayerScale | nn.Identity) -> Tensor | None:
    return layer.gamma if isinstance(layer, LayerScale) else None


class Transformer(nn.Module):
    """Holds the blocks under their official name."""

    def __init__(self, blocks: Sequence[Block]) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList(blocks)


class AttentionPool(nn.Module):
    """One learned query that attends to all tokens, then an MLP (Core towers)."""

    def __init__(self, embed_dim: int, num_heads: int) -> None:
        super().__init__()
        self.probe = nn.Parameter(torch.randn(1, 1, embed_dim))
        self.attn = nn.MultiheadAttention(embed_dim, num_heads, batch_first=True)
        self.layernorm = nn.LayerNorm(embed_dim, eps=1e-5)
        self.mlp = MLP(embed_dim, 4 * embed_dim)

    def forward(self, tokens_BNC: Tensor) -> Tensor:
        """(B, N, C) -> (B, C)."""
        probe = self.probe.to(tokens_BNC.dtype).expand(tokens_BNC.shape[0], -1, -1)
        pooled = self.attn(probe, tokens_BNC, tokens_BNC, need_weights=False)[0]
        return (pooled + self.mlp(self.layernorm(pooled))).squeeze(1)  # (B, C)


class PerceptionEncoder(nn.Module):
    """PE vision tower with every block readable, at any resolution.

    Args:
        patch_size: Patch side in pixels.
        embed_dim: Width C.
        depth: Number of blocks to build; fewer than the released tower truncates it.
        num_heads: Attention heads M.
        mlp_hidden: Hidden width of a block's MLP.
        image_size: Native side in pixels.
        cls_token: Whether a cls token runs in front of the patches.
        layer_scale: Initial LayerScale gain, None for towers without it.
        pool_heads: Heads of the attention pool (Core towers), None for towers without one.
        output_dim: Width of the image embedding (Core towers), None for none.
        name: How errors call this tower.
        mean: RGB mean in 0..1 that images are normalised with.
        std: RGB standard deviation in 0..1.
        drop_path_rate: Stochastic depth in training.
        drop_path_schedule: 'constant' as PE trains, or 'linear' from 0 to the rate.
        pos_embed: How the position grid meets another grid: 'bilinear' (official default),
            'bicubic', or 'tile' (absolute-window embeddings of the detection models).
        window_size: Side of attention windows in tokens; None makes every block global.
        global_blocks: Blocks that stay global when `window_size` is given; negatives allowed.
        position_image_size: Side that the stored position grid was made for; None: `image_size`.
        rope_grid: Detection's position scaling: index i on a side of `ft` tokens sits at
            i / ft * rope_grid + 1, where ft is the window side in windowed blocks and the
            longer side of the grid in global ones (official code pads images to squares).
            None keeps the positions of pre-training. 32 in ViTDet, 16 in DETA, 24 in SAM 3.
        remainder: What to do with a side that is not a multiple of the patch: 'error',
            'pad' (zeros bottom and right, h = ceil(H / patch)) or 'floor' (drop the rest).
        grad_checkpointing: Recompute blocks in the backward pass: True all of them, k (an integer)
            every k-th, where memory allows to keep the others.
        compile_blocks: True, or a mode of torch.compile, compiles blocks; see `compiled_block`.

    Raises:
        ValueError: If arguments contradict each other.
    """

    def __init__(
        self,
        *,
        patch_size: int,
        embed_dim: int,
        depth: int,
        num_heads: int,
        mlp_hidden: int,
        image_size: int,
        cls_token: bool,
        layer_scale: float | None = None,
        pool_heads: int | None = None,
        output_dim: int | None = None,
        name: str = "perception encoder",
        mean: Sequence[float] = (0.5, 0.5, 0.5),
        std: Sequence[float] = (0.5, 0.5, 0.5),
        drop_path_rate: float = 0.0,
        drop_path_schedule: Literal["constant", "linear"] = "constant",
        pos_embed: Literal["bilinear", "bicubic", "tile"] = "bilinear",
        position_image_size: int | None = None,
        window_size: int | None = None,
        global_blocks: Sequence[int] = (),
        rope_grid: float | None = None,
        remainder: Literal["error", "pad", "floor"] = "error",
        grad_checkpointing: bool | int = False,
        compile_blocks: bool | str = False,
    ) -> None:
        super().__init__()
        check_choice("drop_path_schedule", drop_path_schedule, ("constant", "linear"))
        check_choice("pos_embed", pos_embed, ("bilinear", "bicubic", "tile"))
        check_choice("remainder", remainder, REMAINDERS)
        if embed_dim % num_heads or (embed_dim // num_heads) % 4:
            raise ValueError(
                f"embed_dim {embed_dim} over {num_heads} heads gives no head width that is a "
                "multiple of 4, as 2-D rotary positions need; change num_heads"
            )
        position_side = image_size if position_image_size is None else position_image_size
        for side in (image_size, position_side):
            if patch_size < 1 or side < 1 or side % patch_size:
                raise ValueError(f"image_size {side} is not a multiple of patch {patch_size}")
        if depth < 1:
            raise ValueError(f"depth {depth} leaves no block; use 1 or more")
        if window_size is not None and window_size < 1:
            raise ValueError(f"window_size {window_size} holds no token; use 1 or more, or None")
        if (pool_heads is None) != (output_dim is None):
            raise ValueError("pool_heads and output_dim belong together: give both or neither")
        if pool_heads is not None and embed_dim % pool_heads:
            raise ValueError(f"embed_dim {embed_dim} is not a multiple of pool_heads {pool_heads}")
        if window_size is not None and cls_token:
            raise ValueError("windowed attention has no place for a cls token; cls_token=False")
        if window_size is None and len(global_blocks):
            raise ValueError("global_blocks needs window_size; without it every block is global")
        if not 0.0 <= drop_path_rate < 1.0:
            raise ValueError(f"drop_path_rate {drop_path_rate} is outside [0, 1)")

        self.name = name
        self.patch_size, self.embed_dim, self.depth = patch_size, embed_dim, depth
        self.num_prefix_tokens, self.has_class_token = int(cls_token), cls_token
        self.mean, self.std = tuple(mean), tuple(std)
        self.native_hw, self.any_size = (image_size, image_size), True
        self.output_dim, self.remainder = output_dim, remainder
        self.native_grid, self.head_dim = position_side // patch_size, embed_dim // num_heads
        self.pos_embed, self.rope_grid, self.window_size = pos_embed, rope_grid, window_size
        self.set_grad_checkpointing(grad_checkpointing)
        self._rope_tables: dict[tuple, Tensor] = {}  # cheap to make: never in checkpoints

        self.conv1 = nn.Conv2d(3, embed_dim, patch_size, stride=patch_size, bias=False)
        num_positions = self.native_grid**2 + self.num_prefix_tokens
        self.positional_embedding = nn.Parameter(torch.empty(num_positions, embed_dim))
        if cls_token:
            self.class_embedding = nn.Parameter(torch.empty(embed_dim))
        self.ln_pre = nn.LayerNorm(embed_dim, eps=1e-5)
        stays_global = resolve_indices(global_blocks, depth) if len(global_blocks) else []
        linear = torch.linspace(0, drop_path_rate, depth, device="cpu").tolist()
        rates = linear if drop_path_schedule == "linear" else [drop_path_rate] * depth
        self.transformer = Transformer(
            [
                Block(
                    embed_dim,
                    num_heads,
                    mlp_hidden,
                    layer_scale,
                    rates[i],
                    None if i in stays_global else window_size,
                )
                for i in range(depth)
            ]
        )
        self.attn_pool: AttentionPool | None = None
        if pool_heads is not None:
            self.ln_post = nn.LayerNorm(embed_dim, eps=1e-5)
            self.attn_pool = AttentionPool(embed_dim, pool_heads)
            self.proj = nn.Parameter(torch.empty(embed_dim, output_dim))
        self.set_compile_blocks(compile_blocks)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialise for training from scratch: Xavier projections, zero biases.

        What a block adds to the stream starts 1 / sqrt(2 depth) smaller (GPT-2): a token is first
        of all its own patch; the official code leaves this out.
        """
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
            elif isinstance(module, SelfAttention):
                nn.init.xavier_uniform_(module.in_proj_weight)
                nn.init.zeros_(module.in_proj_bias)
        with torch.no_grad():
            for block in self.transformer.resblocks:
                block.attn.out_proj.weight.div_(math.sqrt(2 * self.depth))
                block.mlp.c_proj.weight.div_(math.sqrt(2 * self.depth))
        nn.init.xavier_uniform_(self.conv1.weight.view(self.embed_dim, -1))
        std = self.embed_dim**-0.5  # as the official tower
        nn.init.normal_(self.positional_embedding, std=std)
        if self.num_prefix_tokens:
            nn.init.normal_(self.class_embedding, std=std)
        if self.attn_pool is not None:
            nn.init.normal_(self.proj, std=std)

    @property
    def blocks(self) -> nn.ModuleList:
        """The transformer blocks."""
        return self.transformer.resblocks

    @property
    def patch_embedding(self) -> nn.Conv2d:
        """Pixels to patches, (B, C, h, w)."""
        return self.conv1

    def attention_window(self, block: int) -> int | None:
        """Side in tokens of a block's windows, None where it sees all tokens."""
        return self.blocks[block].window_size

    def weights_state(self) -> dict[str, Tensor]:
        """The state dict, whose names are the official ones."""
        return self.state_dict()

    def load_weights_file(self, path: str | Path, **options: str) -> tuple[str, ...]:
        """As in the contract; see `weights.fill_tower`."""
        return fill_tower(self, path, **options)

    def weights_info(self) -> WeightsInfo:
        """Towers are built with random weights."""
        return WeightsInfo("random", "random")

    def head_parameters(self, norm: bool = False) -> list[nn.Parameter]:
        """Parameters that maps do not use: pool, projection, and the final norm unless `norm`."""
        if self.attn_pool is None:
            return []
        final = [] if norm else [*self.ln_post.parameters()]
        return [*final, *self.attn_pool.parameters(), self.proj]

    def set_grad_checkpointing(self, enable: bool | int = True) -> None:
        """Trade compute for memory: recompute every block, or every k-th, in the backward pass."""
        if enable < 0:
            raise ValueError(f"grad_checkpointing={enable} is negative; k means every k-th block")
        self.grad_checkpointing = enable

    def set_compile_blocks(self, mode: bool | str = True) -> None:
        """Compile the blocks from now on, or (False) run them as written; see `compile_blocks`."""
        for block in self.transformer.resblocks:
            block.compile_mode = check_mode(mode)

    def position_grid(self, grid_hw: tuple[int, int]) -> Tensor:
        """Position embedding of the patches for a grid, (1, h * w, C), without the cls row."""
        native, (h, w) = self.native_grid, grid_hw
        grid_NC = self.positional_embedding[self.num_prefix_tokens :]
        if is_known(grid_hw) and (h, w) == (native, native):
            return grid_NC[None]
        grid_1Cnn = grid_NC.view(1, native, native, -1).permute(0, 3, 1, 2)
        if self.pos_embed == "tile":
            repeats = (1, 1, math.ceil(h / native), math.ceil(w / native))
            resized = grid_1Cnn.repeat(repeats)[:, :, :h, :w]
        else:
            resized = F.interpolate(
                grid_1Cnn.float(), size=(h, w), mode=self.pos_embed, align_corners=False
            ).to(grid_1Cnn.dtype)
        return resized.flatten(2).transpose(1, 2)

    def rotary(self, grid_hw: tuple[int, int], windowed: bool, device: torch.device) -> Tensor:
        """Cached rotary table of the windowed or the global blocks, (N, D / 2, 2)."""
        grid_hw = (self.window_size, self.window_size) if windowed else grid_hw
        key = (grid_hw, device) if is_known(grid_hw) else None
        if key in self._rope_tables:
            return self._rope_tables[key]
        step, offset = 1.0, float(self.num_prefix_tokens)
        if self.rope_grid is not None:
            step, offset = self.rope_grid / max(grid_hw), 1.0
        with torch.inference_mode(False):  # a table made there could not be trained with
            table = rope_table(grid_hw, self.head_dim, (step, step), offset, self.num_prefix_tokens)
            table = table.to(device)
        if key is not None and not is_exported():  # there a table has no values
            if len(self._rope_tables) >= MAX_ROPE_TABLES:
                self._rope_tables.pop(next(iter(self._rope_tables)))  # the oldest
            self._rope_tables[key] = table
        return table

    def embed(self, images_B3HW: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """Patches plus positions, after `ln_pre`: tokens (B, N, C) and the grid (h, w)."""
        images_B3HW = fit_to_patches(images_B3HW, self.patch_size, self.remainder)
        # A caller may hang something on the layer (masks of patches): then it is called as such.
        if runs_fused(images_B3HW, self.conv1.weight) and not self.conv1._forward_hooks:
            patches_BChw = patches_by_product(images_B3HW, self.conv1)
        else:
            patches_BChw = self.conv1(images_B3HW)
        grid_hw = tuple(patches_BChw.shape[-2:])
        tokens_BNC = patches_BChw.flatten(2).transpose(1, 2) + self.position_grid(grid_hw)
        if self.num_prefix_tokens:
            cls_token = self.class_embedding + self.positional_embedding[0]
            cls_B1C = cls_token.to(tokens_BNC.dtype).expand(tokens_BNC.shape[0], 1, -1)
            tokens_BNC = torch.cat([cls_B1C, tokens_BNC], dim=1)
        return self.ln_pre(tokens_BNC), grid_hw

    def run_blocks(
        self, images_B3HW: Tensor, keep: Sequence[int]
    ) -> tuple[dict[int, Tensor], tuple[int, int]]:
        """Residual stream after the blocks in `keep`, (B, N, C) each, prefix tokens included."""
        x_BNC, grid_hw = self.embed(images_B3HW)
        blocks = self.transformer.resblocks[: max(keep) + 1]
        if self._runs_fused(blocks, x_BNC):
            return self._run_fused(blocks, x_BNC, grid_hw, keep), grid_hw
        kept = {}
        for i, block in enumerate(blocks):
            table = self.rotary(grid_hw, block.window_size is not None, x_BNC.device)
            recomputes = self.grad_checkpointing and i % self.grad_checkpointing == 0
            if recomputes and torch.is_grad_enabled():
                x_BNC = checkpoint(block, x_BNC, table, grid_hw, use_reentrant=False)
            else:
                x_BNC = block(x_BNC, table, grid_hw)
            if i in keep:
                kept[i] = x_BNC
        return kept, grid_hw

    def _runs_fused(self, blocks: Sequence[Block], x_BNC: Tensor) -> bool:
        """Whether nothing asks for single blocks: no training, compiler or hook."""
        if self.training or not runs_fused(x_BNC, blocks[0].ln_1.weight):
            return False
        return not any(b.compile_mode or b._forward_hooks or b._forward_pre_hooks for b in blocks)

    def _run_fused(
        self, blocks: Sequence[Block], x_BNC: Tensor, grid_hw: tuple[int, int], keep: Sequence[int]
    ) -> dict[int, Tensor]:
        """The blocks with every residual sum in one pass with the norm behind it."""
        kept = {}
        normed_BNC = normed(x_BNC, blocks[0].ln_1)
        for i, block in enumerate(blocks):
            table = self.rotary(grid_hw, block.window_size is not None, x_BNC.device)
            mixed_BNC = block.attn(normed_BNC, table, block.window_size, grid_hw)
            x_BNC, normed_BNC = added(x_BNC, mixed_BNC, _gain(block.ls_1), block.ln_2)
            norm = blocks[i + 1].ln_1 if i + 1 < len(blocks) else None
            x_BNC, normed_BNC = added(x_BNC, block.mlp(normed_BNC), _gain(block.ls_2), norm)
            if i in keep:
                kept[i] = x_BNC
        return kept

    def forward_intermediates(
        self,
        images_B3HW: Tensor,
        out_indices: Sequence[int],
        *,
        norm: bool = False,
        return_prefix_tokens: bool = False,
    ) -> list:
        """As in the contract; only Core towers have a final norm."""
        if norm and self.attn_pool is None:
            raise ValueError(f"{self.name} has no final norm; use norm=False")
        indices = resolve_indices(out_indices, self.depth)
        kept, grid_hw = self.run_blocks(images_B3HW, indices)
        outputs = []
        for i in indices:
            tokens_BNC = self.ln_post(kept[i]) if norm else kept[i]
            prefix, patches = tokens_BNC.tensor_split([self.num_prefix_tokens], dim=1)
            map_BChw = patches.transpose(1, 2).unflatten(2, grid_hw)
            outputs.append((map_BChw, prefix) if return_prefix_tokens else map_BChw)
        return outputs

    def forward(self, images_B3HW: Tensor) -> Tensor:
        """Map of the last block, (B, C, h, w)."""
        return self.forward_intermediates(images_B3HW, (-1,))[0]

    def encode_image(self, images_B3HW: Tensor, normalize: bool = False) -> Tensor:
        """Image embedding of a Core tower, (B, output_dim); unit length if `normalize`.

        Raises:
            ValueError: If the tower is a Lang or Spatial one, which have no global output.
        """
        if self.attn_pool is None:
            raise ValueError(
                f"{self.name} has no image embedding: only PE Core towers have an attention "
                "pool; use forward_intermediates, or a pe_core_* encoder"
            )
        tokens_BNC = self.run_blocks(images_B3HW, [self.depth - 1])[0][self.depth - 1]
        embedding = self.attn_pool(self.ln_post(tokens_BNC)) @ self.proj
        return F.normalize(embedding, dim=-1) if normalize else embedding

    def encode_video(self, clips_BT3HW: Tensor, normalize: bool = False) -> Tensor:
        """Mean of the frame embeddings, (B, T, 3, H, W) -> (B, output_dim).

        As in the official code, `normalize` makes the frame embeddings unit length before the
        mean; the mean itself is not normalised again.
        """
        if clips_BT3HW.ndim != 5:
            raise ValueError(f"expected clips (B, T, 3, H, W), got {tuple(clips_BT3HW.shape)}")
        frames = self.encode_image(clips_BT3HW.flatten(0, 1), normalize)
        return frames.unflatten(0, clips_BT3HW.shape[:2]).mean(dim=1)
