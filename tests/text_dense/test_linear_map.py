"""The map in closed form against other solvers, its choice, its control, and its file."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from pe_dense.text_dense.linear_map import (
    LinearMap,
    fit_map,
    mapped_patches,
    mean_cosine,
    ridge,
    shuffled_order,
)
from pe_dense.text_dense.map_file import (
    KEY,
    MapFacts,
    load_map,
    pictures_sha256,
    require_made_for,
    save_map,
)


def pairs(n=60, c=7, d=5, noise=0.1, seed=0):
    rng = torch.Generator().manual_seed(seed)
    x = torch.randn(n, c, generator=rng) * torch.tensor([3.0, 1, 1, 1, 1, 1, 0.1]) + 2.0
    y = x @ torch.randn(c, d, generator=rng) + noise * torch.randn(n, d, generator=rng) - 4.0
    return x, y


@pytest.mark.parametrize("strength", [1e-6, 0.1, 30.0])
def test_ridge_is_least_squares_with_rows_for_the_penalty(strength):
    """By lstsq over augmented rows: the offset is a column of ones that is not penalised."""
    x, y = (values.double().numpy() for values in pairs())
    n, c = x.shape
    penalty = np.sqrt(n * strength * x.var(0).mean())
    rows = np.vstack([np.hstack([x, np.ones((n, 1))]), np.hstack([penalty * np.eye(c),
                                                                  np.zeros((c, 1))])])  # fmt: skip
    solved = np.linalg.lstsq(rows, np.vstack([y, np.zeros((c, y.shape[1]))]), rcond=None)[0]
    found = ridge(*pairs(), strength)
    np.testing.assert_allclose(found.weight_CD.numpy(), solved[:-1], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found.offset_D.numpy(), solved[-1], rtol=1e-4, atol=1e-4)


def test_patches_are_mapped_one_by_one_and_their_mean_is_the_mapped_mean():
    x, y = pairs()
    mapping = ridge(x, y, 0.01)
    features = torch.randn(2, 7, 3, 4, generator=torch.Generator().manual_seed(1))
    found = mapped_patches(mapping, features)
    assert found.shape == (2, 5, 3, 4)
    for b, row, column in ((0, 0, 0), (1, 2, 3)):
        alone = features[b, :, row, column] @ mapping.weight_CD + mapping.offset_D
        torch.testing.assert_close(found[b, :, row, column], alone / alone.norm())
    raw = torch.einsum("bchw,cd->bdhw", features, mapping.weight_CD)
    mean = features.mean((2, 3)) @ mapping.weight_CD
    torch.testing.assert_close(raw.mean((2, 3)), mean, rtol=1e-4, atol=1e-5)


def test_held_out_pairs_choose_and_controls_are_worse():
    x, y = pairs(n=200, noise=0.5)
    is_held = torch.arange(200) % 5 == 0
    strengths = (1e-4, 1.0, 1e4)
    found = fit_map(x, y, is_held, strengths)
    unit = F.normalize(y, dim=-1)
    for strength in strengths:
        mapping = ridge(x[~is_held], unit[~is_held], strength)
        cosine = F.cosine_similarity(
            x[is_held] @ mapping.weight_CD + mapping.offset_D, unit[is_held], dim=-1
        ).mean()
        assert found.held_out[strength] == pytest.approx(float(cosine), abs=1e-5)
    assert found.strength == max(strengths, key=found.held_out.get) != 1e4
    whole = ridge(x, unit, found.strength)
    torch.testing.assert_close(found.map.weight_CD, whole.weight_CD)
    mean = unit[~is_held].mean(0)
    constant = F.cosine_similarity(mean[None], unit[is_held], dim=-1).mean()
    assert found.constant == pytest.approx(float(constant), abs=1e-5)
    assert found.held_out[found.strength] > found.constant + 0.05
    assert found.shuffled < found.held_out[found.strength] - 0.05


def test_the_control_is_fitted_on_the_embeddings_of_other_pictures():
    order = shuffled_order(50, 3)
    assert sorted(order.tolist()) == list(range(50))
    assert not bool((order == torch.arange(50)).any())
    assert torch.equal(order, shuffled_order(50, 3)) and not torch.equal(
        order, shuffled_order(50, 4)
    )
    x, y = pairs(n=100)
    is_held = torch.arange(100) % 4 == 0
    true, control = fit_map(x, y, is_held), fit_map(x, y, is_held, shuffle_seed=3)
    assert control.strength == true.strength and control.held_out == true.held_out
    unit = F.normalize(y, dim=-1)
    wrong = ridge(x, unit[shuffled_order(100, 3)], true.strength)
    torch.testing.assert_close(control.map.weight_CD, wrong.weight_CD)
    assert mean_cosine(control.map, x, unit) < mean_cosine(true.map, x, unit) - 0.1


def test_what_cannot_be_fitted_is_one_sentence():
    x, y = pairs()
    held = torch.arange(60) < 10
    bad = x.clone()
    bad[3, 2] = torch.nan
    for arguments, words in (
        ((x, y[:-1], held), "are no pairs"),
        ((bad, y, held), "features are not finite"),
        ((x, y / 0, held), "embeddings are not finite"),
        ((x, y, torch.zeros(60, dtype=torch.bool)), "60 pairs to fit and 0 to choose"),
        ((torch.ones_like(x), y, held), "all pictures have the same features"),
    ):
        with pytest.raises(ValueError, match=words):
            fit_map(*arguments)


FACTS = MapFacts(
    encoder="pe_spatial_t16_512", weights_sha256="a" * 64, layer=11, text_encoder="pe_core_t16_384",
    text_weights_sha256="b" * 64, rule={"window": [256, 256], "step": 0.5}, num_pictures=12,
    pictures_sha256=pictures_sha256(["c", "d"]), num_pairs=48, strength=0.001,
    held_out={"0.001": 0.75, "1": 0.5, "constant": 0.1, "shuffled": 0.05},
)  # fmt: skip


def test_a_file_gives_back_what_was_saved(tmp_path):
    mapping = ridge(*pairs(), 0.1)
    save_map(tmp_path / "m.safetensors", mapping, FACTS)
    found, facts = load_map(tmp_path / "m.safetensors")
    assert facts == FACTS
    assert torch.equal(found.weight_CD, mapping.weight_CD)
    assert torch.equal(found.offset_D, mapping.offset_D)
    require_made_for(facts, tmp_path / "m", layer=11, rule={"window": (256, 256), "step": 0.5})
    assert "held-out cosine 0.750 (shuffled pairs 0.050, no features 0.100)" in facts.in_words()
    control = dataclasses.replace(FACTS, shuffle_seed=3)
    assert control.in_words().startswith("CONTROL, fitted on shuffled pairs, seed 3")
    for name, value in (
        ("encoder", "pe_spatial_s16_512"), ("weights_sha256", "0" * 64), ("layer", 10),
        ("text_weights_sha256", "0" * 64), ("rule", {"window": [224, 224], "step": 0.5}),
        ("pictures_sha256", "0" * 64), ("shuffle_seed", 0),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=f"fitted with {name}=.*fit one for this"):
            require_made_for(facts, tmp_path / "m", **{name: value})


def test_a_file_that_is_none_or_damaged_is_refused(tmp_path):
    path = tmp_path / "m.safetensors"
    mapping = LinearMap(torch.zeros(7, 5), torch.zeros(5))
    with pytest.raises(ValueError, match="cannot be read"):
        load_map(path)
    save_map(path, mapping, FACTS)
    whole = path.read_bytes()
    for broken in (whole[: len(whole) // 2], b"", b"\x80\x04K\x01."):
        path.write_bytes(broken)
        with pytest.raises(ValueError, match="cannot be read"):
            load_map(path)
    said = {"version": 1, **dataclasses.asdict(FACTS)}
    tensors = dict(mapping._asdict())

    def written(tensors=tensors, **change):
        text = json.dumps({k: v for k, v in {**said, **change}.items() if v != "gone"})
        save_file(tensors, path, {KEY: text})
        return path

    assert load_map(written())[1] == FACTS
    for change, words in (
        (dict(tensors={"weight_CD": torch.zeros(7, 5)}), "is no map into a space of texts"),
        (dict(tensors={**tensors, "offset_D": torch.zeros(4)}), "which do not fit"),
        (dict(tensors={**tensors, "offset_D": torch.full((5,), torch.nan)}), "not finite float32"),
        (dict(tensors={**tensors, "offset_D": torch.zeros(5).double()}), "not finite float32"),
        (dict(version=2), "is of version 2"),
        (dict(layer="11"), "says layer='11'"),
        (dict(layer=True), "says layer=True"),
        (dict(encoder="gone"), "is damaged"),
        (dict(more=1), "is damaged"),
        (dict(held_out={"1": 0.5}), "does not say how its regulariser was chosen"),
    ):
        with pytest.raises(ValueError, match=words):
            load_map(written(**change))
    save_file(tensors, path, {KEY: "[1"})
    with pytest.raises(ValueError, match="is damaged"):
        load_map(path)
    save_file(tensors, path)
    with pytest.raises(ValueError, match="is no map"):
        load_map(path)
