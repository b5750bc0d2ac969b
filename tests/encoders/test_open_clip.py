"""open_clip models behind the contract of encoders and of image and text, against open_clip."""

from __future__ import annotations

import json

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torchvision_ops import importorskip_timm

importorskip_timm()
open_clip = pytest.importorskip("open_clip")

from pe_dense.encoders.build import build_encoder, build_image_text  # noqa: E402
from pe_dense.encoders.contract import Encoder  # noqa: E402
from pe_dense.encoders.conversion import both_towers_to_official, official_to_timm  # noqa: E402
from pe_dense.encoders.open_clip_names import find_open_clip, released_file  # noqa: E402
from pe_dense.encoders.pe import PerceptionEncoder  # noqa: E402
from pe_dense.encoders.text_tower import ImageTextModel, TextTower  # noqa: E402
from pe_dense.encoders.weights import load_weights  # noqa: E402

TEXT = dict(context_length=12, vocab_size=49408, width=16, heads=2, layers=2)
CONFIGS = {
    "tiny-clip": dict(
        embed_dim=12,
        quick_gelu=True,
        vision_cfg=dict(image_size=32, layers=3, width=64, patch_size=8),
        text_cfg=TEXT,
    ),
    "tiny-pooled": dict(
        embed_dim=64,
        init_logit_bias=-10,
        custom_text=True,
        vision_cfg=dict(
            image_size=160, timm_model_name="test_vit3", timm_pool="map", timm_proj="none",
            timm_model_pretrained=False,
        ),
        text_cfg={**TEXT, "no_causal_mask": True, "proj_bias": True, "pool_type": "last"},
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """Small architectures under open_clip's own registry."""
    folder = tmp_path_factory.mktemp("open_clip")
    width = __import__("timm").create_model("test_vit3").embed_dim
    CONFIGS["tiny-pooled"]["embed_dim"] = width
    for name, config in CONFIGS.items():
        (folder / f"{name}.json").write_text(json.dumps(config))
    open_clip.add_model_config(folder)
    return tuple(CONFIGS)


def theirs(name, seed=0):
    """open_clip's own model with random weights, none of them zero."""
    torch.manual_seed(seed)
    model = open_clip.create_model(name).eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter.add_(0.05 * torch.randn_like(parameter))
    return model


def saved(model, path):
    save_file({k: v.contiguous().clone() for k, v in model.state_dict().items()}, path)
    return str(path)


def same(found, wanted):
    """To a few roundings: a fused attention and one in steps differ by that."""
    assert found.shape == wanted.shape
    assert (found - wanted).abs().max() <= 1e-5 * wanted.abs().max()


def pictures(model, count=2):
    torch.manual_seed(3)
    return torch.randn(count, 3, *model.visual.native_hw)


@torch.no_grad()
@pytest.mark.parametrize("name", list(CONFIGS))
def test_numbers_are_open_clips(tiny, tmp_path, name):
    wanted = theirs(name)
    model, info = build_image_text(f"open_clip:{name}", saved(wanted, tmp_path / "w.safetensors"))
    model.eval()
    assert info.source == "w.safetensors" and len(info.sha256) == 64
    images, texts = pictures(model), ["a cat", "two dogs and a bird on a long road at night"]
    tokens = model.tokenize(texts)
    assert torch.equal(tokens.ids_BL, open_clip.get_tokenizer(name)(texts))
    assert model.text.context_length == 12 and tokens.num_cut == 1
    same(model.encode_image(images), wanted.encode_image(images))
    same(model.encode_text(tokens.ids_BL), wanted.encode_text(tokens.ids_BL))
    found, _ = wanted.get_logits(images, tokens.ids_BL)
    same(model.logits(images, tokens.ids_BL), found)
    clips = torch.stack([images, images.flip(0)])
    frames = F.normalize(wanted.encode_image(clips.flatten(0, 1)), dim=-1)
    videos = model.encode_video(clips, normalize=True)
    assert torch.allclose(videos, frames.unflatten(0, (2, 2)).mean(1), atol=1e-6)
    unit = model.encode_text(tokens.ids_BL, normalize=True).norm(dim=-1)
    assert torch.allclose(unit, torch.ones(2))


@torch.no_grad()
@pytest.mark.parametrize("name", list(CONFIGS))
def test_the_vision_tower_is_an_encoder(tiny, tmp_path, name):
    wanted = theirs(name)
    encoder = build_encoder(f"open_clip:{name}")
    info = load_weights(encoder, saved(wanted, tmp_path / "w.safetensors"))
    assert info.notes == ("left out: the text tower",)
    assert isinstance(encoder.eval(), Encoder)
    images = torch.randn(2, 3, *encoder.native_hw)
    streams = []
    hooks = [b.register_forward_hook(lambda _m, _i, out: streams.append(out))
             for b in encoder.blocks]  # fmt: skip
    same(encoder.encode_image(images), wanted.encode_image(images))
    for hook in hooks:
        hook.remove()
    h, w = (side // encoder.patch_size for side in encoder.native_hw)
    prefix = encoder.num_prefix_tokens
    pairs = encoder.forward_intermediates(images, (-1, 0), return_prefix_tokens=True)
    for (map_BChw, prefix_BPC), tokens in zip(pairs, (streams[-1], streams[0]), strict=True):
        same(prefix_BPC, tokens[:, :prefix])
        same(map_BChw, tokens[:, prefix:].transpose(1, 2).unflatten(2, (h, w)))
    normed = encoder.forward_intermediates(images, (-1,), norm=True)[0]
    final = encoder.final_norm(streams[-1])[:, prefix:]
    assert torch.allclose(normed.flatten(2).transpose(1, 2), final, atol=1e-6)


@torch.no_grad()
@pytest.mark.parametrize("name", list(CONFIGS))
def test_what_maps_do_not_use_is_what_gets_no_gradient(tiny, name):
    with torch.enable_grad():
        encoder = build_encoder(f"open_clip:{name}", depth=2)
        images = torch.randn(1, 3, *encoder.native_hw)
        for norm in (False, True):
            encoder.zero_grad(set_to_none=True)
            encoder.forward_intermediates(images, (-1,), norm=norm)[0].square().sum().backward()
            unused = {id(p) for p in encoder.parameters() if p.grad is None}
            assert unused == {id(p) for p in encoder.head_parameters(norm)} != set()
    with pytest.raises(ValueError, match="cut to 2 blocks and has no embedding"):
        encoder.encode_image(images)


def test_weights_of_the_whole_tower_fill_a_cut_one_and_the_other_way_is_refused(tiny, tmp_path):
    path = saved(theirs("tiny-clip"), tmp_path / "w.safetensors")
    cut = build_encoder("open_clip:tiny-clip", depth=1)
    assert (
        "left out: the text tower and transformer.resblocks.1" in load_weights(cut, path).notes[0]
    )
    state = {k: v.contiguous() for k, v in cut.weights_state().items()}
    save_file(state, tmp_path / "cut.safetensors")
    with pytest.raises(ValueError, match="missing transformer.resblocks.1"):
        load_weights(build_encoder("open_clip:tiny-clip"), tmp_path / "cut.safetensors")


def test_files_that_do_not_fit_change_nothing(tiny, tmp_path):
    model, _ = build_image_text("open_clip:tiny-clip")
    before = {k: v.clone() for k, v in model.state_dict().items()}
    state = {k: v.clone().contiguous() for k, v in theirs("tiny-clip").state_dict().items()}
    for changed, words in (
        ({k: v for k, v in state.items() if k != "ln_final.bias"}, "missing text.ln_final.bias"),
        (state | {"extra": torch.zeros(1)}, "unexpected extra"),
        (state | {"text_projection": torch.zeros(16, 13)}, "shape text.text_projection"),
        (state | {"ln_final.bias": torch.full((16,), torch.nan)}, "holds NaN"),
    ):
        save_file(changed, tmp_path / "x.safetensors")
        with pytest.raises(ValueError, match=words):
            load_weights(model, tmp_path / "x.safetensors")
        assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


@torch.no_grad()
def test_positions_of_another_size_are_open_clips(tiny, tmp_path):
    path = saved(theirs("tiny-clip"), tmp_path / "w.safetensors")
    model, info = build_image_text("open_clip:tiny-clip", path, image_size=48)
    wanted = open_clip.create_model("tiny-clip", force_image_size=48, pretrained=path).eval()
    images = pictures(model)
    assert info.notes[0] == "positions resampled from 4x4 to 6x6"
    assert torch.allclose(model.eval().encode_image(images), wanted.encode_image(images), atol=1e-5)
    with pytest.raises(ValueError, match="reads images of 48x48 only, got 32x32"):
        model.encode_image(torch.zeros(1, 3, 32, 32))


def test_names_that_cannot_be_used(tiny):
    for name, words in (
        ("open_clip:ViT-B-17", "knows no model 'ViT-B-17'; did you mean"),
        ("open_clip:ViT-B-16.nothing", "knows no weights ViT-B-16.nothing; those of"),
        ("open_clip:ViT-B-16.openai", "trained with QuickGELU.*use open_clip:ViT-B-16-quickgelu"),
        ("open_clip:ViT-L-14", "different normalisations; name one: open_clip:ViT-L-14.openai"),
        ("open_clip:coca_ViT-B-32", "captioning model"),
        ("open_clip:RN50", "no plain ViT but a ResNet"),
        ("open_clip:roberta-ViT-B-32", "one of transformers"),
        ("clip_b16", "model of both towers is open_clip:ViT-B-16-quickgelu.openai"),
        ("timm:vit_small_patch14_dinov2.lvd142m", "has no text tower"),
    ):
        with pytest.raises(ValueError, match=words):
            build_image_text(name)
    with pytest.raises(ValueError, match="names no weights; name them"):
        build_image_text("open_clip:ViT-B-16", "released")
    assert released_file("open_clip:ViT-B-16.laion2b_s34b_b88k") == (
        "hf://laion/CLIP-ViT-B-16-laion2B-s34B-b88K:open_clip_model.safetensors"
    )
    assert find_open_clip("open_clip:ViT-B-16-SigLIP2-512").mean == (0.5, 0.5, 0.5)


def test_ids_that_do_not_fit_are_refused(tiny):
    model, _ = build_image_text("open_clip:tiny-pooled")
    with pytest.raises(ValueError, match=r"do not fit open_clip:tiny-pooled; pass \(B, 12\)"):
        model.encode_text(torch.zeros(2, 11, dtype=torch.long))
    with pytest.raises(ValueError, match="above the vocabulary"):
        model.encode_text(torch.full((1, 12), 49408))


def test_a_tokenizer_that_is_not_here_is_one_sentence(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with torch.device("meta"):
        model, _ = build_image_text("open_clip:ViT-B-16-SigLIP2-512")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match="ViT-B-16-SigLIP2-512, is not in the hub's cache"):
        model.tokenize(["a cat"])
    assert model.text.context_length == 64 and model.visual.native_hw == (512, 512)


@torch.no_grad()
def test_pe_core_equals_open_clips_port(tmp_path):
    """Both towers with the same random weights, through the key map and back."""
    torch.manual_seed(0)
    side, width = 384, 192  # timm's port has the sizes of the T tower
    visual = PerceptionEncoder(
        patch_size=16, embed_dim=width, depth=12, num_heads=3, mlp_hidden=768, image_size=side,
        cls_token=True, pool_heads=8, output_dim=16,
    )  # fmt: skip
    text = TextTower(context_length=10, embed_dim=32, depth=2, num_heads=2, output_dim=16)
    ours = ImageTextModel(visual, text).eval()
    for parameter in ours.parameters():
        parameter.add_(0.02 * torch.randn_like(parameter))
    config = dict(
        embed_dim=16,
        custom_text=True,
        vision_cfg=dict(
            image_size=side, timm_model_name="vit_pe_core_tiny_patch16_384", timm_pool="map",
            timm_proj=None, timm_model_pretrained=False,
        ),
        text_cfg=dict(context_length=10, vocab_size=49408, width=32, heads=2, layers=2),
    )  # fmt: skip
    (tmp_path / "tiny-pe.json").write_text(json.dumps(config))
    open_clip.add_model_config(tmp_path / "tiny-pe.json")
    tower = official_to_timm(visual.state_dict())
    state = {f"visual.trunk.{k}": v for k, v in tower.items()}
    state |= {f"text.{k}": v for k, v in text.state_dict().items()}
    state["logit_scale"] = ours.logit_scale.detach()
    path = tmp_path / "port.safetensors"
    save_file({k: v.clone().contiguous() for k, v in state.items()}, path)
    port, _ = build_image_text("open_clip:tiny-pe", str(path))
    images, ids = torch.randn(1, 3, side, side), ours.tokenize(["a red car", "two"]).ids_BL
    assert torch.equal(port.tokenize(["a red car", "two"]).ids_BL, ids)
    for found, wanted in zip(port.eval()(images, ids), ours(images, ids), strict=True):
        assert torch.allclose(found, wanted, atol=1e-5)
    back = both_towers_to_official(port.official_state())
    official = ours.official_state()
    assert back.keys() == official.keys()
    assert all(torch.equal(back[key], official[key]) for key in official)
    with torch.device("cpu"):
        ours.load_official_state(port.official_state())
