"""detectron2's layout of ViTDet: a synthetic G against our model, round trips, what is left out."""

import json
from pathlib import Path

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.registry import init_default_scope
from runs import evaluate
from vitdet_case import blank, official_vitdet, small_vitdet

from pe_dense.detection.checkpoint_layouts import convert_vitdet
from pe_dense.detection.vitdet_layout import (
    is_official_vitdet,
    is_our_vitdet,
    parameter_names,
    vitdet_from_official,
    vitdet_to_official,
)
from pe_dense.run.checkpoint import load_strictly
from pe_dense.run.config import load_config

CONFIGS = Path(__file__).resolve().parents[2] / "configs/detection"


def shapes(state):
    return {key: tuple(value.shape) for key, value in state.items()}


def build(name, device="meta", **options):
    init_default_scope("mmdet")
    cfg, _ = load_config(CONFIGS / f"{name}.py", weights="random", options=options)
    with torch.device(device):
        return MODELS.build(cfg.model)


@pytest.fixture(scope="module")
def official():
    return official_vitdet(blank)


def test_the_synthetic_g_has_the_official_counts(official):
    tables = [key for key in official if key.endswith(("freqs_cos", "freqs_sin"))]
    assert len(tables) == 104
    begins = ("backbone.net.", "backbone.simfp_", "proposal_generator.", "roi_heads.")
    counts = [sum(k.startswith(b) for k in official if k not in tables) for b in begins]
    assert counts == [704, 32, 8, 34]


def test_official_g_fits_our_model_strictly(official):
    model = build("vitdet_pe_spatial_g14_coco_36ep")
    ours = vitdet_from_official(official)
    assert shapes(ours) == shapes(model.state_dict())
    assert len(ours) == 778
    heads = {key for key in ours if not key.startswith("backbone.encoder.")}
    assert parameter_names(ours) == heads


def test_core_g_without_layer_scale_and_pool(official):
    """Official Core towers have no attention pool; ours has, and keeps its own."""
    model = build("vitdet_pe_core_g14_coco_75ep")
    core = {key: value for key, value in official.items() if ".ls_" not in key}
    wanted = shapes(model.state_dict())
    pool = {key for key in wanted if ".attn_pool." in key or ".ln_post." in key}
    pool.add("backbone.encoder.proj")
    assert len(pool) == 14 and pool < wanted.keys()
    assert shapes(vitdet_from_official(core)) == {k: v for k, v in wanted.items() if k not in pool}
    assert shapes(convert_vitdet(core, model)) == wanted
    back = vitdet_to_official(model.state_dict())
    assert back.keys() == {key for key in core if not key.endswith(("freqs_cos", "freqs_sin"))}
    ours = vitdet_from_official(back)  # and so does a file that was converted before
    assert shapes(convert_vitdet(ours, model)) == wanted


def test_round_trip_is_bit_exact():
    official = small_vitdet(tables=False)
    back = vitdet_to_official(vitdet_from_official(official))
    assert back.keys() == official.keys()
    for key, value in official.items():
        assert torch.equal(back[key], value) and back[key].dtype == value.dtype, key


def test_places_of_the_pyramid():
    """Order of modules read off detectron2: convolutions carry their norm inside."""
    official = small_vitdet(tables=False)
    ours = vitdet_from_official(official)
    for name, place in {
        "simfp_2.3.bias": "0.3.bias",
        "simfp_2.4.norm.weight": "0.5.weight",
        "simfp_2.5.weight": "0.6.weight",
        "simfp_3.0.weight": "1.0.weight",
        "simfp_3.2.norm.bias": "1.4.bias",
        "simfp_4.1.weight": "2.2.weight",
        "simfp_5.1.weight": "3.1.weight",
        "simfp_5.2.norm.weight": "3.4.weight",
    }.items():
        assert torch.equal(official[f"backbone.{name}"], ours[f"neck.levels.{place}"]), name


def test_what_is_computed_is_left_out():
    plain = small_vitdet(tables=False)
    extra = {
        "pixel_mean": torch.ones(3, 1, 1),
        "pixel_std": torch.ones(3, 1, 1),
        "proposal_generator.anchor_generator.cell_anchors.0": torch.ones(3, 4),
        "roi_heads.box_predictor.fed_loss_cls_weights": torch.ones(3),
    }
    whole = small_vitdet() | extra
    assert vitdet_from_official(whole).keys() == vitdet_from_official(plain).keys()


def test_boxes_without_masks():
    ours = vitdet_from_official(small_vitdet(masks=False, tables=False))
    heads = {key for key in ours if not key.startswith("backbone.encoder.")}
    assert is_our_vitdet(ours) and parameter_names(ours) == heads
    assert not any("mask_head" in key for key in heads)


