"""The aligner: its terms by hand, projections, masks of all processes, facts, and bad input."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

pytest.importorskip("mmengine")

from mmengine.registry import MODELS

from pe_dense.alignment import image_random
from pe_dense.alignment.aligner import SpatialAligner, student_grid
from pe_dense.alignment.student import add_layer_scale, fold_layer_scale, has_layer_scale
from pe_dense.openmmlab.backbone import DenseBackbone

STUDENT = dict(
    type="DenseBackbone",
    encoder="pe_spatial_t16_512",
    encoder_options=dict(depth=2),
    out_indices=(0, 1),
)


def teacher(encoder: str = "pe_core_t16_384", **options) -> dict:
    found = dict(type="EncoderTeacher", encoder=encoder, weights="random", layer=0)
    return {**found, "encoder_options": dict(depth=1), **options}


TEACHERS = [dict(name="core", **teacher()), dict(name="small", **teacher("pe_core_s16_384"))]
LOSSES = [
    dict(name="core", teacher="core", type="TokenCosineLoss"),
    dict(name="wide", teacher="small", type="TokenCosineLoss", loss_weight=0.5),
    dict(name="early", teacher="small", type="PairwiseSimilarityLoss", layer=0, temperature=5.0),
]


def built(**changes) -> SpatialAligner:
    torch.manual_seed(0)
    settings = dict(backbone=STUDENT, teachers=TEACHERS, losses=LOSSES)
    return SpatialAligner(**{**settings, **changes})


def images(batch: int = 2, side: int = 64) -> torch.Tensor:
    return torch.rand(batch, 3, side, side, generator=torch.Generator().manual_seed(7))


def test_every_term_by_hand() -> None:
    model, batch = built(), images()
    terms = model(batch, mode="loss")
    assert list(terms) == ["loss_core", "loss_wide", "loss_early"]
    half = (batch - 0.5) / 0.5  # all towers here normalise alike
    early, last = model.backbone.encoder.forward_intermediates(half, (0, 1))
    targets = {
        name: t.network.encoder.forward_intermediates(half, (0,))[0]
        for name, t in model.teachers.items()
    }

    def tokens(map_BChw):
        return map_BChw.flatten(2).transpose(1, 2)

    core = -F.cosine_similarity(tokens(last), tokens(targets["core"]), dim=-1).mean()
    wide = model.projections["wide"](tokens(last))
    wide = -0.5 * F.cosine_similarity(wide, tokens(targets["small"]), dim=-1).mean()
    pair = [F.normalize(tokens(m), dim=-1) for m in (early, targets["small"])]
    own, other = (m @ m.mT for m in pair)
    local = (own - torch.exp(5.0 * (other - 1))).square().mean()
    torch.testing.assert_close(list(terms.values()), [core, wide, local], rtol=1e-4, atol=1e-5)


def test_only_student_and_projection_are_in_state_and_gradient() -> None:
    model = built(masking=dict(ratio=0.5, token="learned"))
    names = {key.split(".")[0] for key in model.state_dict()}
    assert names == {"backbone", "projections", "masking"}
    assert list(model.projections) == ["wide"]
    sum(model(images(), mode="loss").values()).backward()
    missing = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert not missing
    assert all(p.grad is None for t in model.teachers.values() for p in t.network.parameters())


def test_masks_hide_pixels_from_the_student_but_not_from_teachers(monkeypatch) -> None:
    seen = []
    # A Runner of another test may have left a hub, whose seed and step would draw the masks.
    hub = SimpleNamespace(get_info=lambda key, default=None: default)
    monkeypatch.setattr(
        image_random, "MessageHub", SimpleNamespace(get_current_instance=lambda: hub)
    )
    model = built(masking=dict(ratio=0.75))
    for target in model.teachers.values():
        monkeypatch.setattr(
            type(target), "forward", record(type(target).forward, seen), raising=True
        )
        break
    model.eval()
    torch.manual_seed(3)
    masked = model(images(), mode="loss")
    torch.manual_seed(3)
    again = model(images(), mode="loss")
    torch.manual_seed(4)
    other = model(images(), mode="loss")
    assert all(torch.equal(masked[k], again[k]) for k in masked)
    assert any(not torch.equal(masked[k], other[k]) for k in masked)
    assert len(seen) == 6 and all(torch.equal(seen[0], s) for s in seen[::2])
    plain = model(images(), mode="tensor")
    assert torch.equal(plain[1], model(images(), mode="tensor")[1])


def record(function, seen):
    def wrapped(self, *arguments, **options):
        seen.append(function(self, *arguments, **options))
        return seen[-1]

    return wrapped


def test_processes_share_the_masks_of_one(monkeypatch) -> None:
    model = built(masking=dict(ratio=0.5))
    info = {"iter": 3, "seed": 11}
    hub = SimpleNamespace(get_info=lambda key, default=None: info.get(key, default))
    monkeypatch.setattr(
        image_random, "MessageHub", SimpleNamespace(get_current_instance=lambda: hub)
    )
    whole = model._masks(6, (4, 4))
    for size in (2, 3):
        for rank in range(size):
            monkeypatch.setattr(image_random, "get_dist_info", lambda r=rank, n=size: (r, n))
            assert torch.equal(model._masks(6 // size, (4, 4)), whole[rank::size])
    monkeypatch.setattr(image_random, "get_dist_info", lambda: (0, 1))
    info["iter"] = 4
    assert not torch.equal(model._masks(6, (4, 4)), whole)


def test_grids_of_other_patches_are_resampled() -> None:
    for size in ("grid", None):
        other = teacher("pe_core_l14_336", image_size=size)
        model = built(
            backbone={**STUDENT, "encoder": "pe_spatial_t16_512"},
            teachers=[dict(name="l", **other)],
            losses=[dict(name="l", teacher="l", type="PairwiseSimilarityLoss")],
        )
        side = 64 if size == "grid" else 112  # 112 = 7 x 16 = 8 x 14
        assert torch.isfinite(model(images(1, side), mode="loss")["loss_l"])


def test_a_timm_model_is_student_and_teacher() -> None:
    pytest.importorskip("timm")
    name = "timm:vit_tiny_patch16_224"
    model = built(
        backbone=dict(
            type="DenseBackbone", encoder=name, encoder_options=dict(depth=2, drop_path_rate=0.4)
        ),
        teachers=[dict(name="own", **teacher(name, encoder_options=dict(depth=2), layer=1))],
        losses=[dict(name="own", teacher="own", type="TokenCosineLoss")],
        masking=dict(ratio=0.75, token="mean"),
        layer_scale=0.1,
    )
    assert has_layer_scale(model.backbone.encoder.state_dict())
    terms = model(images(), mode="loss")
    terms["loss_own"].backward()
    assert torch.isfinite(terms["loss_own"])
    assert not [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]


def test_facts_name_teachers_and_numbers() -> None:
    facts = built(masking=dict(ratio=0.5)).facts()
    assert [t["name"] for t in facts["teachers"]] == ["core", "small"]
    assert all(len(t["sha256"]) == 64 for t in facts["teachers"])
    assert facts["losses"][2] == {
        "name": "early", "type": "PairwiseSimilarityLoss", "teacher": "small", "layer": 0,
        "projection": False, "loss_weight": 1.0, "temperature": 5.0, "count_diagonal": True,
    }  # fmt: skip
    assert facts["masking"] == {"ratio": 0.5, "block_size": 2, "token": "zero"}


# LayerScale


@pytest.mark.parametrize("encoder", ["pe_spatial_t16_512", "timm:vit_tiny_patch16_224"])
def test_folded_layer_scale_is_the_same_function(encoder: str) -> None:
    if encoder.startswith("timm"):
        pytest.importorskip("timm")
    torch.manual_seed(0)
    scaled, plain = (DenseBackbone(encoder, encoder_options=dict(depth=2)) for _ in range(2))
    add_layer_scale(scaled, 0.1)
    for name, parameter in scaled.encoder.named_parameters():
        if name.endswith("gamma"):
            torch.nn.init.normal_(parameter)
    plain.encoder.load_state_dict(
        {
            f"{'model.' if encoder.startswith('timm') else ''}{key}": value
            for key, value in fold_layer_scale(
                {k.removeprefix("model."): v for k, v in scaled.encoder.state_dict().items()}
            ).items()
        }
    )
    scaled.eval(), plain.eval()
    torch.testing.assert_close(scaled(images())[0], plain(images())[0], rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match="has LayerScale already"):
        add_layer_scale(scaled, 0.1)
    with pytest.raises(ValueError, match="no LayerScale to fold"):
        fold_layer_scale(plain.encoder.state_dict())


# Bad input


@pytest.mark.parametrize(
    "changes, words",
    [
        (dict(teachers=[]), "has the teacher 'core'"),
        (dict(losses=[]), "core, small serve no loss"),
        (dict(losses=LOSSES[:1]), "small serve no loss"),
        (dict(losses=[*LOSSES, LOSSES[0]]), "name of its own"),
        (dict(losses=[{**LOSSES[0], "layer": 5}]), "block index 5"),
        (dict(backbone={**STUDENT, "out_indices": (1,)}), "reads block 0"),
        (dict(losses=[{**LOSSES[0], "projection": "mlp"}]), "projection='mlp'"),
        (dict(losses=[LOSSES[0], {**LOSSES[1], "projection": "none"}]), "384 of teacher small"),
        (dict(backbone={**STUDENT, "frozen": True}), "frozen student"),
        (dict(masking=dict(ratio=1.5)), "ratio=1.5"),
    ],
)
def test_bad_settings(changes, words) -> None:
    with pytest.raises(ValueError, match=words):
        built(**changes)


def test_bad_images_and_modes() -> None:
    model = built()
    with pytest.raises(ValueError, match="64 x 60 pixels give no whole patches of 16"):
        model(torch.rand(1, 3, 64, 60), mode="loss")
    with pytest.raises(ValueError, match=r"are no images|give no whole"):
        model(torch.rand(0, 3, 64, 64), mode="loss")
    with pytest.raises(ValueError, match="takes RGB in 0..1"):
        model(images() * 255, mode="loss")
    with pytest.raises(ValueError, match="mode='predict'"):
        model(images(), mode="predict")
    with pytest.raises(ValueError, match="no whole patches"):
        student_grid((0, 16), 16)


def test_a_teacher_whose_grid_cannot_be_matched_is_refused() -> None:
    other = teacher("pe_core_l14_336", image_size=(70, 64))
    model = built(
        teachers=[dict(name="l", **other)],
        losses=[dict(name="l", teacher="l", type="PairwiseSimilarityLoss")],
    )
    with pytest.raises(ValueError, match="multiple of patch 14|cannot be matched"):
        model(images(), mode="loss")


def test_the_registry_knows_it() -> None:
    assert MODELS.get("SpatialAligner") is SpatialAligner
