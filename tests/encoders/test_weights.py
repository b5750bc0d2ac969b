"""Strict loading: what fits is loaded, what the tower asks for is adapted, the rest is told."""

import hashlib
import logging
import re

import pytest
import torch
from small_towers import (
    CORE,
    DETECTION,
    SPATIAL,
    assert_equal_states,
    assert_refused,
    save,
    snapshot,
    tower_of,
)

from pe_dense.encoders import conversion, weights
from pe_dense.encoders.pe import PerceptionEncoder
from pe_dense.encoders.weights import load_weights


@pytest.fixture(scope="module")
def spatial():
    return snapshot(tower_of(seed=1, **SPATIAL))


@pytest.fixture(scope="module")
def core():
    return snapshot(tower_of(seed=2, **CORE))


@pytest.fixture(scope="module")
def images():
    return torch.randn(1, 3, 16, 24, generator=torch.Generator().manual_seed(0))


class TestLoad:
    """A file that fits is loaded as it is."""

    @pytest.mark.parametrize("name", ["a.pt", "a.pth", "a.bin", "a.safetensors"])
    def test_file_types(self, tmp_path, spatial, name):
        path = save(tmp_path / name, spatial)
        tower = tower_of(**SPATIAL)
        info = load_weights(tower, path)
        assert_equal_states(tower.state_dict(), spatial)
        assert info.source == name
        assert info.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
        assert info.notes == ()
        assert load_weights(tower, str(path)) == info
        assert_equal_states(tower.state_dict(), spatial)

    def test_save_and_load_again(self, tmp_path, spatial):
        tower = tower_of(**SPATIAL)
        load_weights(tower, save(tmp_path / "a.pt", spatial))
        again = tower_of(seed=9, **SPATIAL)
        load_weights(again, save(tmp_path / "b.pt", {"state_dict": tower.state_dict()}))
        assert_equal_states(again.state_dict(), spatial)

    def test_torch_file_of_the_old_kind(self, tmp_path, spatial):
        path = tmp_path / "a.pt"
        torch.save(spatial, path, _use_new_zipfile_serialization=False)
        tower = tower_of(**SPATIAL)
        load_weights(tower, path)
        assert_equal_states(tower.state_dict(), spatial)

    def test_clip_file(self, tmp_path, core):
        text = snapshot(tower_of(seed=7, **SPATIAL))
        content = {k: v for k, v in text.items() if k.startswith(("transformer.", "positional_"))}
        content |= {f"visual.{key}": value for key, value in core.items()}
        content["logit_scale"] = torch.tensor(1.0)
        tower = tower_of(**CORE)
        load_weights(tower, save(tmp_path / "clip.pt", {"weights": content}))
        assert_equal_states(tower.state_dict(), core)

    def test_timm_file(self, tmp_path, core):
        path = save(tmp_path / "model.safetensors", conversion.official_to_timm(core))
        tower = tower_of(**CORE)
        load_weights(tower, path)
        assert_equal_states(tower.state_dict(), core)

    def test_random_loads_nothing(self):
        tower = tower_of(**SPATIAL)
        before = snapshot(tower)
        assert load_weights(tower, "random") == weights.WeightsInfo("random", "random", ())
        assert_equal_states(tower.state_dict(), before)

    def test_type_of_the_tower_stays(self, tmp_path, spatial):
        tower = tower_of(**SPATIAL).to(torch.bfloat16)
        load_weights(tower, save(tmp_path / "a.pt", spatial))
        rounded = {key: value.bfloat16() for key, value in spatial.items()}
        assert_equal_states(tower.state_dict(), rounded)
        half = save(tmp_path / "half.pt", {key: value.half() for key, value in spatial.items()})
        tower = tower_of(**SPATIAL)
        load_weights(tower, half)
        assert {value.dtype for value in tower.state_dict().values()} == {torch.float32}

    def test_parameters_keep_their_identity_and_gradient_flag(self, tmp_path, spatial):
        tower = tower_of(**SPATIAL).requires_grad_(False)
        before = list(map(id, tower.parameters()))
        load_weights(tower, save(tmp_path / "a.pt", spatial))
        assert list(map(id, tower.parameters())) == before
        assert not any(p.requires_grad for p in tower.parameters())

    def test_hook_of_other_encoders(self, tmp_path, spatial):
        class Foreign(torch.nn.Module):
            def load_weights_file(self, path):
                self.seen = path
                return ["renamed"]

        path, foreign = save(tmp_path / "a.pt", spatial), Foreign()
        info = load_weights(foreign, path)
        assert foreign.seen == path
        assert info.notes == ("renamed",)
        with pytest.raises(ValueError, match="core_to_spatial is for PE towers"):
            load_weights(foreign, path, core_to_spatial="preserve")

    def test_encoder_that_cannot_load(self, tmp_path, spatial):
        with pytest.raises(ValueError, match=r"Linear is no PE vision tower and has no load_we"):
            load_weights(torch.nn.Linear(2, 2), save(tmp_path / "a.pt", spatial))

    def test_meta_tower_is_refused(self, tmp_path, spatial):
        with torch.device("meta"):
            tower = PerceptionEncoder(**SPATIAL)
        with pytest.raises(ValueError, match="meta device"):
            load_weights(tower, save(tmp_path / "a.pt", spatial))


