"""Key maps, resampling and student initialisation, against golden arrays and properties."""

import argparse
import functools
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torchvision_ops import importorskip_timm

from pe_dense.encoders import conversion
from pe_dense.encoders.build import build_encoder
from pe_dense.encoders.pe import PerceptionEncoder
from pe_dense.encoders.zoo import ENCODERS

GOLDEN = Path(__file__).parents[1] / "golden" / "patch_resize.npz"
SPATIAL = dict(
    patch_size=4, embed_dim=16, depth=3, num_heads=2, mlp_hidden=40, image_size=16, cls_token=True
)
CORE = dict(SPATIAL, pool_heads=2, output_dim=12)


def random_state(seed=0, **arch):
    """State dict of a tower in which no two numbers are equal by design."""
    generator = torch.Generator().manual_seed(seed)
    tower = PerceptionEncoder(**arch)
    return {
        k: torch.randn(v.shape, generator=generator) * 0.3 for k, v in tower.state_dict().items()
    }


def tower_with(state, **arch):
    tower = PerceptionEncoder(**arch).eval()
    tower.load_state_dict(state, strict=True)
    return tower


def assert_equal_states(first, second):
    assert first.keys() == second.keys()
    for key, value in first.items():
        assert torch.equal(value, second[key]), key


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN) as arrays:
        return {key: torch.from_numpy(arrays[key]) for key in arrays.files}


class TestLayouts:
    """Every file layout becomes the same official state dict."""

    @pytest.fixture(scope="class")
    def state(self):
        return random_state(**SPATIAL)

    @pytest.mark.parametrize(
        "prefix",
        [
            "",
            "module.",
            "visual.",
            "module.visual.",
            "_orig_mod.",
            "encoder.",
            "backbone.encoder.",
            "module.backbone.encoder.",
            "backbone.net.",
            "backbone.0.body.",
            "student.encoder.",
        ],
    )
    def test_prefixes(self, state, prefix):
        file = {prefix + key: value for key, value in state.items()}
        if prefix not in ("", "module.", "_orig_mod."):
            file["head.weight"] = torch.ones(1)  # beside the tower: left out
        assert_equal_states(conversion.to_official(file), state)

    @pytest.mark.parametrize(
        "wrap",
        [
            lambda s: {"state_dict": s},
            lambda s: {"weights": s, "epoch": 3},
            lambda s: {"model": s, "args": argparse.Namespace(lr=1.0)},
            lambda s: {"state_dict": {"weights": s}, "meta": {"state_dict": 1}},
            lambda s: {"model": {"state_dict": s}},
        ],
    )
    def test_wrappers(self, state, wrap):
        assert_equal_states(conversion.to_official(wrap(state)), state)

    def test_wrapper_names_inside_keys(self, state):
        file = {key.replace("resblocks.", "resblocks.module."): v for key, v in state.items()}
        assert_equal_states(conversion.to_official(file), state)

    def test_clip_file_gives_the_vision_tower(self, state):
        text = random_state(seed=5, **SPATIAL)
        clash = {k: v for k, v in text.items() if k.startswith(("transformer.", "positional_"))}
        assert clash.keys() < state.keys()
        extra = {
            k: torch.ones(2) for k in ("token_embedding.weight", "logit_scale", "ln_final.bias")
        }
        file = {**clash, **extra, **{f"visual.{k}": v for k, v in state.items()}}
        assert_equal_states(conversion.to_official(file), state)

    def test_detection_file(self, state):
        """3-D positions, RoPE tables and the pyramid under the same prefix."""
        file = {f"backbone.0.body.{key}": value for key, value in state.items()}
        file["backbone.0.body.positional_embedding"] = state["positional_embedding"][None]
        for name in ("rope_win", "transformer.resblocks.0.attn.rope"):
            for part in ("freqs_cos", "freqs_sin"):
                file[f"backbone.0.body.{name}.{part}"] = torch.ones(4, 4)
        file["backbone.0.body.fpn1.0.weight"] = torch.ones(2)
        file["transformer.decoder.layers.0.norm1.weight"] = torch.ones(2)
        assert_equal_states(conversion.to_official({"model": file}), state)

    def test_unknown_keys_of_the_tower_stay(self, state):
        file = {f"visual.{key}": value for key, value in state.items()}
        official = conversion.to_official({**file, "visual.extra.weight": torch.ones(1)})
        assert official.keys() - state.keys() == {"extra.weight"}

    @pytest.mark.parametrize(
        ("file", "words"),
        [
            ({"a": torch.ones(1)}, "holds no PE vision tower"),
            ({"conv1.weight": torch.ones(1), "bn1.weight": torch.ones(1)}, "no PE vision tower"),
            ({"patch_embed.proj.weight": torch.ones(1)}, "timm:<model name>"),
            ({}, "no tensor at all"),
            ([torch.ones(1)], "holds a list"),
            ({"state_dict": {"a": torch.ones(1), "epoch": 3}}, "epoch"),
        ],
    )
    def test_refused(self, file, words):
        with pytest.raises(ValueError, match=words):
            conversion.to_official(file)

    def test_two_towers_are_refused(self, state):
        both = {f"{name}.{k}": v for name in ("student", "teacher") for k, v in state.items()}
        with pytest.raises(ValueError, match=r"2 vision towers \(under 'student.', 'teacher.'\)"):
            conversion.to_official(both)

    def test_ambiguous_wrapper_is_refused(self, state):
        with pytest.raises(ValueError, match="twice"):
            conversion.to_official({**state, "module.conv1.weight": torch.ones(1)})


