"""SAM 3's image tower: our tower by options equals theirs, and its released file is read strictly.

tests/golden/sam3_tower.npz was made by `ViT` of facebookresearch/sam3 @ 99d02f2
(sam3/model/vitdet.py) on made-up weights and images: width 16, 4 blocks, windows of 3 x 3 tokens,
blocks 1 and 3 global, positions of 6 px tiled over 18 px (whole windows) and 20 px (padded ones).
"""

from pathlib import Path

import numpy as np
import pytest
import torch

from pe_dense.encoders.build import build_encoder
from pe_dense.encoders.pe import PerceptionEncoder
from pe_dense.encoders.sam3_layout import sam3_to_official
from pe_dense.encoders.weights import load_weights
from pe_dense.encoders.zoo import find_encoder

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "sam3_tower.npz"
NAME = "sam3_l14_1008"
TRUNK = "detector.backbone.vision_backbone.trunk."
SMALL = dict(
    patch_size=2,
    embed_dim=16,
    depth=4,
    num_heads=2,
    mlp_hidden=74,
    image_size=18,
    position_image_size=6,
    window_size=3,
    global_blocks=(1, 3),
    rope_grid=3,
)
# A part of every kind that the released file holds beside the tower: three of the neck, and so on.
OTHERS = {
    "detector.backbone.vision_backbone.convs.0.conv_1x1.weight": 3,
    "detector.backbone.language_backbone.resizer.weight": 1,
    "detector.transformer.decoder.query_embed.weight": 2,
    "tracker.maskmem_tpos_enc": 1,
}


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN, allow_pickle=False) as archive:
        return {key: torch.from_numpy(archive[key]) for key in archive.files}


def released(golden, case="divisible", **changes):
    """A state dict in the layout of sam3.pt, with made-up numbers."""
    prefix = "weights/"
    state = {
        TRUNK + key.removeprefix(prefix): value
        for key, value in golden.items()
        if key.startswith(prefix)
    }
    for i in range(4):
        state[f"{TRUNK}blocks.{i}.attn.freqs_cis"] = golden[f"{case}/freqs_cis/{i % 2}"]
    for key, count in OTHERS.items():
        state |= {f"{key}.{i}" if i else key: torch.ones(2) for i in range(count)}
    return state | changes


def save(state, folder):
    torch.save({"model": state}, folder / "sam3.pt")
    return folder / "sam3.pt"


def small(**options):
    """The zoo's row, made small: what is not a size is the row's own."""
    return build_encoder(NAME, **{**SMALL, **options})


@torch.no_grad()
@pytest.mark.parametrize("case", ["divisible", "padded"])
def test_the_tower_equals_the_reference(golden, case, tmp_path):
    encoder = small()
    info = load_weights(encoder.eval(), save(released(golden, case), tmp_path))
    images = golden[f"{case}/images"]
    maps = encoder.forward_intermediates(images, (1, 3))
    for index, found in zip((1, 3), maps, strict=True):
        torch.testing.assert_close(found, golden[f"{case}/map/{index}"], rtol=1e-4, atol=1e-5)
    assert info.notes[1] == (
        "left out: 7 entries that are not of the image tower "
        "(detector.backbone.vision_backbone.convs 3, detector.backbone.language_backbone 1, "
        "detector.transformer 2, tracker 1)"
    )
    assert info.notes[0] == "left out: 4 tables of rotary positions, equal to the tower's"
    assert info.notes[2:] == ("position of an absent cls token dropped",)


@torch.no_grad()
@pytest.mark.parametrize(
    "change",
    [dict(window_size=None, rope_grid=None), dict(rope_grid=None), dict(pos_embed="bilinear")],
)
def test_every_option_matters(golden, change, tmp_path):
    encoder = small(**change, **({"global_blocks": ()} if "window_size" in change else {}))
    load_weights(encoder.eval(), save(released(golden), tmp_path))
    [found] = encoder.forward_intermediates(golden["divisible/images"], (3,))
    assert not torch.allclose(found, golden["divisible/map/3"], rtol=1e-2, atol=1e-2)


