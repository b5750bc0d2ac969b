"""PE against arrays of the reference implementations, block by block.

Arrays: tests/golden/pe_encoder.npz (facebookresearch/perception_models @ 3e352cc,
core/vision_encoder) and pe_windowed.npz (the same repository's two detection backbones).
"""

from pathlib import Path

import numpy as np
import pytest
import torch

from pe_dense.encoders.pe import PerceptionEncoder

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
ENCODER_SIZES = [
    (case, size)
    for case in ("spatial_g", "spatial_b", "core_l", "core_g")
    for size in ("native", "larger", "nonsquare", "indivisible")
    if size != "indivisible" or case == "spatial_b"
]
CORE_SIZES = [(case, size) for case, size in ENCODER_SIZES if case.startswith("core")]
WINDOWED = (
    "vitdet_spatial",
    "vitdet_core",
    "vitdet_bicubic",
    "vitdet_window_only",
    "deta_pad",
    "deta_native_grid",
)


class Case:
    """One reference case: arrays below a prefix, as tensors or plain values."""

    def __init__(self, file_name, case):
        with np.load(GOLDEN / file_name, allow_pickle=False) as archive:
            prefix = f"{case}/"
            self.arrays = {
                key.removeprefix(prefix): archive[key]
                for key in archive.files
                if key.startswith(prefix)
            }

    def __contains__(self, key):
        return key in self.arrays

    def tensor(self, key):
        return torch.from_numpy(self.arrays[key])

    def value(self, key):
        value = self.arrays[f"config/{key}"].item()
        return None if value == "none" else value

    def weights(self):
        prefix = "weights/"
        keys = [key for key in self.arrays if key.startswith(prefix)]
        return {key.removeprefix(prefix): self.tensor(key) for key in keys}


def assert_equal_to(reference, actual, tolerance=1e-5):
    assert actual.shape == reference.shape
    assert actual.dtype == torch.float32
    gap = (actual - reference).abs().max() / reference.abs().max()
    assert gap <= tolerance, f"largest relative difference {gap:.2e}"


@pytest.fixture(scope="module")
def pretraining():
    """Case and encoder by name, built once."""
    built = {}

    def get(name):
        if name not in built:
            case = Case("pe_encoder.npz", name)
            pooled = case.value("pool_type") == "attn"
            encoder = PerceptionEncoder(
                patch_size=case.value("patch_size"),
                embed_dim=case.value("width"),
                depth=case.value("layers"),
                num_heads=case.value("heads"),
                mlp_hidden=case.value("mlp_hidden"),
                image_size=case.value("image_size"),
                cls_token=case.value("use_cls_token"),
                layer_scale=case.value("ls_init_value"),
                pool_heads=8 if pooled else None,
                output_dim=case.value("output_dim"),
                remainder="floor",
            )
            encoder.load_state_dict(case.weights(), strict=True)
            built[name] = case, encoder.eval().requires_grad_(False)
        return built[name]

    return get


@pytest.fixture(scope="module")
def detection():
    """Case and detection encoder by name, built once."""
    built = {}

    def get(name):
        if name not in built:
            case = Case("pe_windowed.npz", name)
            weights = case.weights()
            positions = weights["positional_embedding"][0]
            weights["positional_embedding"] = positions[int(case.value("pretrain_use_cls_token")) :]
            weights = {key: value for key, value in weights.items() if not key.startswith("fpn")}
            windowed = case.arrays["config/window_block_indexes"].tolist()
            depth = case.value("depth")
            encoder = PerceptionEncoder(
                patch_size=case.value("patch_size"),
                embed_dim=case.value("embed_dim"),
                depth=depth,
                num_heads=case.value("num_heads"),
                mlp_hidden=case.value("mlp_hidden"),
                image_size=case.value("pretrain_grid") * case.value("patch_size"),
                cls_token=False,
                layer_scale=case.value("init_values"),
                pos_embed="tile" if case.value("tile_posemb") else "bicubic",
                window_size=case.value("window_size"),
                global_blocks=[i for i in range(depth) if i not in windowed],
                rope_grid=case.value("pt_hw_seq_len"),
            )
            encoder.load_state_dict(weights, strict=True)
            built[name] = case, encoder.eval().requires_grad_(False)
        return built[name]

    return get


@pytest.mark.parametrize(("name", "size"), ENCODER_SIZES)
def test_every_block_equals_the_reference(pretraining, name, size):
    case, encoder = pretraining(name)
    tokens_LBNC = case.tensor(f"{size}/tokens")
    blocks = range(encoder.depth - len(tokens_LBNC), encoder.depth)
    images = case.tensor(f"{size}/images")
    outputs = encoder.forward_intermediates(images, list(blocks), return_prefix_tokens=True)
    for reference_BNC, (map_BChw, prefix_BPC) in zip(tokens_LBNC, outputs, strict=True):
        tokens_BNC = torch.cat([prefix_BPC, map_BChw.flatten(2).transpose(1, 2)], dim=1)
        assert_equal_to(reference_BNC, tokens_BNC)
    assert_equal_to(tokens_BNC[:, encoder.num_prefix_tokens :].mT, encoder(images).flatten(2), 0)


@pytest.mark.parametrize(("name", "size"), CORE_SIZES)
def test_core_outputs_equal_the_reference(pretraining, name, size):
    case, encoder = pretraining(name)
    images = case.tensor(f"{size}/images")
    [(map_BChw, prefix)] = encoder.forward_intermediates(
        images, (-1,), norm=True, return_prefix_tokens=True
    )
    normed_BNC = torch.cat([prefix, map_BChw.flatten(2).mT], dim=1)
    assert_equal_to(case.tensor(f"{size}/tokens_ln_post"), normed_BNC)
    assert_equal_to(case.tensor(f"{size}/pooled"), encoder.attn_pool(normed_BNC))
    embedding = encoder.encode_image(images)
    assert_equal_to(case.tensor(f"{size}/embedding"), embedding)


@pytest.mark.parametrize("name", WINDOWED)
def test_detection_blocks_equal_the_reference(detection, name):
    case, encoder = detection(name)
    maps = encoder.forward_intermediates(case.tensor("images"), range(encoder.depth))
    if "blocks" in case:
        for reference_BhwC, map_BChw in zip(case.tensor("blocks"), maps, strict=True):
            assert_equal_to(reference_BhwC.permute(0, 3, 1, 2), map_BChw)
    stride_16 = "last_feat" if "last_feat" in case else "p4"
    assert_equal_to(case.tensor(stride_16), maps[-1])


@pytest.mark.parametrize("name", WINDOWED)
def test_detection_positions_equal_the_reference(detection, name):
    case, encoder = detection(name)
    grid_hw = case.value("grid_h"), case.value("grid_w")
    positions_1hwC = encoder.position_grid(grid_hw).unflatten(1, grid_hw)
    assert_equal_to(case.tensor("pos_embed_used"), positions_1hwC)
    side = case.value("img_size") // case.value("patch_size")
    for blocks, windowed in (("win", True), ("glb", False)):
        table_ND2 = encoder.rotary((side, side), windowed, torch.device("cpu"))
        cos, sin = table_ND2.repeat_interleave(2, dim=1).unbind(-1)
        assert_equal_to(case.tensor(f"rope/{blocks}_freqs_cos"), cos)
        assert_equal_to(case.tensor(f"rope/{blocks}_freqs_sin"), sin)
