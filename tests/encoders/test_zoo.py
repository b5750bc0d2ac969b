"""The zoo: sizes of every PE tower, weight files, names, lazy imports."""

import subprocess
import sys

import pytest
import torch

from pe_dense.encoders.build import build_encoder
from pe_dense.encoders.zoo import ENCODERS, find_encoder

# Parameters and state-dict entries of the official towers (core/vision_encoder/config.py of
# facebookresearch/perception_models @ 3e352cc, counted on the meta device).
OFFICIAL_COUNTS = {
    "pe_core_g14_448": (1_882_032_640, 618),
    "pe_core_l14_336": (317_151_232, 307),
    "pe_core_b16_224": (93_672_960, 163),
    "pe_core_s16_384": (23_782_656, 163),
    "pe_core_t16_384": (6_140_544, 163),
    "pe_lang_g14_448": (1_740_922_624, 662),
    "pe_lang_l14_448": (291_415_040, 327),
    "pe_lang_g14_448_tiling": (1_740_922_624, 662),
    "pe_lang_l14_448_tiling": (291_415_040, 327),
    "pe_spatial_g14_448": (1_851_887_104, 704),
    "pe_spatial_l14_448": (303_964_160, 293),
    "pe_spatial_b16_512": (86_433_792, 149),
    "pe_spatial_s16_512": (21_983_232, 149),
    "pe_spatial_t16_512": (5_683_200, 149),
    # `ViT` of facebookresearch/sam3 @ 99d02f2 without the position of a class token and its tables.
    "sam3_l14_1008": (446_236_672, 388),
}
HUB_FILES = {
    "pe_core_g14_448": "hf://facebook/PE-Core-G14-448:PE-Core-G14-448.pt",
    "pe_lang_l14_448_tiling": "hf://facebook/PE-Lang-L14-448-Tiling:PE-Lang-L14-448-Tiling.pt",
    "pe_spatial_t16_512": "hf://facebook/PE-Spatial-T16-512:PE-Spatial-T16-512.pt",
}


def test_all_pe_towers_are_there():
    assert {name for name, spec in ENCODERS.items() if spec.family == "pe"} == set(OFFICIAL_COUNTS)


@pytest.mark.parametrize("name", OFFICIAL_COUNTS)
def test_towers_have_the_official_size(name):
    with torch.device("meta"):
        encoder = build_encoder(name)
    state = encoder.state_dict()
    counts = sum(tensor.numel() for tensor in state.values()), len(state)
    assert counts == OFFICIAL_COUNTS[name]
    assert encoder.name == name
    side = encoder.native_grid
    assert state["positional_embedding"].shape[0] == side**2 + encoder.num_prefix_tokens
    assert encoder.native_hw[0] == next(int(part) for part in name.split("_")[2:] if part.isdigit())
    assert name.startswith("sam3") or side * encoder.patch_size == encoder.native_hw[0]


@pytest.mark.parametrize(("name", "weights"), HUB_FILES.items())
def test_names_lead_to_hub_files(name, weights):
    assert find_encoder(name).weights == weights


def test_unknown_names_list_near_ones():
    with pytest.raises(ValueError, match="pe_spatial_b16_512"):
        find_encoder("PE-Spatial-B16-448")
    with pytest.raises(ValueError, match=r"unknown encoder 'zzz'.*timm:<model name>"):
        find_encoder("zzz")


def test_options_override_the_row():
    with torch.device("meta"):
        encoder = build_encoder(
            "pe_spatial_g14_448", depth=3, patch_size=16, image_size=512, window_size=32
        )
    assert (encoder.depth, encoder.patch_size, encoder.native_grid) == (3, 16, 32)
    with pytest.raises(ValueError, match=r"pe_spatial_t16_512 has no such option.*windows"):
        build_encoder("pe_spatial_t16_512", windows=3)


def test_rows_cannot_be_changed():
    with pytest.raises(TypeError):
        ENCODERS["pe_core_t16_384"].arch["depth"] = 1


def test_importing_the_zoo_does_not_import_torch():
    code = (
        "import sys, pe_dense.encoders.zoo; print('torch' in sys.modules or 'timm' in sys.modules)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "False"
