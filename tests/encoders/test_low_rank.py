"""LoRA on encoders: begins as the encoder, trains nothing else, and merges into plain weights."""

from __future__ import annotations

import copy
import sys

import pytest
import torch
from small_towers import DETECTION, SPATIAL, tower_of
from torch import Tensor, nn
from torchvision_ops import importorskip_timm

pytest.importorskip("peft")

from pe_dense.encoders import compiled_block
from pe_dense.encoders.low_rank import (
    SCALE,
    LinearQKV,
    add_adapters,
    effective_weight,
    has_adapters,
    is_adapter_parameter,
    merged,
    merged_state,
)
from pe_dense.encoders.pe import PerceptionEncoder, SelfAttention

TOWERS = pytest.mark.parametrize("arch", [SPATIAL, DETECTION], ids=["spatial", "windowed"])


def pictures(side: int = 20) -> Tensor:
    return torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(1))


def adapted(arch: dict, rank: int = 2) -> PerceptionEncoder:
    """A tower whose updates are no longer zero."""
    tower = tower_of(**arch)
    add_adapters(tower, rank)
    for name, parameter in tower.named_parameters():
        if is_adapter_parameter(name):
            nn.init.normal_(parameter, std=0.2)
    return tower


def by_hand(tower: PerceptionEncoder, like: PerceptionEncoder) -> PerceptionEncoder:
    """A plain tower with W + SCALE * B A, written down from the updates."""
    plain = copy.deepcopy(like)
    with torch.no_grad():
        for own, block in zip(plain.blocks, tower.blocks, strict=True):
            for weight, layer in (
                (own.attn.in_proj_weight, block.attn.in_proj),
                (own.attn.out_proj.weight, block.attn.out_proj),
                (own.mlp.c_fc.weight, block.mlp.c_fc),
                (own.mlp.c_proj.weight, block.mlp.c_proj),
            ):
                down, up = layer.lora_A["default"].weight, layer.lora_B["default"].weight
                weight += 2.0 * torch.einsum("or,ri->oi", up, down)
    return plain


@TOWERS
def test_a_tower_begins_as_it_was(arch: dict) -> None:
    tower = tower_of(**arch)
    plain = copy.deepcopy(tower)
    names = add_adapters(tower, 3)
    assert names == ["attn.in_proj", "attn.out_proj", "mlp.c_fc", "mlp.c_proj"]
    with torch.no_grad():
        assert torch.equal(tower(pictures()), plain(pictures()))


