"""Read-outs of patches against the towers themselves, loops, and a tower solved by hand."""

from __future__ import annotations

import json
import math

import pytest
import torch
from small_towers import CORE, SPATIAL, tower_of
from torchvision_ops import importorskip_timm

from pe_dense.encoders.token_parts import token_parts
from pe_dense.text_dense.readouts import READOUTS, mixed_values, patch_embeddings

FAMILIES = ("core", "clip", "siglip")
TEXT = dict(context_length=8, vocab_size=49408, width=16, heads=2, layers=1)


@pytest.fixture(scope="module", params=FAMILIES)
def tower(request, tmp_path_factory):
    """A small tower of each family with random weights, and one that embeds a single token."""
    torch.manual_seed(0)
    if request.param == "core":
        core = tower_of(**CORE)
        pooled = lambda token_11C: core.attn_pool(core.ln_post(token_11C)) @ core.proj  # noqa: E731
        return core.requires_grad_(False), pooled
    importorskip_timm()
    open_clip = pytest.importorskip("open_clip")
    from pe_dense.encoders.build import build_encoder

    config = {
        "clip": dict(
            embed_dim=12,
            quick_gelu=True,
            vision_cfg=dict(
                image_size=32, layers=3, width=64, patch_size=8, head_width=16, ls_init_value=0.5
            ),
            text_cfg=TEXT,
        ),
        "siglip": dict(
            embed_dim=96,
            custom_text=True,
            vision_cfg=dict(image_size=160, timm_model_name="test_vit3", timm_pool="map",
                            timm_proj="none", timm_model_pretrained=False),
            text_cfg=TEXT,
        ),
    }[request.param]  # fmt: skip
    name = f"tiny-{request.param}-patches"
    folder = tmp_path_factory.mktemp("models")
    (folder / f"{name}.json").write_text(json.dumps(config))
    open_clip.add_model_config(folder)
    side = 48 if request.param == "siglip" else None
    visual = build_encoder(f"open_clip:{name}", image_size=side).eval().requires_grad_(False)
    for parameter in visual.parameters():
        parameter.add_(0.2 * torch.randn_like(parameter))
    model = visual.model

    def alone(token_11C):
        if request.param == "clip":
            return model._pool(token_11C)[0] @ model.proj
        return model.head(model.trunk.forward_head(model.trunk.norm(token_11C)))

    return visual, alone


def images_for(visual):
    torch.manual_seed(1)
    return torch.randn(2, 3, *visual.native_hw)


def test_the_pieces_of_a_block_make_the_block(tower):
    visual, _ = tower
    parts, images = token_parts(visual), images_for(visual)
    streams, grid_hw = parts.streams(images)
    h, w = (side // visual.patch_size for side in visual.native_hw)
    assert grid_hw == (h, w) and len(streams) == parts.depth + 1
    for block in range(parts.depth):
        q, k, v = parts.query_key_value(block, streams[block], grid_hw)
        x_BNC = streams[block] + parts.attention_branch(block, mixed_values(q, k, v, "query-key"))
        x_BNC = x_BNC + parts.mlp_branch(block, x_BNC)
        assert torch.allclose(x_BNC, streams[block + 1], atol=1e-4, rtol=1e-4)
    maps = visual.forward_intermediates(images, range(parts.depth))
    for map_BChw, x_BNC in zip(maps, streams[1:], strict=True):
        patches = x_BNC[:, parts.num_prefix_tokens :].transpose(1, 2).unflatten(2, grid_hw)
        assert torch.allclose(patches, map_BChw, atol=1e-5)


def test_a_token_is_embedded_as_the_tower_pools_it_alone(tower):
    visual, alone = tower
    parts = token_parts(visual)
    tokens_BNC = torch.randn(2, 3, visual.embed_dim)
    found = parts.embed(tokens_BNC)
    for b in range(2):
        for n in range(3):
            wanted = alone(tokens_BNC[b, n][None, None]).flatten()
            assert torch.allclose(found[b, n], wanted, atol=1e-4, rtol=1e-4)


def slow(parts, streams, grid_hw, readout, layer):
    """One patch, one head and one key at a time: what the four read-outs are said to be."""
    block = layer % parts.depth
    before = streams[block]
    prefix = parts.num_prefix_tokens
    if readout == "layer":
        after = streams[block + 1]
    else:
        q, k, v = (x.double() for x in parts.query_key_value(block, before, grid_hw))
        mixed = torch.zeros_like(v)
        likeness = {"maskclip": [], "sclip": [q, k], "clearclip": [q]}[readout]
        for b in range(v.shape[0]):
            for m in range(v.shape[1]):
                for n in range(v.shape[2]):
                    if readout == "maskclip":
                        mixed[b, m, n] = v[b, m, n]
                    for x in likeness:
                        rows = [float(x[b, m, n] @ x[b, m, j]) for j in range(x.shape[2])]
                        weights = [math.exp(r / math.sqrt(x.shape[3])) for r in rows]
                        for j, weight in enumerate(weights):
                            mixed[b, m, n] += weight / sum(weights) * v[b, m, j]
        after = parts.attention_branch(block, mixed.to(before))
        if readout != "clearclip":
            after = before + after
            after = after + parts.mlp_branch(block, after)
    embedding = parts.embed(after)
    embedding = embedding / embedding.square().sum(dim=-1, keepdim=True).sqrt()
    h, w = grid_hw
    rows = [[embedding[:, prefix + y * w + x] for x in range(w)] for y in range(h)]
    return torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)


