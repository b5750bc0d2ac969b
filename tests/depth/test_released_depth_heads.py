"""Depth heads against the ones of DINOv2: their depths, their names, and their released files.

Golden: tests/golden/dinov2_depth_heads.npz, see the README there.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS
from torch import Tensor

import pe_dense.depth  # noqa: F401
from pe_dense.depth.released_heads import is_released_head, name_of_released
from pe_dense.run.checkpoint import load_checkpoint_safely, load_strictly
from pe_dense.run.config import load_config

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = np.load(ROOT / "tests/golden/dinov2_depth_heads.npz")
RELEASED: dict[str, dict[str, list[int]]] = json.loads(str(GOLDEN["released_names"]))
LINEAR = dict(type="DepthBinsHead", num_bins=32, with_class_token=True, upsample=4, max_depth=10.0)
HEADS = {
    "dpt": dict(type="DPTDepthHead", channels=8, max_depth=10.0),
    "linear1": dict(LINEAR, num_layers=1),
    "linear4": dict(LINEAR, num_layers=4),
}
PATCH = 4
TOWER = dict(
    type="DenseBackbone",
    encoder="pe_spatial_t16_512",
    encoder_options=dict(
        patch_size=PATCH, embed_dim=8, depth=4, num_heads=2, mlp_hidden=16, image_size=32,
        cls_token=True,
    ),
    frozen=True,
    with_class_token=True,
)  # fmt: skip


@pytest.fixture(autouse=True)
def scope() -> None:
    init_default_scope("mmseg")
    torch.manual_seed(0)


def golden_state(kind: str, prefix: str = "decode_head.") -> dict[str, Tensor]:
    start = f"{kind}.state."
    return {
        prefix + key.removeprefix(start): torch.from_numpy(GOLDEN[key].astype(np.float32))
        for key in GOLDEN.files
        if key.startswith(start)
    }


def golden_layers(size: str) -> list[tuple[Tensor, Tensor]]:
    read = lambda key: torch.from_numpy(GOLDEN[key].astype(np.float32))  # noqa: E731
    return [(read(f"{size}.map{i}"), read(f"{size}.token{i}")) for i in range(4)]


def estimator(kind: str, weights: str = "random") -> torch.nn.Module:
    layers = [3] if kind == "linear1" else [0, 1, 2, 3]
    backbone = dict(TOWER, out_indices=layers)
    model = MODELS.build(
        dict(
            type="DenseDepthEstimator",
            backbone=backbone,
            decode_head=dict(HEADS[kind], in_channels=8),
        )
    )
    model.backbone.weights = weights  # what is_loaded asks
    return model.eval()


@pytest.mark.parametrize("size", ["even", "odd"])
@pytest.mark.parametrize("kind", HEADS)
def test_depths_are_those_of_dinov2(kind: str, size: str) -> None:
    model = estimator(kind, "given")
    load_strictly(model, {"state_dict": golden_state(kind)}, "head.pth")
    layers = golden_layers(size)[-len(model.backbone.out_indices) :]
    with torch.no_grad():
        found = model.decode_head(layers)
    known = torch.from_numpy(GOLDEN[f"{kind}.{size}.depth"])
    assert found.shape == known.shape and known.std() > 0.1
    torch.testing.assert_close(found, known, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("kind", RELEASED)
def test_released_names_and_shapes_are_those_of_the_protocols(kind: str) -> None:
    """ViT-S/14: every released parameter has a place in the model of the config, and no other."""
    file = ROOT / f"configs/depth/nyu_{kind}_dinov2_eval.py"
    cfg, _ = load_config(file, encoder="dinov2_s14", weights="random")
    with torch.device("meta"):
        head = MODELS.build(cfg.model).decode_head
    ours = {f"decode_head.{name}": list(p.shape) for name, p in head.named_parameters()}
    assert {name_of_released(name): shape for name, shape in RELEASED[kind].items()} == ours
    assert is_released_head(RELEASED[kind])


def test_a_head_alone_brings_the_encoder_that_the_model_has() -> None:
    model = estimator("dpt", "given")
    encoder = {k: v.clone() for k, v in model.backbone.state_dict().items()}
    load_strictly(model, {"state_dict": golden_state("dpt")}, "head.pth")
    assert all(torch.equal(v, encoder[k]) for k, v in model.backbone.state_dict().items())
    assert torch.equal(
        model.decode_head.conv_seg.weight,
        golden_state("dpt")["decode_head.conv_depth.head.4.weight"],
    )


def test_a_head_on_a_random_encoder_is_refused() -> None:
    with pytest.raises(ValueError, match=r"head\.pth cannot be converted: .*--config"):
        load_strictly(estimator("dpt"), {"state_dict": golden_state("dpt")}, "head.pth")


@pytest.mark.parametrize("change", ["missing", "unexpected", "reshaped"])
def test_released_heads_load_strictly(change: str) -> None:
    state = golden_state("dpt")
    name = "decode_head.fusion_blocks.2.res_conv_unit1.conv1.conv.weight"
    if change == "missing":
        del state[name]
    elif change == "unexpected":
        state["decode_head.fusion_blocks.0.res_conv_unit1.conv1.conv.weight"] = state[name]
    else:
        state[name] = state[name][:-1]
    with pytest.raises(ValueError, match=f"head.pth does not fit the model .{change}: "):
        load_strictly(estimator("dpt", "given"), {"state_dict": state}, "head.pth")


def test_another_head_is_refused() -> None:
    with pytest.raises(ValueError, match="does not fit the model"):
        load_strictly(estimator("dpt", "given"), {"state_dict": golden_state("linear4")}, "x.pth")
    assert not is_released_head({"decode_head.conv_seg.weight": 0})
    assert not is_released_head(golden_state("linear1") | {"backbone.x": torch.zeros(1)})


def convert(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "tools/convert_weights.py", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


@pytest.mark.slow
def test_a_made_up_release_becomes_a_checkpoint_that_can_be_scored(tmp_path: Path) -> None:
    """Names and shapes are those of dinov2_vits14_nyu_linear_head.pth, as mmcv 1 writes it."""
    from pe_dense.depth.estimator import DenseDepthEstimator
    from pe_dense.encoders.build import build_encoder

    config = "configs/depth/nyu_linear1_dinov2_eval.py"
    head, encoder, whole = (tmp_path / name for name in ("head.pth", "s14.pth", "whole.pth"))
    state = {name: torch.randn(shape) for name, shape in RELEASED["linear1"].items()}
    torch.save({"meta": {"mmcv_version": "1.5.0"}, "state_dict": state}, head)
    torch.save(build_encoder("dinov2_s14").model.state_dict(), encoder)

    options = ("--to", "ours", "--config", config, "--encoder", "dinov2_s14")
    ran = convert(head, whole, *options, "--weights", encoder)
    assert ran.returncode == 0, ran.stderr
    assert "a head alone" in ran.stdout
    cfg, _ = load_config(ROOT / config, encoder="dinov2_s14", weights="random")
    model = MODELS.build(cfg.model)
    assert isinstance(model, DenseDepthEstimator)
    load_strictly(model, load_checkpoint_safely(str(whole)), str(whole))
    weight = state["decode_head.conv_depth.weight"]
    assert torch.equal(model.decode_head.conv_seg.weight, weight)

    for arguments, words in (
        ((head, whole, *options), "exists already"),
        ((head, tmp_path / "b.pth", *options, "--weights", "random"), "random weights"),
        ((head, tmp_path / "b.pth", "--to", "ours", "--encoder", "dinov2_s14"), "--config"),
        ((head, tmp_path / "b.pth", "--to", "timm", "--config", config), "--to ours"),
        ((encoder, tmp_path / "b.pth", *options, "--weights", encoder), "s14.pth"),
    ):
        refused = convert(*arguments)
        assert refused.returncode == 2 and words in refused.stderr, refused.stderr