class TestTimm:
    """The timm layout: names from the released ports, values bit for bit."""

    @pytest.mark.parametrize(
        "arch",
        [
            SPATIAL,
            CORE,
            dict(SPATIAL, cls_token=False, layer_scale=0.1),
            dict(CORE, cls_token=False),
        ],
        ids=["spatial", "core", "spatial_g", "core_g"],
    )
    def test_round_trip_is_exact(self, arch):
        state = random_state(**arch)
        timm = conversion.official_to_timm(state)
        assert_equal_states(conversion.timm_to_official(timm), state)
        assert_equal_states(conversion.to_official({"state_dict": timm}), state)
        again = conversion.official_to_timm(conversion.timm_to_official(timm))
        assert_equal_states(again, timm)
        assert all(value.is_contiguous() for value in timm.values())

    def test_names_and_shapes(self):
        timm = conversion.official_to_timm(random_state(**CORE))
        shapes = {key: tuple(value.shape) for key, value in timm.items()}
        assert shapes["pos_embed"] == (1, 17, 16)
        assert shapes["cls_token"] == (1, 1, 16)
        assert shapes["patch_embed.proj.weight"] == (16, 3, 4, 4)
        assert shapes["attn_pool.latent"] == (1, 1, 16)
        assert shapes["attn_pool.q.weight"] == (16, 16)
        assert shapes["attn_pool.kv.bias"] == (32,)
        assert shapes["head.weight"] == (12, 16)
        assert not timm["head.bias"].any()
        assert {"norm_pre.bias", "norm.weight", "blocks.2.attn.qkv.bias"} <= shapes.keys()
        assert {"blocks.0.mlp.fc2.weight", "attn_pool.mlp.fc1.bias"} <= shapes.keys()

    def test_head_bias_must_be_zero(self):
        timm = conversion.official_to_timm(random_state(**CORE))
        timm["head.bias"][3] = 1e-3
        with pytest.raises(ValueError, match=r"head\.bias is not zero"):
            conversion.timm_to_official(timm)

    def test_half_a_pool_projection_is_refused(self):
        timm = conversion.official_to_timm(random_state(**CORE))
        del timm["attn_pool.kv.weight"]
        with pytest.raises(ValueError, match=r"no attn_pool\.kv\.weight"):
            conversion.timm_to_official(timm)

    def test_agrees_with_timms_own_converter(self):
        importorskip_timm()
        from timm.models import eva

        arch = dict(CORE, patch_size=16, image_size=64)
        state = random_state(**arch)
        model = eva.Eva(  # the arguments of timm's vit_pe_core_*, in small
            img_size=64,
            patch_size=16,
            embed_dim=16,
            depth=3,
            num_heads=2,
            mlp_ratio=2.5,
            num_classes=12,
            global_pool="map",
            attn_type="rope",
            use_pre_transformer_norm=True,
            use_rot_pos_emb=True,
            ref_feat_shape=(4, 4),
            rope_grid_offset=1.0,
            rope_grid_indexing="xy",
            attn_pool_num_heads=2,
            attn_pool_mlp_ratio=4.0,
            norm_layer=functools.partial(torch.nn.LayerNorm, eps=1e-5),
        )
        ours = conversion.official_to_timm(state)
        assert_equal_states(eva.checkpoint_filter_fn(dict(state), model), ours)
        model.load_state_dict(ours, strict=True)
        assert_equal_states(conversion.to_official(model.state_dict()), state)

    @pytest.mark.parametrize(
        ("name", "count", "positions"),
        [
            ("pe_spatial_g14_448", 704, (1024, 1536)),
            ("pe_spatial_l14_448", 293, (1025, 1024)),
            ("pe_spatial_b16_512", 149, (1025, 768)),
            ("pe_core_g14_448", 618, (1024, 1536)),
            ("pe_core_l14_336", 307, (577, 1024)),
            ("pe_core_t16_384", 163, (577, 192)),
        ],
    )
    def test_released_sizes(self, name, count, positions):
        """Tensor counts and shapes of the released models, there and back, without values."""
        with torch.device("meta"):
            state = build_encoder(name).state_dict()
        assert len(state) == count
        assert tuple(state["positional_embedding"].shape) == positions
        timm = conversion.official_to_timm(state)
        # Two joint projections are split in two, and the head gains a bias.
        assert len(timm) == count + (3 if "core" in name else 0)
        back = conversion.to_official(timm)
        assert {k: v.shape for k, v in back.items()} == {k: v.shape for k, v in state.items()}
        assert conversion.read_layout(state).nearest_encoder() == name