@TOWERS
def test_updates_act_as_their_product_with_and_without_a_gradient(arch: dict) -> None:
    tower = adapted(arch)
    expected = by_hand(tower, tower_of(**arch))
    found = tower(pictures())
    with torch.no_grad():
        target = expected(pictures())
        torch.testing.assert_close(found, target, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(tower(pictures()), target, rtol=1e-4, atol=1e-4)
        assert (tower_of(**arch)(pictures()) - target).abs().max() > 0.1  # there was something


def test_gradients_reach_every_update_and_nothing_else() -> None:
    tower = adapted(SPATIAL)
    tower(pictures()).square().sum().backward()
    with_gradient = {name for name, p in tower.named_parameters() if p.grad is not None}
    updates = {name for name, _ in tower.named_parameters() if is_adapter_parameter(name)}
    assert with_gradient == updates and len(updates) == 3 * 4 * 2
    assert all(p.grad.abs().max() > 0 for p in tower.parameters() if p.requires_grad)


@TOWERS
def test_merging_gives_a_plain_tower_of_the_same_function(arch: dict) -> None:
    tower = adapted(arch)
    before = {key: value.clone() for key, value in tower.state_dict().items()}
    plain = merged(tower)
    assert not has_adapters(plain) and has_adapters(tower)
    assert [type(b.attn) for b in plain.blocks] == [SelfAttention] * 3
    assert plain.state_dict().keys() == tower_of(**arch).state_dict().keys()
    with torch.no_grad():
        scale = tower(pictures()).abs().max()
        assert (plain(pictures()) - tower(pictures())).abs().max() <= 1e-6 * scale
    for key, value in tower.state_dict().items():  # it has not changed
        assert torch.equal(value, before[key])


@TOWERS
def test_a_merged_state_equals_a_merged_tower_and_needs_no_peft(
    arch: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    tower = adapted(arch)
    expected = merged(tower).state_dict()
    monkeypatch.setitem(sys.modules, "peft", None)
    found = merged_state({f"backbone.encoder.{k}": v for k, v in tower.state_dict().items()})
    assert set(found) == {f"backbone.encoder.{key}" for key in expected}
    for key, value in expected.items():
        torch.testing.assert_close(found[f"backbone.encoder.{key}"], value, rtol=0, atol=1e-6)


def test_a_state_without_updates_comes_back_and_half_an_update_is_refused() -> None:
    state = tower_of(**SPATIAL).state_dict()
    assert all(merged_state(state)[key] is value for key, value in state.items())
    assert merged_state({}) == {}
    half = adapted(SPATIAL).state_dict()
    half.pop("transformer.resblocks.1.mlp.c_fc.lora_B.default.weight")
    with pytest.raises(ValueError, match=r"1\.mlp\.c_fc has no .*lora_B"):
        merged_state(half)


def test_recomputed_and_half_precision_passes_go_through_the_updates() -> None:
    tower = adapted(SPATIAL)
    expected = tower(pictures())
    tower.set_grad_checkpointing()
    again = tower(pictures())
    torch.testing.assert_close(again, expected)
    again.square().sum().backward()
    assert all((p.grad is not None) == p.requires_grad for p in tower.parameters())
    tower.set_grad_checkpointing(False)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        half = tower(pictures()).float()
        plain = merged(tower)(pictures()).float()
    scale = expected.abs().max()
    assert (half - expected).abs().max() < 0.05 * scale
    assert (half - plain).abs().max() < 0.05 * scale


def test_the_fused_product_of_an_mlp_steps_aside(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU the MLP reads the weight of its first layer; an update is not in it."""
    from pe_dense.encoders import residual_norm

    tower = adapted(SPATIAL)
    monkeypatch.setattr(residual_norm, "runs_fused", lambda x, weight: True)
    layer, x = tower.blocks[0].mlp.c_fc, torch.randn(2, 5, 16)
    weight, bias = effective_weight(layer), layer.base_layer.bias
    with torch.no_grad():
        expected = nn.functional.gelu(nn.functional.linear(x, weight, bias))
        torch.testing.assert_close(residual_norm.linear_gelu(x, layer), expected, atol=1e-5, rtol=0)


def test_compiled_blocks_go_through_the_updates(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.compiler.reset()
    compiled_block.compiled_block.cache_clear()
    monkeypatch.setattr(compiled_block, "BACKEND", "aot_eager")
    tower = adapted(SPATIAL)
    expected = tower(pictures())
    expected.square().sum().backward()
    gradients = {n: p.grad.clone() for n, p in tower.named_parameters() if p.requires_grad}
    tower.zero_grad()
    tower.set_compile_blocks()
    found = tower(pictures())
    found.square().sum().backward()
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    for name, parameter in tower.named_parameters():
        if parameter.requires_grad:
            torch.testing.assert_close(
                parameter.grad, gradients[name], rtol=1e-3, atol=1e-3 * gradients[name].abs().max()
            )
    torch.compiler.reset()
    compiled_block.compiled_block.cache_clear()


def test_what_reads_the_fused_weight_gets_the_update() -> None:
    tower = adapted(SPATIAL)
    attention = tower.blocks[1].attn
    assert isinstance(attention, LinearQKV) and SCALE == 2.0
    expected = by_hand(tower, tower_of(**SPATIAL)).blocks[1].attn
    torch.testing.assert_close(attention.in_proj_weight, expected.in_proj_weight)
    torch.testing.assert_close(attention.in_proj_bias, expected.in_proj_bias)


class ByHand(nn.Module):
    """A layer whose weight is multiplied without calling it, as BEiT's qkv."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.called = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        return self.called(nn.functional.linear(x, self.hidden.weight))


class ToyEncoder(nn.Module):
    name, patch_size, any_size, native_hw = "toy", 2, True, (4, 4)

    def __init__(self, *blocks: nn.Module) -> None:
        super().__init__()
        self.embed, self.blocks = nn.Conv2d(3, 8, 2, stride=2), nn.Sequential(*blocks)

    def forward_intermediates(self, images_B3HW: Tensor, out_indices: object) -> list[Tensor]:
        tokens = self.embed(images_B3HW).flatten(2).mT
        return [self.blocks(tokens).mT.unflatten(2, (2, 2))]


def test_a_layer_that_is_not_called_gets_no_update() -> None:
    encoder = ToyEncoder(ByHand(), ByHand()).train()
    encoder.blocks[0].eval()
    assert add_adapters(encoder, 1) == ["called"]
    assert encoder.training and not encoder.blocks[0].training  # the trial pass has left the modes
    assert not has_adapters(encoder.blocks[0].hidden)


def test_an_encoder_without_linear_layers_is_refused() -> None:
    with pytest.raises(ValueError, match=r"toy has no linear layer .*LoRA.*layers=N"):
        add_adapters(ToyEncoder(nn.ReLU()), 4)


def test_without_peft_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    tower = tower_of(**SPATIAL)
    with pytest.raises(ValueError, match=r"pip install 'pe_dense\[lora\]'"):
        add_adapters(tower, 4)
    assert type(tower.blocks[0].attn) is SelfAttention


def test_timm_towers_too() -> None:
    importorskip_timm()
    from pe_dense.encoders.build import build_encoder

    torch.manual_seed(0)
    encoder = build_encoder("timm:vit_tiny_patch16_224", depth=2).eval()
    plain = copy.deepcopy(encoder)
    assert add_adapters(encoder, 2) == ["attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2"]
    images = pictures(32)
    with torch.no_grad():
        assert torch.equal(encoder(images), plain(images))
        for name, parameter in encoder.named_parameters():
            if is_adapter_parameter(name):
                nn.init.normal_(parameter, std=0.2)
        found = encoder(images)
        plain.load_state_dict(merged_state(encoder.state_dict()))
        scale = found.abs().max()
        assert (plain(images) - found).abs().max() < 1e-5 * scale
        assert (merged(encoder)(images) - found).abs().max() < 1e-5 * scale