def test_which_is_which():
    official = small_vitdet()
    ours = vitdet_from_official(official)
    assert is_official_vitdet(official) and not is_our_vitdet(official)
    assert is_our_vitdet(ours) and not is_official_vitdet(ours)
    assert not is_official_vitdet({}) and not is_our_vitdet({})


def test_a_name_that_comes_twice_is_refused():
    official = small_vitdet()
    official["backbone.encoder.conv1.weight"] = torch.ones(1)
    with pytest.raises(ValueError, match=r"holds backbone\.encoder\.conv1\.weight twice"):
        vitdet_from_official(official)


# Through load_strictly

SMALL = dict(depth=2, global_blocks=[1])


@pytest.fixture(scope="module")
def small_model():
    """Our ViTDet with two blocks."""
    return build(
        "vitdet_pe_spatial_s16_coco_36ep",
        device="cpu",
        **{f"model.backbone.encoder_options.{k}": v for k, v in SMALL.items()},
    )


def test_an_official_file_loads_as_it_is(small_model):
    generator = torch.Generator().manual_seed(1)
    wanted = {
        k: torch.randn(v.shape, generator=generator) for k, v in small_model.state_dict().items()
    }
    official = vitdet_to_official(wanted)
    official["backbone.net.rope_glb.freqs_cos"] = torch.ones(64 * 64, 64)
    load_strictly(small_model, {"state_dict": official}, "d2.pth")
    for key, value in small_model.state_dict().items():
        assert torch.equal(value, wanted[key]), key


def test_missing_parts_and_other_class_counts_are_named(small_model):
    official = vitdet_to_official(small_model.state_dict())
    missing = {k: v for k, v in official.items() if "mask_fcn3" not in k}
    with pytest.raises(ValueError, match=r"missing: roi_head\.mask_head\.convs\.2"):
        load_strictly(small_model, {"state_dict": missing}, "d2.pth")
    unknown = official | {"roi_heads.extra.weight": torch.ones(1)}
    with pytest.raises(ValueError, match=r"unexpected: roi_heads\.extra\.weight"):
        load_strictly(small_model, {"state_dict": unknown}, "d2.pth")
    key = "roi_heads.box_predictor.cls_score"
    lvis = official | {f"{key}.weight": torch.ones(1204, 1024), f"{key}.bias": torch.ones(1204)}
    with pytest.raises(ValueError, match="has 1204 classes and the config 81"):
        load_strictly(small_model, {"state_dict": lvis}, "d2.pth")


def test_a_model_of_another_kind_is_refused():
    with pytest.raises(ValueError, match="detectron2's ViTDet, but the config builds a Linear"):
        load_strictly(torch.nn.Linear(2, 2), {"state_dict": small_vitdet()}, "d2.pth")


# Through tools/test.py's own function

CONFIG = """
_base_ = ["{configs}/vitdet_pe_t16_mini.py"]
protocol = dict(id="published", annotations_sha256=None)
evaluation_only = True
width = 8
model = dict(
    rpn_head=dict(num_convs=2),
    roi_head=dict(mask_head=dict(num_convs=4)),
)
"""


def test_an_official_file_is_scored_and_recorded(tmp_path, mini_root):
    config = tmp_path / "published_eval.py"
    config.write_text(CONFIG.format(configs=CONFIGS))
    cfg, _ = load_config(str(config), weights="random")
    init_default_scope("mmdet")
    official = vitdet_to_official(MODELS.build(cfg.model).state_dict())
    official["backbone.net.rope_glb.freqs_cos"] = torch.ones(16 * 16, 64)
    file = tmp_path / "mask_rcnn.pth"
    torch.save({"model": official, "iteration": 9, "optimizer": {"state": {}}}, file)
    options = {"data_root": str(mini_root / "coco"), "val_dataloader.num_workers": 0}
    records = tmp_path / "records"
    scores = evaluate(
        str(config), file, options=options, records=records, work_dir=tmp_path / "work"
    )
    assert 0.0 <= scores["AP"] <= 1.0
    (record,) = (json.loads(path.read_text()) for path in records.rglob("*.json"))
    assert record["encoder"]["weights"] == "mask_rcnn.pth"
    assert record["protocol"]["id"].startswith("published")
    official["backbone.net.rope_glb.freqs_cos"] = torch.ones(64 * 64, 64)
    torch.save({"model": official}, file)
    with pytest.raises(ValueError, match="canvas of 1024 px, and the config has 256"):
        evaluate(str(config), file, options=options)