def test_nearest_encoder_knows_every_released_tower_with_its_own_shapes():
    for name, spec in ENCODERS.items():
        if spec.family != "pe" or name.endswith("_tiling"):
            continue
        arch = spec.arch
        layout = conversion.TowerLayout(
            embed_dim=arch["embed_dim"],
            depth=arch["depth"],
            mlp_hidden=arch["mlp_hidden"],
            patch_size=arch["patch_size"],
            num_positions=(
                arch.get("position_image_size", arch["image_size"]) // arch["patch_size"]
            )
            ** 2
            + arch["cls_token"],
            cls_token=arch["cls_token"],
            layer_scale=arch.get("layer_scale") is not None,
            pool=arch.get("pool_heads") is not None,
            output_dim=arch.get("output_dim"),
        )
        assert layout.nearest_encoder() == name


class TestPatch:
    @pytest.mark.parametrize(
        "case", ["conv_14_to_16", "conv_16_to_14", "conv_14_to_14", "conv_14_to_16_half"]
    )
    def test_bicubic_equals_the_official_converter(self, golden, case):
        expected = golden[f"{case}/output"]
        actual = conversion.resample_patch(golden[f"{case}/input"], expected.shape[-1])
        assert actual.dtype == torch.float32
        torch.testing.assert_close(actual, expected, rtol=0, atol=1e-5)

    def test_bicubic_grows_the_response_to_a_constant_image(self):
        kernel = torch.rand(8, 3, 14, 14)
        gain = conversion.resample_patch(kernel, 16).sum() / kernel.sum()
        assert gain.item() == pytest.approx((16 / 14) ** 2, rel=0.03)

    def test_pseudo_inverse_keeps_the_response_to_resized_patches(self):
        generator = torch.Generator().manual_seed(3)
        kernel = torch.randn(5, 3, 14, 14, generator=generator)
        patches = torch.randn(7, 3, 14, 14, generator=generator)
        larger = F.interpolate(patches, size=(16, 16), mode="bilinear", align_corners=False)
        resized = conversion.resample_patch(kernel, 16, "pseudo-inverse")
        expected, actual = F.conv2d(patches, kernel), F.conv2d(larger, resized)
        torch.testing.assert_close(actual, expected, rtol=0, atol=1e-4)
        torch.testing.assert_close(resized.sum((2, 3)), kernel.sum((2, 3)), rtol=0, atol=1e-4)
        bicubic = F.conv2d(larger, conversion.resample_patch(kernel, 16))
        assert (bicubic - expected).abs().max() > 1

    def test_pseudo_inverse_there_and_back(self):
        """Growing loses nothing; shrinking gives the best kernel in the least-squares sense."""
        kernel = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))
        small = conversion.resample_patch(kernel, 6, "pseudo-inverse")
        eye = torch.eye(64).view(64, 1, 8, 8)
        shrink = F.interpolate(eye, (6, 6), mode="bilinear", align_corners=False, antialias=True)
        best = torch.linalg.lstsq(shrink.flatten(1), kernel.flatten(2).flatten(0, 1).T).solution
        torch.testing.assert_close(small.flatten(2).flatten(0, 1).T, best, rtol=0, atol=1e-4)

    def test_same_side_keeps_the_values(self):
        kernel = torch.randn(2, 3, 4, 4)
        for method in conversion.PATCH_METHODS:
            assert torch.equal(conversion.resample_patch(kernel, 4, method), kernel)

    @pytest.mark.parametrize(
        ("shape", "side", "method"),
        [((2, 3, 4, 4), 5, "area"), ((2, 3, 4, 5), 5, "bicubic"), ((2, 3, 4, 4), 0, "bicubic")],
    )
    def test_refused(self, shape, side, method):
        with pytest.raises(ValueError, match=r"not one of|cannot resize"):
            conversion.resample_patch(torch.zeros(shape), side, method)