@pytest.mark.parametrize("readout", READOUTS)
def test_read_outs_are_the_loops(tower, readout):
    visual, _ = tower
    parts = token_parts(visual)
    streams, grid_hw = parts.streams(images_for(visual)[:1])
    for layer in (-1, 0):
        found = patch_embeddings(parts, streams, grid_hw, readout, layer)
        wanted = slow(parts, streams, grid_hw, readout, layer)
        assert found.shape == wanted.shape
        assert torch.allclose(found, wanted, atol=1e-4)


class HandTower:
    """Two patches, no prefix, width 2: projections are the identity, the MLP doubles."""

    depth, num_prefix_tokens = 1, 0

    def query_key_value(self, block, x_BNC, grid_hw):
        heads = x_BNC[:, None]
        return heads, 2 * heads, 10 * heads

    def attention_branch(self, block, mixed_BMNd):
        return mixed_BMNd[:, 0]

    def mlp_branch(self, block, x_BNC):
        return 2 * x_BNC

    def embed(self, x_BNC):
        return x_BNC


def test_a_tower_that_is_solved_by_hand():
    """Patches e0 and e1; likeness of queries 1 and 0, of keys 4 and 0, over the root of 2."""
    x = torch.eye(2)[None]
    streams = [x, 5 * x]

    def found(readout):
        return patch_embeddings(HandTower(), streams, (1, 2), readout)[0, :, 0].T

    def unit(a, b):
        return torch.tensor([[a, b], [b, a]]) / math.hypot(a, b)

    own_q = math.exp(1 / math.sqrt(2)) / (math.exp(1 / math.sqrt(2)) + 1)
    own_k = math.exp(4 / math.sqrt(2)) / (math.exp(4 / math.sqrt(2)) + 1)
    assert torch.allclose(found("layer"), torch.eye(2))
    assert torch.allclose(found("maskclip"), torch.eye(2))
    assert torch.allclose(found("clearclip"), unit(own_q, 1 - own_q), atol=1e-6)
    both = unit(1 + 10 * (own_q + own_k), 10 * (2 - own_q - own_k))  # the MLP changes no direction
    assert torch.allclose(found("sclip"), both, atol=1e-6)


def test_what_cannot_be_read_is_one_sentence():
    with pytest.raises(ValueError, match="has no image embedding, so that no text"):
        token_parts(tower_of(**SPATIAL))
    with pytest.raises(ValueError, match="no family whose patches can be read here"):
        token_parts(torch.nn.Linear(1, 1))
    x = torch.eye(2)[None]
    with pytest.raises(ValueError, match="readout='pool' is not one of layer, maskclip"):
        patch_embeddings(HandTower(), [x, x], (1, 2), "pool")
    with pytest.raises(ValueError, match="block index 1 is outside"):
        patch_embeddings(HandTower(), [x, x], (1, 2), "layer", 1)


def test_pe_in_open_clips_port_is_named(tmp_path):
    importorskip_timm()
    pytest.importorskip("open_clip")
    from pe_dense.encoders.build import build_encoder

    with torch.device("meta"):
        port = build_encoder("open_clip:PE-Core-T-16-384")
    with pytest.raises(ValueError, match="PE Core under its own name"):
        token_parts(port)