class TestAdaptations:
    """What the caller's tower asks for is changed, noted and logged; nothing else."""

    def load(self, tmp_path, state, arch, caplog=None, **options):
        tower = tower_of(**arch)
        path = save(tmp_path / "a.pt", state)
        if caplog is None:
            return tower, load_weights(tower, path, **options).notes
        with caplog.at_level(logging.INFO, logger=weights.__name__):
            info = load_weights(tower, path, **options)
        assert [record.getMessage() for record in caplog.records] == [
            f"a.pt: {note}" for note in info.notes
        ]
        return tower, info.notes

    def test_detection_tower(self, tmp_path, caplog, spatial):
        arch = dict(DETECTION, patch_size=6, image_size=36, depth=2)
        tower, notes = self.load(tmp_path, spatial, arch, caplog)
        assert notes == (
            "cls token and its position dropped",
            "blocks 2..2 of 3 dropped",
            "patch 4 resampled to 6, bicubic",
            "positions 4x4 resampled to 6x6, bicubic",
        )
        state = tower.state_dict()
        rows = spatial["positional_embedding"][1:]
        expected = conversion.resample_positions(rows, (6, 6))
        assert torch.equal(state["positional_embedding"], expected)
        kernel = conversion.resample_patch(spatial["conv1.weight"], 6)
        assert torch.equal(state["conv1.weight"], kernel)
        key = "transformer.resblocks.1.mlp.c_fc.weight"
        assert torch.equal(state[key], spatial[key])

    def test_same_grid_keeps_the_positions(self, tmp_path, spatial):
        arch = dict(SPATIAL, patch_size=8, image_size=32)
        tower, notes = self.load(tmp_path, spatial, arch, patch_resample="pseudo-inverse")
        assert notes == ("patch 4 resampled to 8, pseudo-inverse",)
        assert torch.equal(tower.positional_embedding, spatial["positional_embedding"])
        kernel = conversion.resample_patch(spatial["conv1.weight"], 8, "pseudo-inverse")
        assert torch.equal(tower.conv1.weight, kernel)

    def test_truncated_tower_has_the_same_blocks(self, tmp_path, core, images):
        tower, notes = self.load(tmp_path, core, dict(CORE, depth=1))
        assert notes == ("blocks 1..2 of 3 dropped",)
        whole = tower_of(**CORE)
        whole.load_state_dict(core)
        expected = whole.forward_intermediates(images, (0,))[0]
        assert torch.equal(tower.forward_intermediates(images, (-1,))[0], expected)

    def test_position_of_an_absent_cls_token(self, tmp_path, spatial):
        state = {key: value for key, value in spatial.items() if key != "class_embedding"}
        tower, notes = self.load(tmp_path, state, DETECTION)
        assert notes == ("position of an absent cls token dropped",)
        assert torch.equal(tower.positional_embedding, spatial["positional_embedding"][1:])

    @pytest.mark.parametrize("layer_scale", [None, 0.1])
    def test_core_to_spatial_preserve_is_the_same_function(
        self, tmp_path, core, layer_scale, images
    ):
        """Also at another native size: the stored grid is what Core would interpolate."""
        arch = dict(SPATIAL, layer_scale=layer_scale, image_size=24)
        tower, notes = self.load(tmp_path, core, arch, core_to_spatial="preserve")
        assert notes[0].startswith("Core to Spatial (preserve): head removed")
        assert ("LayerScale 1.0" in notes[0]) == (layer_scale is not None)
        assert notes[1] == "positions 4x4 resampled to 6x6, bilinear"
        reference = tower_of(**CORE)
        reference.load_state_dict(core)
        at_native_size = torch.nn.functional.pad(images, (0, 0, 0, 8))
        torch.testing.assert_close(
            tower(at_native_size), reference(at_native_size), rtol=0, atol=1e-5
        )

    def test_core_to_spatial_published(self, tmp_path, core, images):
        arch = dict(SPATIAL, layer_scale=0.3)
        tower, notes = self.load(tmp_path, core, arch, core_to_spatial="published")
        assert notes == ("Core to Spatial (published): head removed, LayerScale 0.1 added to every "
                         "block",)  # fmt: skip
        gammas = [value for key, value in tower.state_dict().items() if key.endswith("gamma")]
        assert all(torch.equal(gamma, torch.full((16,), 0.1)) for gamma in gammas)
        reference = tower_of(**CORE)
        reference.load_state_dict(core)
        assert not torch.allclose(tower(images), reference(images), atol=0.1)

    def test_other_modes_can_be_asked_for(self, tmp_path, spatial):
        arch = dict(SPATIAL, image_size=24)
        tower, notes = self.load(tmp_path, spatial, arch, position_resample="bilinear")
        assert notes == ("positions 4x4 resampled to 6x6, bilinear",)
        rows = spatial["positional_embedding"]
        expected = conversion.resample_positions(rows, (6, 6), 1, "bilinear")
        assert torch.equal(tower.positional_embedding, expected)


