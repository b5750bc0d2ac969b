"""Every encoder by name: architecture, normalisation, native size, weights, licence.

A table and how to find a row in it; `encoders.build` makes an encoder of one. Importing this
module is cheap: it loads no torch.

Source of the PE rows: facebookresearch/perception_models @ 3e352cc
(core/vision_encoder/config.py); licences from its README. Hub files follow one rule:
repository facebook/<NAME>, file <NAME>.pt. Source of the SAM 3 row: facebookresearch/sam3 @
99d02f2 (sam3/model_builder.py, _create_vit_backbone). docs/encoders.md shows the whole table.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any


@dataclass(frozen=True)
class EncoderSpec:
    """One row of the zoo.

    Attributes:
        name: Name in this project, for example 'pe_spatial_b16_512'.
        family: 'pe', 'timm' or 'open_clip'.
        arch: Keyword arguments of `PerceptionEncoder`, or {'model_name': ...} of the others.
        weights: Where the released weights are: 'hf://repo:file', 'timm' for timm's own hub, or
            the name of open_clip, which knows.
        licence: Licence of the weights, a key of `LICENCES`.
        sha256: Published hash of that file; None where none is known here. The hub's cache has
            one of its own for whatever is downloaded, see `published`.
    """

    name: str
    family: str
    arch: Mapping[str, Any]
    weights: str
    licence: str
    sha256: str | None = None

    @property
    def is_non_commercial(self) -> bool:
        """Whether the licence of the weights excludes commercial use."""
        return self.licence in NON_COMMERCIAL


# Licences of weights: where their text is. What a licence asks for is for its reader to find out;
# marked is only whether it excludes commercial use altogether.
LICENCES = {
    "Apache-2.0": "https://www.apache.org/licenses/LICENSE-2.0",
    "MIT": "https://opensource.org/license/mit",
    "CC-BY-4.0": "https://creativecommons.org/licenses/by/4.0/",
    "CC-BY-NC-4.0": "https://creativecommons.org/licenses/by-nc/4.0/",
    "DINOv3 License": "https://github.com/facebookresearch/dinov3/blob/main/LICENSE.md",
    "FAIR Noncommercial Research License": (
        "https://github.com/facebookresearch/EUPE/blob/main/LICENSE.md"
    ),
    "SAM License": "https://github.com/facebookresearch/sam3/blob/main/LICENSE",
}
NON_COMMERCIAL = frozenset({"CC-BY-NC-4.0", "FAIR Noncommercial Research License"})
UNKNOWN_LICENCE = "see the timm model card"  # of timm models without a row
OPEN_CLIP_LICENCE = "see the model card"  # of open_clip's

# name: patch, width, depth, heads, MLP hidden, native side, cls token, LayerScale, output width
_PE_ROWS = {
    "pe_core_g14_448": (14, 1536, 50, 16, 8960, 448, False, None, 1280),
    "pe_core_l14_336": (14, 1024, 24, 16, 4096, 336, True, None, 1024),
    "pe_core_b16_224": (16, 768, 12, 12, 3072, 224, True, None, 1024),
    "pe_core_s16_384": (16, 384, 12, 6, 1536, 384, True, None, 512),
    "pe_core_t16_384": (16, 192, 12, 3, 768, 384, True, None, 512),
    "pe_lang_g14_448": (14, 1536, 47, 16, 8960, 448, False, 0.1, None),
    "pe_lang_l14_448": (14, 1024, 23, 16, 4096, 448, True, 0.1, None),
    "pe_lang_g14_448_tiling": (14, 1536, 47, 16, 8960, 448, False, 0.1, None),
    "pe_lang_l14_448_tiling": (14, 1024, 23, 16, 4096, 448, True, 0.1, None),
    "pe_spatial_g14_448": (14, 1536, 50, 16, 8960, 448, False, 0.1, None),
    "pe_spatial_l14_448": (14, 1024, 24, 16, 4096, 448, True, None, None),
    "pe_spatial_b16_512": (16, 768, 12, 12, 3072, 512, True, None, None),
    "pe_spatial_s16_512": (16, 384, 12, 6, 1536, 512, True, None, None),
    "pe_spatial_t16_512": (16, 192, 12, 3, 768, 512, True, None, None),
}

# Text towers of PE Core: context, width, depth, heads; all have CLIP's vocabulary.
TEXT_TOWERS: Mapping[str, tuple[int, int, int, int]] = MappingProxyType(
    {
        "pe_core_g14_448": (72, 1280, 24, 20),
        "pe_core_l14_336": (32, 1024, 24, 16),
        "pe_core_b16_224": (32, 1024, 24, 16),
        "pe_core_s16_384": (32, 512, 12, 8),
        "pe_core_t16_384": (32, 512, 12, 8),
    }
)

# Models of both towers behind rows that are vision towers alone: the same weights, as open_clip has
# them. The two hold them under names of their own, so that a record says which one was run.
BOTH_TOWERS: Mapping[str, str] = MappingProxyType(
    {
        "clip_b16": "open_clip:ViT-B-16-quickgelu.openai",
        "clip_l14": "open_clip:ViT-L-14-quickgelu.openai",
        "siglip2_b16_512": "open_clip:ViT-B-16-SigLIP2-512.webli",
        "siglip2_l16_512": "open_clip:ViT-L-16-SigLIP2-512.webli",
        "siglip2_so400m_16_512": "open_clip:ViT-SO400M-16-SigLIP2-512.webli",
    }
)

# sha256 of released files: the object ids that the hub gives them. Core L is that of revision
# bafb0f7 of facebook/PE-Core-L14-336 (2,684,747,432 bytes); Spatial B (345,783,707 bytes) is what
# three projects on GitHub found independently of each other. Of the others only one project says
# anything, or none.
_PE_SHA256 = {
    "pe_core_l14_336": "0cdab5b338cbaa1e7a5dcd1b2fb4c9f4d5df1abd289564658edbab64a650e7e8",
    "pe_spatial_b16_512": "86217607f0bb28c0adb5ac3f9b0608ae22f6fb634bf1c16b2316847e8148a2a5",
}

# The image encoder of SAM 3: PE L+ with windows, without class token and final norm. Its positions
# are those of 336 px tiled over 1008, its rotary positions those of one window: of the same step in
# windows (24 / 24), of a third of it in global blocks (24 / 72).
_SAM3 = dict(
    patch_size=14,
    embed_dim=1024,
    depth=32,
    num_heads=16,
    mlp_hidden=4736,
    image_size=1008,
    position_image_size=336,
    cls_token=False,
    pos_embed="tile",
    window_size=24,
    global_blocks=(7, 15, 23, 31),
    rope_grid=24,
)

# Short names of well-known baselines: timm model name, licence of the weights, and the activation
# of the MLPs where timm builds another than the weights were trained with. timm itself knows the
# rest: sizes, normalisation and where the weights are; tests/encoders/test_zoo_facts.py holds it
# against the sources.
# - OpenAI's CLIP was trained with QuickGELU: timm has it under names of their own.
# - SigLIP 2 was trained with the tanh form of GELU (google-research/big_vision @ 0b73d7b,
#   models/vit.py: flax's default): timm has it in So400m and not in B and L.
# - TIPSv2: Apache-2.0 on the model cards; google-deepmind/tips @ 4db271d puts what is no software
#   under CC-BY-4.0, which asks for more.
_TIMM_ROWS = {
    "dinov2_s14": ("vit_small_patch14_dinov2.lvd142m", "Apache-2.0"),
    "dinov2_b14": ("vit_base_patch14_dinov2.lvd142m", "Apache-2.0"),
    "dinov2_l14": ("vit_large_patch14_dinov2.lvd142m", "Apache-2.0"),
    "dinov2_g14": ("vit_giant_patch14_dinov2.lvd142m", "Apache-2.0"),
    "dinov2_b14_reg": ("vit_base_patch14_reg4_dinov2.lvd142m", "Apache-2.0"),
    "dinov2_l14_reg": ("vit_large_patch14_reg4_dinov2.lvd142m", "Apache-2.0"),
    "dinov2_g14_reg": ("vit_giant_patch14_reg4_dinov2.lvd142m", "Apache-2.0"),
    "dinov3_s16": ("vit_small_patch16_dinov3.lvd1689m", "DINOv3 License"),
    "dinov3_b16": ("vit_base_patch16_dinov3.lvd1689m", "DINOv3 License"),
    "dinov3_l16": ("vit_large_patch16_dinov3.lvd1689m", "DINOv3 License"),
    "eupe_t16": (
        "vit_tiny_patch16_dinov3_qkvb.eupe_lvd1689m",
        "FAIR Noncommercial Research License",
    ),
    "eupe_s16": (
        "vit_small_patch16_dinov3_qkvb.eupe_lvd1689m",
        "FAIR Noncommercial Research License",
    ),
    "eupe_b16": (
        "vit_base_patch16_dinov3_qkvb.eupe_lvd1689m",
        "FAIR Noncommercial Research License",
    ),
    "tipsv2_b14": ("vit_base_patch14_reg1_tipsv2.webli", "CC-BY-4.0"),
    "tipsv2_l14": ("vit_large_patch14_reg1_tipsv2.webli", "CC-BY-4.0"),
    "tipsv2_so400m14": ("vit_so400m_patch14_reg1_tipsv2.webli", "CC-BY-4.0"),
    "tipsv2_g14": ("vit_giant_patch14_reg1_tipsv2.webli", "CC-BY-4.0"),
    "siglip2_b16_512": ("vit_base_patch16_siglip_512.v2_webli", "Apache-2.0", "gelu_tanh"),
    "siglip2_l16_512": ("vit_large_patch16_siglip_512.v2_webli", "Apache-2.0", "gelu_tanh"),
    "siglip2_so400m_16_512": ("vit_so400m_patch16_siglip_512.v2_webli", "Apache-2.0"),
    "clip_b16": ("vit_base_patch16_clip_quickgelu_224.openai", "MIT"),
    "clip_l14": ("vit_large_patch14_clip_quickgelu_224.openai", "MIT"),
    "mae_b16": ("vit_base_patch16_224.mae", "CC-BY-NC-4.0"),
    "mae_l16": ("vit_large_patch16_224.mae", "CC-BY-NC-4.0"),
    "eva02_b14_448": ("eva02_base_patch14_448.mim_in22k_ft_in22k_in1k", "MIT"),
    "eva02_l14_448": ("eva02_large_patch14_448.mim_m38m_ft_in22k_in1k", "MIT"),
}


def _hub_name(name: str) -> str:
    family, variant, size, *rest = name.split("_")
    tail = "".join(f"-{part.capitalize()}" if part.isalpha() else f"-{part}" for part in rest)
    return f"{family.upper()}-{variant.capitalize()}-{size.capitalize()}{tail}"


def _pe_spec(name: str) -> EncoderSpec:
    patch, width, depth, heads, hidden, side, cls_token, gain, output_dim = _PE_ROWS[name]
    arch = dict(
        name=name,
        patch_size=patch,
        embed_dim=width,
        depth=depth,
        num_heads=heads,
        mlp_hidden=hidden,
        image_size=side,
        cls_token=cls_token,
        layer_scale=gain,
        pool_heads=None if output_dim is None else 8,
        output_dim=output_dim,
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
    )
    hub = _hub_name(name)
    weights = f"hf://facebook/{hub}:{hub}.pt"
    sha256 = _PE_SHA256.get(name)
    return EncoderSpec(name, "pe", MappingProxyType(arch), weights, "Apache-2.0", sha256)


def _sam3_spec(name: str) -> EncoderSpec:
    arch = dict(name=name, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), **_SAM3)
    return EncoderSpec(
        name, "pe", MappingProxyType(arch), "hf://facebook/sam3:sam3.pt", "SAM License"
    )


def _timm_spec(
    name: str, model_name: str, licence: str, activation: str | None = None
) -> EncoderSpec:
    arch = {"model_name": model_name}
    if activation is not None:
        arch["activation"] = activation
    return EncoderSpec(name, "timm", MappingProxyType(arch), "timm", licence)


ENCODERS: Mapping[str, EncoderSpec] = MappingProxyType(
    {name: _pe_spec(name) for name in _PE_ROWS}
    | {"sam3_l14_1008": _sam3_spec("sam3_l14_1008")}
    | {name: _timm_spec(name, *row) for name, row in _TIMM_ROWS.items()}
)


def find_encoder(name: str) -> EncoderSpec:
    """Look an encoder up; 'timm:<model name>' is any timm model, 'open_clip:<model>' of open_clip.

    Raises:
        ValueError: If the name is unknown; the message lists near names.

    Example:
        >>> find_encoder("pe_spatial_b16_512").weights
        'hf://facebook/PE-Spatial-B16-512:PE-Spatial-B16-512.pt'
    """
    if name.startswith("timm:"):
        return _timm_spec(name, name.removeprefix("timm:"), UNKNOWN_LICENCE)
    if name.startswith("open_clip:"):
        arch = MappingProxyType({"model_name": name.removeprefix("open_clip:")})
        return EncoderSpec(name, "open_clip", arch, name, OPEN_CLIP_LICENCE)
    if name not in ENCODERS:
        plain = name.lower().replace("-", "_")
        begun = [known for known in ENCODERS if plain and known.startswith(plain)]
        alike = difflib.get_close_matches(plain, ENCODERS, n=4, cutoff=0.4)
        near = list(dict.fromkeys([*begun, *alike]))[:4]
        raise ValueError(
            f"unknown encoder {name!r}; did you mean {', '.join(near or sorted(ENCODERS))}? "
            "(any timm ViT works as timm:<model name>, any of open_clip as open_clip:<model>)"
        )
    return ENCODERS[name]


def licences_in_words() -> dict[str, str]:
    """Licence of the weights of every encoder of the table; it says where it is non-commercial.

    Example:
        >>> licences_in_words()["mae_b16"]
        'CC-BY-NC-4.0, non-commercial'
    """
    return {
        name: f"{spec.licence}, non-commercial" if spec.is_non_commercial else spec.licence
        for name, spec in ENCODERS.items()
    }