class TestPositions:
    @pytest.mark.parametrize(
        "case",
        [
            "pos_bicubic_shrink",
            "pos_bicubic_grow",
            "pos_bicubic_cls",
            "pos_keep_pe",
            "pos_keep_pe_cls",
            "pos_same_grid",
        ],
    )
    def test_equals_the_official_converter(self, golden, case):
        given, expected = golden[f"{case}/input"], golden[f"{case}/output"]
        prefix = int(golden[f"{case}/num_extra_tokens"])
        side = round((expected.reshape(-1, expected.shape[-1]).shape[0] - prefix) ** 0.5)
        actual = conversion.resample_positions(given, (side, side), prefix)
        torch.testing.assert_close(actual, expected.view(-1, given.shape[1]), rtol=0, atol=1e-5)
        if "keep" in case or "same" in case:
            assert torch.equal(actual, given)

    @pytest.mark.parametrize("case", ["bilinear_cls", "bilinear_no_cls"])
    def test_run_time_interpolation_of_the_tower(self, golden, case):
        given, cls_token = golden[f"{case}/input"], case == "bilinear_cls"
        side = round((given.shape[0] - cls_token) ** 0.5)
        tower = PerceptionEncoder(
            **dict(SPATIAL, embed_dim=given.shape[1], num_heads=1, image_size=4 * side, depth=1)
            | dict(cls_token=cls_token)
        )
        tower.positional_embedding.data = given
        names = [k.rpartition("/")[2] for k in golden if k.startswith(case) and "input" not in k]
        assert len(names) >= 5
        for name in names:
            grid = tuple(int(n) for n in name.split("x"))
            expected = golden[f"{case}/{name}"]
            actual = tower.position_grid(grid)
            torch.testing.assert_close(actual, expected[:, int(cls_token) :], rtol=0, atol=1e-5)
            rows = conversion.resample_positions(given, grid, int(cls_token), "bilinear")
            torch.testing.assert_close(rows, expected[0], rtol=0, atol=1e-5)

    def test_half_precision_is_resampled_in_float32(self):
        rows = torch.randn(16, 4).half()
        resized = conversion.resample_positions(rows, (6, 6))
        assert resized.dtype == torch.float32
        assert torch.equal(resized, conversion.resample_positions(rows.float(), (6, 6)))

    @pytest.mark.parametrize(("rows", "prefix", "mode"), [(15, 0, "bicubic"), (16, 0, "nearest")])
    def test_refused(self, rows, prefix, mode):
        with pytest.raises(ValueError, match=r"no square grid|not one of"):
            conversion.resample_positions(torch.zeros(rows, 4), (2, 2), prefix, mode)

    def test_drop_cls_token(self):
        state = random_state(**SPATIAL)
        dropped = conversion.drop_cls_token(state)
        assert state.keys() - dropped.keys() == {"class_embedding"}
        rows = state["positional_embedding"]
        assert torch.equal(dropped["positional_embedding"], rows[1:])
        assert_equal_states(conversion.drop_cls_token(dropped), dropped)
        assert len(rows) == 17  # the input is untouched


