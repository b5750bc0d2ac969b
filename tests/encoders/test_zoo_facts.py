"""What every short name builds, against the sources of the weights: one table over all of them.

Sources, beside timm's own pretrained_cfg: openai/CLIP (model.py: QuickGELU, ln_pre, no bias of the
patches), facebookresearch/dinov2 and dinov3 (hub/backbones.py), facebookresearch/EUPE @ f6cdf04
(eupe/hub/backbones.py, README), google-deepmind/tips @ 4db271d (pytorch/image_encoder.py,
run_image_encoder_inference.py), google-research/big_vision @ 0b73d7b (models/vit.py),
facebookresearch/mae (models_mae.py), baaivision/EVA (EVA-02), facebookresearch/sam3 @ 99d02f2.
"""

import re
from typing import NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torchvision_ops import importorskip_timm

from pe_dense.encoders.build import build_encoder
from pe_dense.encoders.timm_vit import TimmEncoder
from pe_dense.encoders.zoo import ENCODERS, LICENCES, NON_COMMERCIAL, find_encoder

timm = importorskip_timm()

IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CLIP = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
HALF = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
NONE = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
DINOV3, FAIR = "DINOv3 License", "FAIR Noncommercial Research License"


class Facts(NamedTuple):
    """One encoder: sizes, tokens, what an MLP and the norms compute."""

    patch: int
    width: int
    depth: int
    heads: int
    side: int
    prefix: int  # class token and registers
    class_token: bool
    activation: str  # gelu, gelu_tanh, quick_gelu or swiglu
    mean_std: tuple
    licence: str
    eps: float
    pre_norm: bool = False
    final_norm: bool = True
    layer_scale: bool = False
    positions: int | None = None  # rows of the table, None without one
    rope: bool = False


