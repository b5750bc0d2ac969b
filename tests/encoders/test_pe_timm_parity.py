"""PE against timm's port of it, with the same random weights.

The two are the same function at the native size. At other sizes timm resamples positions in
another way (bicubic with antialias, rescaled rotary coordinates); with the positions resampled
as here and the rotary reference grid set to the current one they agree again.
"""

import pytest
import torch
from torchvision_ops import importorskip_timm

from pe_dense.encoders.build import build_encoder
from pe_dense.encoders.conversion import official_to_timm, timm_to_official

timm = importorskip_timm()

TIMM_NAMES = {
    "pe_spatial_t16_512": "vit_pe_spatial_tiny_patch16_512",
    "pe_spatial_l14_448": "vit_pe_spatial_large_patch14_448",
    "pe_spatial_g14_448": "vit_pe_spatial_gigantic_patch14_448",
    "pe_core_t16_384": "vit_pe_core_tiny_patch16_384",
    "pe_core_l14_336": "vit_pe_core_large_patch14_336",
    "pe_core_g14_448": "vit_pe_core_gigantic_patch14_448",
    "pe_lang_l14_448": "vit_pe_lang_large_patch14_448",
    "pe_lang_g14_448": "vit_pe_lang_gigantic_patch14_448",
}
TOLERANCE = 1e-5  # of the largest number; both run in float32


def random_tower(name):
    torch.manual_seed(0)
    encoder = build_encoder(name).eval().requires_grad_(False)
    for parameter in encoder.parameters():  # no zero biases and unit gains
        parameter.add_(0.02 * torch.randn_like(parameter))
    return encoder


def assert_close(expected, actual):
    assert actual.shape == expected.shape
    assert (actual - expected).abs().max() <= TOLERANCE * expected.abs().max()


@torch.no_grad()
@pytest.mark.parametrize("name", ["pe_spatial_t16_512", "pe_core_t16_384"])
def test_every_block_equals_timm_at_native_size(name):
    encoder = random_tower(name)
    port = timm.create_model(TIMM_NAMES[name]).eval()
    port.load_state_dict(official_to_timm(encoder.state_dict()), strict=True)
    side = encoder.native_grid * encoder.patch_size
    images = torch.randn(1, 3, side, side)
    expected = port.forward_intermediates(
        images, return_prefix_tokens=True, norm=False, intermediates_only=True
    )
    actual = encoder.forward_intermediates(images, range(12), return_prefix_tokens=True)
    for (expected_map, expected_prefix), (map_BChw, prefix_BPC) in zip(
        expected, actual, strict=True
    ):
        assert_close(expected_map, map_BChw)
        assert_close(expected_prefix, prefix_BPC)
    if name.startswith("pe_core"):
        assert_close(port(images), encoder.encode_image(images))


@torch.no_grad()
def test_every_block_equals_timm_at_another_size_with_the_same_positions():
    encoder = random_tower("pe_spatial_t16_512")
    grid_hw = (16, 32)
    port = timm.create_model(
        TIMM_NAMES["pe_spatial_t16_512"], img_size=(256, 512), ref_feat_shape=grid_hw
    ).eval()
    state = encoder.state_dict()
    cls_row = state["positional_embedding"][:1]
    state["positional_embedding"] = torch.cat([cls_row, encoder.position_grid(grid_hw)[0]])
    port.load_state_dict(official_to_timm(state), strict=True)
    images = torch.randn(1, 3, 256, 512)
    expected = port.forward_intermediates(images, norm=False, intermediates_only=True)
    for a, b in zip(expected, encoder.forward_intermediates(images, range(12)), strict=True):
        assert_close(a, b)


@pytest.mark.parametrize("name", TIMM_NAMES)
def test_key_map_covers_every_tower(name):
    with torch.device("meta"):
        state = build_encoder(name).state_dict()
        port = timm.create_model(TIMM_NAMES[name]).state_dict()
    converted = official_to_timm(state)
    assert {k: v.shape for k, v in converted.items()} == {k: v.shape for k, v in port.items()}
    back = timm_to_official(port)
    assert {k: v.shape for k, v in back.items()} == {k: v.shape for k, v in state.items()}