class TestCoreToSpatial:
    """PE Core as the start of a Spatial tower."""

    @pytest.fixture(scope="class")
    def images(self):
        return torch.randn(2, 3, 16, 24, generator=torch.Generator().manual_seed(2))

    @pytest.mark.parametrize("layer_scale", [None, 0.1])
    def test_preserve_is_the_same_function(self, images, layer_scale):
        core = random_state(**CORE)
        spatial = conversion.core_to_spatial(core, layer_scale, "preserve")
        tower = tower_with(spatial, **SPATIAL, layer_scale=layer_scale)
        expected = tower_with(core, **CORE).forward_intermediates(images, range(3))
        for ours, theirs in zip(
            tower.forward_intermediates(images, range(3)), expected, strict=True
        ):
            assert torch.equal(ours, theirs)

    def test_published_is_another_function(self, images):
        core = random_state(**CORE)
        spatial = conversion.core_to_spatial(core, 0.1, "published")
        gammas = [value for key, value in spatial.items() if key.endswith(".gamma")]
        assert len(gammas) == 6
        assert all(torch.equal(gamma, torch.full((16,), 0.1)) for gamma in gammas)
        assert_equal_states(
            {k: v for k, v in spatial.items() if not k.endswith(".gamma")},
            {k: v for k, v in core.items() if not k.startswith(("attn_pool.", "ln_post.", "proj"))},
        )
        ours = tower_with(spatial, **SPATIAL, layer_scale=0.1)(images)
        cosine = F.cosine_similarity(ours, tower_with(core, **CORE)(images), dim=1)
        assert cosine.mean() < 0.98

    def test_published_without_layer_scale_only_removes_the_head(self):
        core = random_state(**CORE)
        first = conversion.core_to_spatial(core, None, "published")
        assert_equal_states(first, conversion.core_to_spatial(core, None, "preserve"))
        assert first.keys() == PerceptionEncoder(**SPATIAL).state_dict().keys()

    def test_gains_follow_the_type_of_the_file(self):
        core = {key: value.bfloat16() for key, value in random_state(**CORE).items()}
        spatial = conversion.core_to_spatial(core, 0.1)
        assert {value.dtype for value in spatial.values()} == {torch.bfloat16}

    def test_refused(self):
        with pytest.raises(ValueError, match="not one of preserve, published"):
            conversion.core_to_spatial(random_state(**CORE), 0.1, "exact")
        with pytest.raises(ValueError, match="LayerScale already"):
            conversion.core_to_spatial(random_state(**SPATIAL, layer_scale=0.1), 0.1)