FACTS = {
    "dinov2_s14": Facts(14, 384, 12, 6, 518, 1, True, "gelu", IMAGENET, "Apache-2.0", 1e-6,
                        layer_scale=True, positions=1370),
    "dinov2_b14": Facts(14, 768, 12, 12, 518, 1, True, "gelu", IMAGENET, "Apache-2.0", 1e-6,
                        layer_scale=True, positions=1370),
    "dinov2_l14": Facts(14, 1024, 24, 16, 518, 1, True, "gelu", IMAGENET, "Apache-2.0", 1e-6,
                        layer_scale=True, positions=1370),
    "dinov2_g14": Facts(14, 1536, 40, 24, 518, 1, True, "swiglu", IMAGENET, "Apache-2.0", 1e-6,
                        layer_scale=True, positions=1370),
    "dinov2_b14_reg": Facts(14, 768, 12, 12, 518, 5, True, "gelu", IMAGENET, "Apache-2.0", 1e-6,
                            layer_scale=True, positions=1369),
    "dinov2_l14_reg": Facts(14, 1024, 24, 16, 518, 5, True, "gelu", IMAGENET, "Apache-2.0", 1e-6,
                            layer_scale=True, positions=1369),
    "dinov2_g14_reg": Facts(14, 1536, 40, 24, 518, 5, True, "swiglu", IMAGENET, "Apache-2.0", 1e-6,
                            layer_scale=True, positions=1369),
    "dinov3_s16": Facts(16, 384, 12, 6, 256, 5, True, "gelu", IMAGENET, DINOV3, 1e-5,
                        layer_scale=True, rope=True),
    "dinov3_b16": Facts(16, 768, 12, 12, 256, 5, True, "gelu", IMAGENET, DINOV3, 1e-5,
                        layer_scale=True, rope=True),
    "dinov3_l16": Facts(16, 1024, 24, 16, 256, 5, True, "gelu", IMAGENET, DINOV3, 1e-5,
                        layer_scale=True, rope=True),
    "eupe_t16": Facts(16, 192, 12, 3, 256, 5, True, "gelu", IMAGENET, FAIR, 1e-5,
                      layer_scale=True, rope=True),
    "eupe_s16": Facts(16, 384, 12, 6, 256, 5, True, "gelu", IMAGENET, FAIR, 1e-5,
                      layer_scale=True, rope=True),
    "eupe_b16": Facts(16, 768, 12, 12, 256, 5, True, "gelu", IMAGENET, FAIR, 1e-5,
                      layer_scale=True, rope=True),
    "tipsv2_b14": Facts(14, 768, 12, 12, 448, 2, True, "gelu", NONE, "CC-BY-4.0", 1e-6,
                        layer_scale=True, positions=1024),
    "tipsv2_l14": Facts(14, 1024, 24, 16, 448, 2, True, "gelu", NONE, "CC-BY-4.0", 1e-6,
                        layer_scale=True, positions=1024),
    "tipsv2_so400m14": Facts(14, 1152, 27, 16, 448, 2, True, "gelu", NONE, "CC-BY-4.0", 1e-6,
                             layer_scale=True, positions=1024),
    "tipsv2_g14": Facts(14, 1536, 40, 24, 448, 2, True, "swiglu", NONE, "CC-BY-4.0", 1e-6,
                        layer_scale=True, positions=1024),
    "siglip2_b16_512": Facts(16, 768, 12, 12, 512, 0, False, "gelu_tanh", HALF, "Apache-2.0", 1e-6,
                             positions=1024),
    "siglip2_l16_512": Facts(16, 1024, 24, 16, 512, 0, False, "gelu_tanh", HALF, "Apache-2.0",
                             1e-6, positions=1024),
    "siglip2_so400m_16_512": Facts(16, 1152, 27, 16, 512, 0, False, "gelu_tanh", HALF,
                                   "Apache-2.0", 1e-6, positions=1024),
    "clip_b16": Facts(16, 768, 12, 12, 224, 1, True, "quick_gelu", CLIP, "MIT", 1e-5,
                      pre_norm=True, positions=197),
    "clip_l14": Facts(14, 1024, 24, 16, 224, 1, True, "quick_gelu", CLIP, "MIT", 1e-5,
                      pre_norm=True, positions=257),
    "mae_b16": Facts(16, 768, 12, 12, 224, 1, True, "gelu", IMAGENET, "CC-BY-NC-4.0", 1e-6,
                     positions=197),
    "mae_l16": Facts(16, 1024, 24, 16, 224, 1, True, "gelu", IMAGENET, "CC-BY-NC-4.0", 1e-6,
                     positions=197),
    "eva02_b14_448": Facts(14, 768, 12, 12, 448, 1, True, "swiglu", CLIP, "MIT", 1e-6,
                           final_norm=False, positions=1025, rope=True),
    "eva02_l14_448": Facts(14, 1024, 24, 16, 448, 1, True, "swiglu", CLIP, "MIT", 1e-6,
                           final_norm=False, positions=1025, rope=True),
}  # fmt: skip
# timm's pretrained_cfg names the licence of its copy; ours is that of the source where they differ.
LICENCE_IN_TIMM = {
    "Apache-2.0": "apache-2.0",
    "MIT": "mit",
    "CC-BY-NC-4.0": "cc-by-nc-4.0",
    DINOV3: "dinov3-license",
    FAIR: "fair-noncommercial-research-license",
}
LICENCE_OF_THE_SOURCE = {"clip_b16", "clip_l14", "tipsv2_b14", "tipsv2_l14", "tipsv2_so400m14",
                         "tipsv2_g14"}  # fmt: skip
PE_LICENCES = {"pe": "Apache-2.0", "sam3": "SAM License"}
ACTIVATION = {
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "quick_gelu": lambda x: x * torch.sigmoid(1.702 * x),
    "swiglu": F.silu,
}
TIMM_NAMES = [name for name, spec in ENCODERS.items() if spec.family == "timm"]


def test_the_table_has_every_short_name_of_timm():
    assert sorted(FACTS) == sorted(TIMM_NAMES)


