"""Learning rate and weight decay of every parameter, against numbers computed by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

pytest.importorskip("mmengine")

from mmengine.optim import build_optim_wrapper

import pe_dense.openmmlab.layer_decay  # noqa: F401
from pe_dense.encoders.pe import PerceptionEncoder

LR, WEIGHT_DECAY = 1e-3, 0.05


class Detector(nn.Module):
    """Parameters with the names that a detector with a PE backbone has."""

    def __init__(self, pool_heads: int | None = None) -> None:
        super().__init__()
        self.backbone = nn.Module()
        self.backbone.encoder = PerceptionEncoder(
            patch_size=4, embed_dim=8, depth=12, num_heads=2, mlp_hidden=8, image_size=8,
            cls_token=True, layer_scale=0.1, pool_heads=pool_heads,
            output_dim=None if pool_heads is None else 4,
        )  # fmt: skip
        self.neck = nn.Conv2d(8, 8, 1)
        self.bbox_head = nn.Module()
        self.bbox_head.sampling_offsets = nn.Linear(8, 8)
        self.bbox_head.norm = nn.LayerNorm(8)
        self.query_embedding = nn.Embedding(5, 8)


class TimmLike(nn.Module):
    """Parameters with the names of a timm ViT behind DenseBackbone."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Module()
        self.backbone.encoder = nn.Module()
        model = self.backbone.encoder.model = nn.Module()
        model.cls_token = nn.Parameter(torch.zeros(1, 1, 8))
        model.reg_token = nn.Parameter(torch.zeros(1, 4, 8))
        model.pos_embed = nn.Parameter(torch.zeros(1, 5, 8))
        model.patch_embed = nn.Module()
        model.patch_embed.proj = nn.Conv2d(3, 8, 4)
        model.norm_pre = nn.LayerNorm(8)
        model.blocks = nn.ModuleList(nn.Module() for _ in range(12))
        for block in model.blocks:
            block.norm1 = nn.LayerNorm(8)
            block.attn = nn.Module()
            block.attn.qkv = nn.Linear(8, 24)
            block.attn.proj = nn.Linear(8, 8)
        model.norm = nn.LayerNorm(8)
        self.head = nn.Conv2d(8, 2, 1)


def settings_of(model: nn.Module, **paramwise: object) -> dict[str, tuple[float, float]]:
    """(lr, weight decay) of every parameter in the optimizer, by name; each exactly once."""
    wrapper = build_optim_wrapper(
        model,
        dict(
            type="OptimWrapper",
            optimizer=dict(type="AdamW", lr=LR, weight_decay=WEIGHT_DECAY),
            constructor="EncoderLayerDecay",
            paramwise_cfg=dict(layer_decay=0.9) | paramwise,
        ),
    )
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    found: dict[str, tuple[float, float]] = {}
    for group in wrapper.optimizer.param_groups:
        for parameter in group["params"]:
            name = names[id(parameter)]
            assert name not in found, f"{name} is in two groups"
            found[name] = (group["lr"], group["weight_decay"])
    return found


def test_learning_rate_by_depth() -> None:
    found = settings_of(Detector())
    encoder = "backbone.encoder."
    by_hand = {
        # In front of the blocks: id 0 of 0..13, so 0.9 ** 13 = 0.2541865828329.
        f"{encoder}conv1.weight": 0.2541865828329,
        f"{encoder}class_embedding": 0.2541865828329,
        f"{encoder}positional_embedding": 0.2541865828329,
        f"{encoder}ln_pre.weight": 0.2541865828329,
        # Block i has id i + 1: 0.9 ** 12, 0.9 ** 7, 0.9 ** 1.
        f"{encoder}transformer.resblocks.0.attn.in_proj_weight": 0.282429536481,
        f"{encoder}transformer.resblocks.5.mlp.c_fc.weight": 0.4782969,
        f"{encoder}transformer.resblocks.5.ls_1.gamma": 0.4782969,
        f"{encoder}transformer.resblocks.11.attn.out_proj.weight": 0.9,
        f"{encoder}transformer.resblocks.11.ln_1.bias": 0.9,
        "neck.weight": 1.0,
        "bbox_head.sampling_offsets.weight": 1.0,
        "bbox_head.norm.weight": 1.0,
        "query_embedding.weight": 1.0,
    }
    for name, factor in by_hand.items():
        assert found[name][0] == pytest.approx(LR * factor, rel=1e-12), name
    for i in range(12):
        rates = {lr for name, (lr, _) in found.items() if f"resblocks.{i}." in name}
        assert list(rates) == [pytest.approx(LR * 0.9 ** (13 - (i + 1)), rel=1e-12)]


