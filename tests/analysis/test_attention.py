"""Attention read from running towers, against q and k computed from the block input by hand."""

from __future__ import annotations

import math

import pytest
import torch
from small_towers import DETECTION, SPATIAL, tower_of
from torch import nn

from pe_dense.analysis.attention import read_attention
from pe_dense.encoders.pe import rope_table


def image_of(height: int, width: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(3, height, width, generator=torch.Generator().manual_seed(seed))


def inputs_of(tower: nn.Module, blocks: nn.ModuleList, image: torch.Tensor) -> list[torch.Tensor]:
    """What enters each block."""
    seen: list[torch.Tensor] = []
    hooks = [b.register_forward_pre_hook(lambda m, args: seen.append(args[0][0])) for b in blocks]
    with torch.no_grad():
        tower.forward_intermediates(image[None], [-1])
    for hook in hooks:
        hook.remove()
    return seen


def slow_weights(block: nn.Module, tokens_NC: torch.Tensor, angles_NP: torch.Tensor | None, see):
    """(M, N, N) by loops over heads and queries; `see[q]` lists the keys of query q."""
    attn = block.attn
    heads = attn.num_heads
    qkv = block.ln_1(tokens_NC) @ attn.in_proj_weight.T + attn.in_proj_bias
    n, width = tokens_NC.shape
    depth = width // heads
    weights = torch.zeros(heads, n, n)
    for m in range(heads):
        q = qkv[:, m * depth : (m + 1) * depth]
        k = qkv[:, width + m * depth : width + (m + 1) * depth]
        q, k = (turned(x, angles_NP) for x in (q, k))
        for i in range(n):
            scores = torch.stack([q[i] @ k[j] for j in see[i]]) / math.sqrt(depth)
            weights[m, i, see[i]] = scores.softmax(0)
    return weights


def turned(x_ND: torch.Tensor, angles_NP: torch.Tensor) -> torch.Tensor:
    out = torch.empty_like(x_ND)
    even, odd = x_ND[:, 0::2], x_ND[:, 1::2]
    out[:, 0::2] = even * angles_NP.cos() - odd * angles_NP.sin()
    out[:, 1::2] = odd * angles_NP.cos() + even * angles_NP.sin()
    return out


@torch.no_grad()
def test_global_blocks_equal_a_slow_version() -> None:
    tower = tower_of(**SPATIAL)
    image = image_of(12, 20)
    blocks = tower.transformer.resblocks
    table = rope_table((3, 5), 8, (1.0, 1.0), 1.0, 1)
    angles = torch.atan2(table[..., 1], table[..., 0])
    everything = [list(range(16))] * 16
    found = read_attention(tower, image, [0, 1, 2])
    for block, tokens, attention in zip(
        blocks, inputs_of(tower, blocks, image), found, strict=True
    ):
        expected = slow_weights(block, tokens, angles, everything)
        assert attention.grid_hw == (3, 5) and attention.num_prefix_tokens == 1
        for token in range(16):
            torch.testing.assert_close(
                attention.from_token(token), expected[:, token], rtol=1e-4, atol=1e-5
            )


@torch.no_grad()
def test_windowed_blocks_see_their_window_alone() -> None:
    """4 x 6 tokens divide into windows of 2, so padding is left out of this check."""
    tower = tower_of(**DETECTION, global_blocks=(1,))
    image = image_of(16, 24)
    blocks = tower.transformer.resblocks
    places = [(y, x) for y in range(4) for x in range(6)]
    step = 4 / 2  # rope_grid over the window side
    freqs = 10000.0 ** -(torch.arange(0, 4, 2) / 4)
    angles = torch.stack(
        [torch.cat([(x % 2 * step + 1) * freqs, (y % 2 * step + 1) * freqs]) for y, x in places]
    )
    same = [
        [j for j, (v, u) in enumerate(places) if (v // 2, u // 2) == (y // 2, x // 2)]
        for y, x in places
    ]
    first, second = read_attention(tower, image, [0, 1])
    expected = slow_weights(blocks[0], inputs_of(tower, blocks, image)[0], angles, same)
    for token in range(24):
        found = first.from_token(token)
        torch.testing.assert_close(found, expected[:, token], rtol=1e-4, atol=1e-5)
        assert int((found[0] > 0).sum()) == 4
    assert second.tokens_VS.shape == (1, 24) and first.tokens_VS.shape == (6, 4)


@torch.no_grad()
def test_padding_of_windows_is_named() -> None:
    tower = tower_of(**DETECTION)
    attention = read_attention(tower, image_of(12, 8), [0])[0]  # 3 x 2 tokens: one row is padding
    assert attention.tokens_VS.tolist() == [[0, 1, 2, 3], [4, 5, -1, -1]]
    sums = attention.from_token(4).sum(dim=1)
    assert (sums < 1).all() and torch.allclose(attention.from_token(0).sum(dim=1), torch.ones(2))


@torch.no_grad()
def test_reading_changes_nothing() -> None:
    for arch, size in ((SPATIAL, (12, 20)), (DETECTION, (16, 24))):
        tower = tower_of(**arch)
        image = image_of(*size)
        before = tower.forward_intermediates(image[None], [0, 2])
        tower.train()
        found = read_attention(tower, image, [2, 0])
        assert tower.training
        tower.eval()
        after = tower.forward_intermediates(image[None], [0, 2])
        for x, y in zip(before, after, strict=True):
            assert torch.equal(x, y)
        assert torch.equal(found[1].grid_of(found[1].hidden_NC.T), before[0][0])
        assert not any(block._forward_pre_hooks for block in tower.transformer.resblocks)


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "vit_small_patch16_dinov3"])
@torch.no_grad()
def test_timm_weights_rebuild_what_the_block_computes(name: str) -> None:
    """Weights times values, through the block's own projection, is its attention output."""
    pytest.importorskip("timm")
    from pe_dense.encoders.timm_vit import TimmEncoder

    torch.manual_seed(0)
    tower = TimmEncoder(name, depth=2).eval()
    image = image_of(48, 32)
    attention = read_attention(tower, image, [-1])[0]
    attn = tower.model.blocks[1].attn
    seen = {}
    hook = attn.register_forward_hook(lambda m, args, out: seen.update(x=args[0], y=out))
    tower.forward_intermediates(image[None], [-1])
    hook.remove()
    n, heads = attention.num_tokens, attention.num_heads
    assert n == tower.num_prefix_tokens + 6 and attention.grid_hw == (3, 2)
    qkv = seen["x"][0] @ attn.qkv.weight.T
    value_offset = 2 * qkv.shape[1] // 3
    bias = attn.qkv.bias if attn.qkv.bias is not None else getattr(attn, "v_bias", None)
    value = qkv[:, value_offset:]
    if bias is not None:
        value = value + bias[-value.shape[1] :]
    value = value.unflatten(1, (heads, -1))  # (N, M, D)
    mixed = torch.stack(
        [torch.einsum("mn,nmd->md", attention.from_token(i), value).flatten() for i in range(n)]
    )
    torch.testing.assert_close(attn.proj(mixed), seen["y"][0], rtol=1e-4, atol=1e-5)


def test_bad_input_is_one_sentence() -> None:
    tower = tower_of(**SPATIAL)
    with pytest.raises(ValueError, match=r"block index 3 is outside an encoder of 3 blocks"):
        read_attention(tower, image_of(8, 8), [3])
    with pytest.raises(ValueError, match="smaller than one 4-pixel patch"):
        read_attention(tower, image_of(3, 8), [0])
    attention = read_attention(tower, image_of(8, 8), [0])[0]
    with pytest.raises(ValueError, match="token 5 does not exist"):
        attention.from_token(5)


def test_an_encoder_without_known_blocks_is_refused() -> None:
    class Other(nn.Module):
        depth = 2

    with pytest.raises(ValueError, match="Other has no list of blocks"):
        read_attention(Other(), image_of(8, 8), [0])


def test_a_block_without_the_known_attention_is_refused() -> None:
    tower = tower_of(**SPATIAL)
    tower.transformer.resblocks[1].attn.forward = lambda tokens, *rest: tokens
    with pytest.raises(ValueError, match="block 1 made 0 calls"):
        read_attention(tower, image_of(8, 8), [1])