@pytest.mark.parametrize("name", TIMM_NAMES)
def test_short_names_build_what_their_weights_were_trained_with(name):
    facts, spec = FACTS[name], find_encoder(name)
    with torch.device("meta"):
        encoder = build_encoder(name)
    model, block = encoder.model, encoder.blocks[0]
    sizes = encoder.patch_size, encoder.embed_dim, encoder.depth, block.attn.num_heads
    assert sizes == (facts.patch, facts.width, facts.depth, facts.heads)
    assert encoder.native_hw == (facts.side, facts.side)
    assert encoder.any_size
    assert (encoder.num_prefix_tokens, encoder.has_class_token) == (facts.prefix, facts.class_token)
    assert (encoder.mean, encoder.std) == facts.mean_std
    config = timm.get_pretrained_cfg(spec.arch["model_name"])
    assert facts.mean_std == (tuple(config.mean), tuple(config.std))
    assert config.input_size == (3, facts.side, facts.side)
    assert spec.licence == facts.licence
    if name not in LICENCE_OF_THE_SOURCE:
        assert config.license == LICENCE_IN_TIMM[facts.licence]

    gated = type(block.mlp).__name__ in ("GluMlp", "SwiGLU")
    assert gated == (facts.activation == "swiglu")
    x = torch.linspace(-4, 4, 101)
    torch.testing.assert_close(block.mlp.act(x), ACTIVATION[facts.activation](x), rtol=0, atol=1e-6)
    assert block.norm1.eps == facts.eps
    assert isinstance(model.norm_pre, torch.nn.LayerNorm) == facts.pre_norm
    assert isinstance(model.norm, torch.nn.LayerNorm) == facts.final_norm
    assert (model.patch_embed.proj.bias is None) == name.startswith("clip_")
    scaled = getattr(block, "gamma_1", None) is not None or hasattr(
        getattr(block, "ls1", None), "gamma"
    )
    assert scaled == facts.layer_scale
    positions = getattr(model, "pos_embed", None)
    assert (None if positions is None else positions.shape[1]) == facts.positions
    assert (getattr(model, "rope", None) is not None) == facts.rope
    drops = [m for m in encoder.modules() if type(m).__name__ == "PatchDropout"]
    assert all(drop.prob == 0.0 for drop in drops)
    # A pooling head would leave parameters without a gradient.
    assert getattr(model, "attn_pool", None) is None


def test_activations_are_told_apart():
    x = torch.linspace(-4, 4, 101)
    gelu, tanh, quick = (ACTIVATION[k](x) for k in ("gelu", "gelu_tanh", "quick_gelu"))
    assert (gelu - tanh).abs().max() > 1e-4
    assert (gelu - quick).abs().max() > 1e-2


@pytest.mark.parametrize(
    "model_name",
    [
        "vit_base_patch16_clip_224.openai",
        "vit_large_patch14_clip_336.openai",
        "vit_large_patch14_clip_224.dfn2b",
        "vit_base_patch16_clip_224.metaclip_400m",
    ],
)
def test_clip_weights_under_a_name_with_gelu_are_refused(model_name):
    if model_name not in timm.list_pretrained():
        pytest.skip(f"timm {timm.__version__} has no {model_name}")
    quick = model_name.replace("_clip_", "_clip_quickgelu_")
    with torch.device("meta"):
        with pytest.raises(ValueError, match=re.escape(f"use timm:{quick}")):
            TimmEncoder(model_name)
        named = TimmEncoder(model_name, activation="quick_gelu", depth=1)
        gelu = TimmEncoder("vit_base_patch16_clip_224.laion2b", depth=1)  # trained with GELU
    x = torch.linspace(-4, 4, 101)
    assert torch.allclose(named.blocks[0].mlp.act(x), ACTIVATION["quick_gelu"](x), atol=1e-6)
    assert torch.allclose(gelu.blocks[0].mlp.act(x), F.gelu(x), atol=1e-6)


def test_activation_is_one_that_the_model_takes():
    with pytest.raises(ValueError, match=r"activation='relu' is not one of None, gelu"):
        TimmEncoder("vit_tiny_patch16_224", activation="relu")
    with pytest.raises(ValueError, match="has no other activation than its own"):
        TimmEncoder("eva02_tiny_patch14_224", activation="gelu_tanh")


@pytest.mark.parametrize("name", ENCODERS)
def test_every_short_name_has_a_licence_that_is_known(name):
    spec = ENCODERS[name]
    assert LICENCES[spec.licence].startswith("https://")
    if spec.family == "pe":
        assert spec.licence == PE_LICENCES[name.partition("_")[0]]
    non_commercial = ("mae_", "eupe_")
    assert spec.is_non_commercial == name.startswith(non_commercial)


def test_non_commercial_licences_say_so_in_their_name():
    assert {n for n in LICENCES if "NC" in n or "Noncommercial" in n} == NON_COMMERCIAL