def test_the_row_is_the_tower_of_sam_3():
    with torch.device("meta"):
        encoder = build_encoder(NAME)
    state = encoder.state_dict()
    # Their `ViT` as model_builder.py makes it: 446,237,696 parameters with the position of a class
    # token, 420 entries with one rotary table a block.
    assert sum(value.numel() for value in state.values()) == 446_237_696 - 1024
    assert len(state) == 420 - 32
    assert encoder.native_hw == (1008, 1008)
    assert state["positional_embedding"].shape == (24 * 24, 1024)
    windows = [encoder.attention_window(i) for i in range(encoder.depth)]
    assert [i for i, side in enumerate(windows) if side is None] == [7, 15, 23, 31]
    assert {side for side in windows if side is not None} == {24}
    assert (encoder.num_prefix_tokens, encoder.has_class_token) == (0, False)
    assert encoder.mean == encoder.std == (0.5, 0.5, 0.5)
    assert find_encoder(NAME).licence == "SAM License"
    assert find_encoder(NAME).weights == "hf://facebook/sam3:sam3.pt"
    # No final norm: the output of the blocks is what SAM 3 reads.
    assert not [key for key in state if key.startswith(("ln_post", "attn_pool", "proj"))]


def test_fewer_blocks_keep_the_global_ones_among_them():
    with torch.device("meta"):
        encoder = build_encoder(NAME, depth=16)
        every = build_encoder(NAME, depth=2, window_size=None)
    assert [i for i in range(16) if encoder.attention_window(i) is None] == [7, 15]
    assert [every.attention_window(i) for i in range(2)] == [None, None]


def test_positions_may_be_of_another_size_than_images():
    with pytest.raises(ValueError, match="image_size 7 is not a multiple of patch 2"):
        PerceptionEncoder(**{**SMALL, "position_image_size": 7, "cls_token": False})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop(TRUNK + "blocks.2.norm1.weight"), "missing.*2.ln_1.weight"),
        (lambda state: state.update({TRUNK + "blocks.0.attn.extra": torch.ones(1)}), "unexpected"),
        (lambda state: state.update({TRUNK + "ln_post.weight": torch.ones(16)}), "final norm"),
        (
            lambda state: state.update({"b." + TRUNK + "patch_embed.proj.weight": torch.ones(1)}),
            "holds 2 image towers",
        ),
        (
            lambda state: state[TRUNK + "blocks.3.attn.freqs_cis"].copy_(
                torch.polar(torch.ones(81, 4), torch.ones(81, 4))
            ),
            r"rotary positions blocks.3.attn.freqs_cis are not those of SAM 3",
        ),
        (
            lambda state: state.update({TRUNK + "blocks.0.attn.freqs_cis": torch.ones(7, 4)}),
            r"freqs_cis has shape \(7, 4\)",
        ),
    ],
)
def test_files_that_do_not_fit_are_refused_and_nothing_changes(golden, change, message, tmp_path):
    state = {key: value.clone() for key, value in released(golden).items()}
    change(state)
    encoder = small()
    before = {key: value.clone() for key, value in encoder.state_dict().items()}
    with pytest.raises(ValueError, match=message):
        load_weights(encoder, save(state, tmp_path))
    assert all(torch.equal(value, before[key]) for key, value in encoder.state_dict().items())


def test_files_without_or_with_divided_tables_are_read(golden, tmp_path):
    plain = {k: v for k, v in released(golden).items() if "freqs_cis" not in k}
    encoder = small()
    assert len(load_weights(encoder, save(plain, tmp_path)).notes) == 2
    table = golden["divisible/freqs_cis/0"]
    parts = {
        f"{TRUNK}blocks.0.attn.freqs_cis_{part}": value.contiguous()
        for part, value in (("real", table.real), ("imag", table.imag))
    }
    official, notes = sam3_to_official(plain | parts)
    assert notes[0].startswith("left out: 2 tables")
    assert set(official) == set(encoder.state_dict())
    bad = {**plain, **parts, f"{TRUNK}blocks.0.attn.freqs_cis_imag": -table.imag}
    with pytest.raises(ValueError, match="freqs_cis_imag are not those"):
        sam3_to_official(bad)


def test_a_sam3_file_in_another_tower_says_what_it_is(golden, tmp_path):
    encoder = build_encoder("pe_spatial_t16_512", depth=1)
    with pytest.raises(ValueError, match="does not fit pe_spatial_t16_512"):
        load_weights(encoder, save(released(golden), tmp_path))


def test_a_backbone_of_an_inner_layer_keeps_windows_and_global_blocks():
    """The backbone builds as many blocks as it reads; the row counts global ones in the whole."""
    pytest.importorskip("mmengine")
    from pe_dense.openmmlab.backbone import DenseBackbone

    sizes = {key: SMALL[key] for key in ("embed_dim", "num_heads", "mlp_hidden", "window_size")}
    backbone = DenseBackbone(NAME, weights="random", out_indices=(8,), encoder_options=sizes)
    windows = [backbone.encoder.attention_window(i) for i in range(backbone.encoder.depth)]
    assert windows == [3, 3, 3, 3, 3, 3, 3, None, 3]
    [found] = backbone(torch.zeros(1, 3, 56, 84))
    assert found.shape == (1, 16, 4, 6)