class TestMisfits:
    """What must not happen silently is one sentence, and the tower stays as it was."""

    @pytest.fixture
    def file(self, tmp_path):
        def write(state, **changes):
            state = {key: value for key, value in state.items() if key not in changes}
            return save(
                tmp_path / "a.pt", state | {k: v for k, v in changes.items() if v is not None}
            )

        return write

    def test_core_file_needs_a_decision(self, file, core):
        for layer_scale in (None, 0.1):
            tower = tower_of(**SPATIAL, layer_scale=layer_scale)
            message = assert_refused(tower, file(core), "core_to_spatial='preserve'.*'published'")
            assert "attn_pool.probe" in message
            assert "with attention pool, the tower" in message

    def test_missing_layer_scale_needs_a_decision(self, file, spatial):
        tower = tower_of(**SPATIAL, layer_scale=0.1)
        assert_refused(tower, file(spatial), "core_to_spatial='preserve'.*ls_1.gamma")

    def test_gains_are_not_lost(self, file):
        state = snapshot(tower_of(**SPATIAL, layer_scale=0.1))
        assert_refused(tower_of(**SPATIAL), file(state), "layer_scale=0.1")

    def test_core_to_spatial_without_need(self, file, spatial, core):
        words = "leave core_to_spatial out"
        assert_refused(tower_of(**SPATIAL), file(spatial), words, core_to_spatial="preserve")
        assert_refused(tower_of(**CORE), file(core), words, core_to_spatial="preserve")

    def test_other_clip_model(self, file, core):
        """OpenAI's CLIP has the same names and a final norm, but no attention pool."""
        state = {key: value for key, value in core.items() if not key.startswith("attn_pool.")}
        for arch in (SPATIAL, CORE):
            for mode in (None, "preserve"):
                words = "another CLIP model.*timm:"
                assert_refused(tower_of(**arch), file(state), words, core_to_spatial=mode)

    def test_spatial_file_in_a_core_tower(self, file, spatial):
        assert_refused(tower_of(**CORE), file(spatial), r"missing .*attn_pool.*and \d+ more")

    def test_no_cls_token(self, file):
        state = snapshot(tower_of(**dict(SPATIAL, cls_token=False)))
        assert_refused(tower_of(**SPATIAL), file(state), "cls_token=False")

    @pytest.mark.parametrize("change", [dict(embed_dim=24), dict(mlp_hidden=48), dict(depth=4)])
    def test_other_size(self, file, spatial, change):
        message = assert_refused(
            tower_of(**dict(SPATIAL, **{}) | change), file(spatial), "the file has width 16, 3 blo"
        )
        value = next(iter(change.values()))
        assert f"{value}" in message.partition("the tower has")[2]

    def test_file_is_recognised(self, tmp_path):
        """A file of the size of PE Core T is called by its name."""
        row = dict(patch_size=16, embed_dim=192, depth=12, num_heads=3, mlp_hidden=768)
        file_arch = dict(row, image_size=384, cls_token=True, pool_heads=8, output_dim=512)
        path = save(tmp_path / "t.pt", snapshot(PerceptionEncoder(**file_arch)))
        message = assert_refused(tower_of(**SPATIAL), path, "looks like pe_core_t16_384")
        assert "build pe_core_t16_384" in message
        assert len(message) < 1200

    def test_missing_and_unexpected_keys(self, file, spatial):
        changes = {"ln_pre.bias": torch.zeros(16), "extra": torch.ones(1)}
        changes["transformer.resblocks.1.ln_1.bias"] = None
        message = assert_refused(tower_of(**SPATIAL), file(spatial, **changes), "unexpected extra")
        assert "missing transformer.resblocks.1.ln_1.bias;" in message

    def test_wrong_shape_and_type(self, file, spatial):
        path = file(spatial, **{"ln_pre.bias": torch.zeros(3)})
        assert_refused(tower_of(**SPATIAL), path, re.escape("ln_pre.bias (3,), not (16,)"))
        path = file(spatial, **{"ln_pre.bias": torch.zeros(16, dtype=torch.int8)})
        assert_refused(tower_of(**SPATIAL), path, re.escape("type ln_pre.bias (torch.int8)"))

    def test_grid_that_is_not_square(self, file, spatial):
        path = file(spatial, positional_embedding=torch.zeros(13, 16))
        assert_refused(tower_of(**SPATIAL), path, "form no square grid")

    def test_half_a_tower(self, file, spatial):
        assert_refused(
            tower_of(**SPATIAL), file(spatial, positional_embedding=None), "incomplete|no complete"
        )

    def test_nan(self, file, spatial):
        bias = torch.zeros(16)
        bias[3] = float("nan")
        path = file(spatial, **{"ln_pre.bias": bias})
        assert_refused(tower_of(**SPATIAL), path, "NaN or infinite numbers, first in ln_pre.bias")

    @pytest.mark.parametrize("option", ["patch_resample", "position_resample", "core_to_spatial"])
    def test_unknown_option(self, file, spatial, option):
        words = f"{option}='nearest' is not one of"
        assert_refused(tower_of(**SPATIAL), file(spatial), words, **{option: "nearest"})
