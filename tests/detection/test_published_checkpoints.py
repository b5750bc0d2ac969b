"""An official DETA file through load_strictly and tools/test.py's own function, end to end."""

import argparse
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from deta_case import build_model, load_arrays, samples, tensor
from runs import evaluate
from test_deta_layout import golden_state

from pe_dense.run.checkpoint import load_checkpoint_safely, load_strictly

CONFIGS = Path(__file__).resolve().parents[2] / "configs/detection"


@pytest.fixture(scope="module")
def arrays():
    return load_arrays()


@pytest.fixture
def file(arrays, tmp_path):
    """A checkpoint as the official code saves it, settings and rotary tables included."""
    state = golden_state(arrays)
    for kind in ("cos", "sin"):
        state[f"backbone.0.body.rope_glb.freqs_{kind}"] = torch.zeros(16 * 16, 16)
    path = tmp_path / "official.pth"
    torch.save({"model": state, "epoch": 2, "args": argparse.Namespace(lr=1e-4)}, path)
    return path


def test_an_official_file_loads_as_it_is(arrays, file):
    model = build_model(arrays)
    for parameter in model.parameters():
        parameter.data.zero_()
    load_strictly(model, load_checkpoint_safely(str(file)), str(file))
    with torch.no_grad():
        found = model.forward_transformer(
            model.extract_feat(tensor(arrays["inputs/images"])), samples(arrays)
        )
    expected = arrays["outputs/init_reference"]
    np.testing.assert_allclose(found["references"][0], expected, atol=1e-5)


def test_another_class_count_is_named(arrays, file):
    content = load_checkpoint_safely(str(file))
    model = build_model(arrays)
    for h in range(3):
        model.bbox_head.cls_branches[h] = torch.nn.Linear(256, 5)
    with pytest.raises(ValueError, match="checkpoint has 12 classes and the config 5"):
        load_strictly(model, content, str(file))


def test_another_stage_s_missing_parts_are_listed(arrays, file):
    content = load_checkpoint_safely(str(file))
    state = {k: v for k, v in content["state_dict"].items() if "encoder.layers.1" not in k}
    with pytest.raises(ValueError, match=r"missing: encoder.layers.1.*and 13 more"):
        load_strictly(build_model(arrays), {"state_dict": state}, str(file))


def test_class_branches_can_be_left_as_they_are(arrays, file):
    content = load_checkpoint_safely(str(file))
    model = build_model(arrays)
    for h in range(3):
        model.bbox_head.cls_branches[h] = torch.nn.Linear(256, 5)
    before = model.bbox_head.cls_branches[0].weight.clone()
    load_strictly(model, content, str(file), without=["bbox_head.cls_branches."])
    assert torch.equal(model.bbox_head.cls_branches[0].weight, before)
    with pytest.raises(ValueError, match="start_without has 'head.cls'"):
        load_strictly(model, content, str(file), without=["head.cls"])


def test_a_detector_of_another_kind_is_refused(file):
    model = torch.nn.Linear(2, 2)
    with pytest.raises(ValueError, match="official DETA, but the config builds a Linear"):
        load_strictly(model, load_checkpoint_safely(str(file)), str(file))


CONFIG = """
_base_ = ["{configs}/deta_pe_t16_mini.py"]
protocol = dict(id="published", dataset="toy", annotations_sha256=None)
encoder = "pe_spatial_g14_448"
evaluation_only = True
canvas = {canvas}
model = dict(
    canvas="$canvas", num_queries=40,
    data_preprocessor=dict(pad_size_divisor="$canvas"),
    backbone=dict(out_indices=[-1], encoder_options=dict(
        patch_size=16, embed_dim=64, depth=4, num_heads=4, mlp_hidden=128, image_size=96,
        cls_token=False, layer_scale=0.1, window_size=6, global_blocks=[1, 3], rope_grid=16,
        pos_embed="tile")),
    neck=dict(out_channels=256),
    encoder=dict(layer_cfg=dict(
        self_attn_cfg=dict(embed_dims=256, num_heads=4, num_points=2),
        ffn_cfg=dict(embed_dims=256, feedforward_channels=64))),
    decoder=dict(layer_cfg=dict(
        self_attn_cfg=dict(embed_dims=256, num_heads=4),
        cross_attn_cfg=dict(embed_dims=256, num_heads=4, num_points=2),
        ffn_cfg=dict(embed_dims=256, feedforward_channels=64))),
    positional_encoding=dict(num_feats=128),
    bbox_head=dict(embed_dims=256),
)
classes = {classes}
num_classes = 12
train_images, val_images = "images/", "images/"
image_scale = (224, 224)
"""


@pytest.fixture
def data(tmp_path):
    """Two images with one box each, twelve classes."""
    root = tmp_path / "toy"
    (root / "images").mkdir(parents=True)
    (root / "annotations").mkdir()
    names = [f"c{i}" for i in range(12)]
    images, annotations = [], []
    for i in range(2):
        picture = np.random.default_rng(i).integers(0, 256, (96, 128, 3), dtype=np.uint8)
        cv2.imwrite(str(root / f"images/{i}.png"), picture)
        images.append(dict(id=i, file_name=f"{i}.png", width=128, height=96))
        annotations.append(
            dict(id=i, image_id=i, category_id=i + 1, bbox=[10, 10, 50, 40], area=2000, iscrowd=0)
        )
    categories = [dict(id=i + 1, name=name) for i, name in enumerate(names)]
    content = dict(images=images, annotations=annotations, categories=categories)
    (root / "annotations/val.json").write_text(json.dumps(content))
    return root


def write_config(folder, canvas=256):
    path = folder / "published_eval.py"
    classes = [f"c{i}" for i in range(12)]
    path.write_text(CONFIG.format(configs=CONFIGS, canvas=canvas, classes=classes))
    return str(path)


def test_an_official_file_is_scored_and_recorded(file, data, tmp_path, capsys):
    records = tmp_path / "records"
    scores = evaluate(
        write_config(tmp_path), file, options={"data_root": str(data)}, records=records,
        work_dir=tmp_path / "work",
    )  # fmt: skip
    assert 0.0 <= scores["AP"] <= 1.0
    (path,) = records.rglob("*.json")
    record = json.loads(path.read_text())
    assert record["encoder"]["weights"] == "official.pth"
    assert record["cost"]["train_s"] is None
    assert "&&" not in record["command"]
    assert record["protocol"]["id"].startswith("published")


def test_a_file_of_another_canvas_is_refused(file, data, tmp_path):
    with pytest.raises(ValueError, match="trained on a canvas of 256 px, and the config has 320"):
        evaluate(write_config(tmp_path, 320), file, options={"data_root": str(data)})


def test_training_configs_do_not_take_foreign_files(file):
    with pytest.raises(ValueError, match="scored with a config that only evaluates"):
        evaluate(str(CONFIGS / "deta_pe_t16_mini.py"), file)