def test_layers_behind_the_blocks_learn_at_the_full_rate() -> None:
    found = settings_of(Detector(pool_heads=2))
    behind = [n for n in found if ".attn_pool." in n or ".ln_post." in n or n.endswith(".proj")]
    assert len(behind) > 5
    assert {found[name][0] for name in behind} == {LR}


def test_every_trained_parameter_is_optimized_once() -> None:
    model = Detector()
    assert settings_of(model).keys() == dict(model.named_parameters()).keys()


def test_no_decay_on_vectors_and_encoder_embeddings_by_default() -> None:
    model = Detector()
    found = settings_of(model)
    for name, parameter in model.named_parameters():
        spared = parameter.ndim == 1 or name == "backbone.encoder.positional_embedding"
        assert found[name][1] == (0.0 if spared else WEIGHT_DECAY), name
    assert found["query_embedding.weight"][1] == WEIGHT_DECAY


def test_decay_on_everything_when_asked() -> None:
    found = settings_of(Detector(), decay_norm_and_bias=True)
    assert {decay for _, decay in found.values()} == {WEIGHT_DECAY}


def test_custom_keys_multiply() -> None:
    found = settings_of(
        Detector(),
        custom_keys={
            "sampling_offsets": dict(lr_mult=0.1),
            "resblocks.11.": dict(lr_mult=0.5, decay_mult=2.0),
        },
    )
    assert found["bbox_head.sampling_offsets.weight"] == pytest.approx((1e-4, 0.05))
    block = "backbone.encoder.transformer.resblocks.11."
    assert found[f"{block}mlp.c_fc.weight"] == pytest.approx((4.5e-4, 0.1))
    assert found[f"{block}mlp.c_fc.bias"] == pytest.approx((4.5e-4, 0.0))
    assert found["neck.weight"] == pytest.approx((1e-3, 0.05))


def test_factor_one_switches_the_decay_off() -> None:
    assert {lr for lr, _ in settings_of(Detector(), layer_decay=1.0).values()} == {LR}


def test_frozen_parameters_are_left_out() -> None:
    model = Detector()
    model.backbone.requires_grad_(False)
    found = settings_of(model)
    assert found and not any(name.startswith("backbone.") for name in found)


def test_names_of_timm() -> None:
    found = settings_of(TimmLike())
    model = "backbone.encoder.model."
    by_hand = {
        f"{model}cls_token": 0.9**13,
        f"{model}reg_token": 0.9**13,
        f"{model}pos_embed": 0.9**13,
        f"{model}patch_embed.proj.weight": 0.9**13,
        f"{model}patch_embed.proj.bias": 0.9**13,
        f"{model}norm_pre.weight": 0.9**13,
        f"{model}blocks.0.attn.qkv.weight": 0.9**12,
        f"{model}blocks.3.norm1.weight": 0.9**9,
        f"{model}blocks.3.attn.proj.weight": 0.9**9,
        f"{model}blocks.11.attn.qkv.bias": 0.9,
        f"{model}norm.weight": 1.0,
        "head.weight": 1.0,
    }
    wrong = {
        name: found[name][0] / LR
        for name, factor in by_hand.items()
        if found[name][0] != pytest.approx(LR * factor, rel=1e-12)
    }
    assert not wrong


def test_tokens_and_positions_of_timm_do_not_decay() -> None:
    found = settings_of(TimmLike())
    model = "backbone.encoder.model."
    decays = {name: found[model + name][1] for name in ("pos_embed", "cls_token", "reg_token")}
    assert decays == dict.fromkeys(decays, 0.0)
    assert found[f"{model}patch_embed.proj.weight"][1] == WEIGHT_DECAY


@pytest.mark.parametrize(
    ("paramwise", "words"),
    [
        (dict(layer_decy=0.8), "no setting .*layer_decy"),
        (dict(backbone="encoder."), "no parameter starts with 'encoder.'.*paramwise_cfg.backbone"),
    ],
)
def test_wrong_settings(paramwise: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        settings_of(Detector(), **paramwise)
