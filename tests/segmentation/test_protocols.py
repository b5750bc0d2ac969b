"""The configs under configs/segmentation: what they fix, that they build, and that they run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from config_files import own_data
from mmengine.optim import build_optim_wrapper
from mmengine.registry import PARAM_SCHEDULERS, init_default_scope
from mmseg.registry import MODELS, TRANSFORMS
from runs import evaluate, train

import pe_dense.run.resume
import pe_dense.segmentation  # noqa: F401
from pe_dense.run.config import load_config

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = sorted((ROOT / "configs/segmentation").glob("*.py"))
LINEAR = [path for path in CONFIGS if "_linear_" in path.name]
FROZEN = [*LINEAR, *(path for path in CONFIGS if path.stem.startswith("linear_frozen"))]


def config_of(name: str, **arguments):
    return load_config(ROOT / f"configs/segmentation/{name}.py", **arguments)[0]


# What the protocols fix, from the sheet of each paper


@pytest.mark.parametrize(
    ("name", "encoder", "crop", "short", "stride", "iterations", "decay", "dropout"),
    [
        ("ade20k_linear_dinov2", None, 512, 512, (341, 341), 40_000, 1e-4, 0.0),
        ("ade20k_linear_dinov2_ms", None, 640, 640, (320, 320), 40_000, 1e-4, 0.0),
        ("ade20k_linear_dinov3", "pe_spatial_b16_512", 512, 512, (341, 341), 40_000, 1e-3, 0.1),
        ("ade20k_linear_dinov3", "pe_spatial_g14_448", 448, 448, (298, 298), 40_000, 1e-3, 0.1),
        ("voc2012_linear_dinov3", "pe_spatial_b16_512", 512, 512, (341, 341), 40_000, 1e-3, 0.1),
        ("cityscapes_linear_dinov3", "pe_spatial_b16_512", 512, 1024, (341, 341), 40_000, 1e-3,
         0.1),
        ("ade20k_linear_pe", None, 448, 448, (298, 298), 40_000, 1e-4, 0.0),
        ("ade20k_linear_pe", "pe_spatial_b16_512", 448, 448, (298, 298), 40_000, 1e-4, 0.0),
        ("ade20k_linear_radio", None, 512, 512, None, 80_000, 0.0, 0.0),
    ],
)  # fmt: skip
def test_settings(name, encoder, crop, short, stride, iterations, decay, dropout):
    from pe_dense.pixelwise.windows import strides

    cfg = config_of(name, encoder=encoder)
    assert tuple(cfg.model.test_cfg.crop_size) == (crop, crop)
    resize = cfg.val_dataloader.dataset.pipeline[1]
    assert resize.scale[1] == short and cfg.train_dataloader.dataset.pipeline[2].scale[1] == short
    if stride is None:
        assert cfg.model.test_cfg.mode == "whole"
        assert cfg.model.data_preprocessor.test_cfg.size_divisor == 16
    else:
        assert cfg.model.test_cfg.mode == "slide"
        assert strides((crop, crop), cfg.model.test_cfg.stride) == stride
    assert cfg.train_cfg.max_iters == iterations
    assert cfg.optim_wrapper.optimizer.weight_decay == decay
    assert cfg.optim_wrapper.optimizer.lr == 1e-3
    assert cfg.model.decode_head.dropout_ratio == dropout
    assert cfg.model.backbone.frozen is True and cfg.train_dataloader.batch_size == 2


def test_the_encoder_alone_decides_on_the_final_norm():
    assert config_of("ade20k_linear_dinov3", encoder="pe_core_b16_224").model.backbone.norm is True
    assert config_of("ade20k_linear_dinov3").model.backbone.norm is False


def test_scales_of_the_multi_scale_test():
    transforms = config_of("ade20k_linear_dinov2_ms").test_dataloader.dataset.pipeline[1].transforms
    ratios = (1.0, 1.32, 1.73, 2.28, 3.0)
    assert [resize.scale[1] for resize in transforms[0]] == [int(640 * r) for r in ratios]
    assert [flip.prob for flip in transforms[1]] == [0.0, 1.0]


DINOV3 = ["ade20k_linear_dinov3", "voc2012_linear_dinov3", "cityscapes_linear_dinov3"]


@pytest.mark.parametrize("name", DINOV3)
def test_images_of_dinov3_are_read_resized_and_coloured_as_there(name):
    """Each step is beside the reference's in test_steps_of_dinov3.py and test_resizing.py."""
    init_default_scope("mmseg")
    cfg = config_of(name)
    for loader in ("train", "val", "test"):
        steps = {step.type: step for step in cfg[f"{loader}_dataloader"].dataset.pipeline}
        assert TRANSFORMS.build(steps["LoadImage"]).backend == "pillow"
        if loader == "train":
            resize = TRANSFORMS.build(steps["RandomResize"])
            assert resize.ratio_range == (0.5, 2.0) and resize.resize.antialias
            colours = TRANSFORMS.build(steps["BlendedDistortion"])
            assert (colours.hue_lower, colours.hue_upper) == (-0.5, 0.5)
            assert steps["RandomCrop"].cat_max_ratio == 0.75 and steps["RandomFlip"].prob == 0.5
        else:
            assert TRANSFORMS.build(steps["Resize"]).antialias
            assert list(steps) == ["LoadImage", "Resize", "LoadAnnotations", "PackSegInputs"]
    head = config_of(name, encoder="pe_spatial_t16_512").model.decode_head
    assert MODELS.build(head).dropout_first is True


@pytest.mark.parametrize(("encoder", "padded"), [("pe_spatial_t16_512", 512),
                                                 ("pe_spatial_l14_448", 518)])  # fmt: skip
def test_crops_of_radio_are_512_padded_to_whole_patches(encoder, padded):
    """In black, before the colours are normalised; a test image is stretched with its padding."""
    init_default_scope("mmseg")
    cfg = config_of("ade20k_linear_radio", encoder=encoder)
    steps = [TRANSFORMS.build(step) for step in cfg.train_dataloader.dataset.pipeline[2:-1]]
    crop = dict(
        img=np.full((700, 700, 3), 255, np.uint8),
        gt_seg_map=np.arange(490_000).reshape(700, 700).astype(np.uint8),
        seg_fields=["gt_seg_map"],
    )
    np.random.seed(2)  # noqa: NPY002
    for step in steps:
        crop = step(crop)
    assert crop["img"].shape == (padded, padded, 3)
    assert crop["img"][512:].max(initial=0) == 0 and crop["img"][..., :512, :512, :].max() > 0
    assert (crop["gt_seg_map"][512:] == 255).all() and crop["gt_seg_map"].shape == (padded, padded)
    assert tuple(cfg.model.data_preprocessor.size) == (padded, padded)
    resize, pad = (TRANSFORMS.build(step) for step in cfg.test_dataloader.dataset.pipeline[1:3])
    image = pad(resize(dict(img=np.zeros((1024, 1500, 3), np.uint8))))
    assert image["img_shape"] == {512: (512, 752), 518: (518, 756)}[padded]


RATES = {  # share of 1e-3 at iteration i of 4000, i / 4000, and in the warm-up of 1500
    # mmcv 1.x: a line to 0 after the last iteration, times a line to 1
    "ade20k_linear_dinov2": lambda i: (1 - i / 4000) * min(1.0, 1 - (1 - i / 1500) * (1 - 1e-6)),
    # the first value twice; then a line times a line, then a cosine read one step ahead
    "ade20k_linear_dinov3": lambda i: (
        (1 - (i - 1) / 4000) * (1 - (1 - max(i - 1, 0) / 1500) * (1 - 1e-6))
        if i <= 1500
        else 0.5 + 0.5 * np.cos(np.pi * i / 4000)
    ),
    # mmengine: a line that ends at iteration 1499, and then a line to 0 at the last
    "ade20k_linear_radio": lambda i: (
        1e-6 + (1 - 1e-6) * i / 1499 if i < 1500 else 1 - (i - 1500) / 2499
    ),
}


RATES["ade20k_upernet_pe_b16"] = RATES["ade20k_linear_radio"]  # as mmseg fine-tunes MAE


@pytest.mark.parametrize("name", RATES)
def test_schedule(name):
    """The rate at every iteration, exactly."""
    cfg = config_of(name, options={"max_iters": 4000})
    model = torch.nn.ModuleDict({"backbone": torch.nn.Linear(1, 1)})
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    schedulers = [
        PARAM_SCHEDULERS.build(s, default_args=dict(optimizer=wrapper)) for s in cfg.param_scheduler
    ]
    rates = []
    for _ in range(4000):
        rates.append(wrapper.param_groups[0]["lr"])
        wrapper.param_groups[0]["params"][0].grad = torch.zeros(1, 1)
        wrapper.step()
        for scheduler in schedulers:
            scheduler.step()
    peak = wrapper.param_groups[0]["initial_lr"]
    expected = [peak * RATES[name](i) for i in range(4000)]
    if name == "ade20k_linear_dinov3":
        expected[0] = expected[1]
    np.testing.assert_allclose(rates, expected, rtol=1e-9, atol=1e-15)
    if name in {path.stem for path in LINEAR}:
        assert {g["weight_decay"] for g in wrapper.param_groups} == {cfg.weight_decay}


# Building


# Not those of many heads, by layer (v1), and of none, by names (text).
WITH_ONE_HEAD = [p for p in CONFIGS if not p.stem.endswith("_v1") and "text" not in p.stem]


@pytest.mark.parametrize("path", WITH_ONE_HEAD, ids=lambda path: path.stem)
def test_models_build_for_another_encoder(path, mini_root):
    init_default_scope("mmseg")
    options = own_data(path, mini_root)
    cfg, _ = load_config(path, encoder="pe_core_t16_384", weights="random", options=options)
    if "mmdet.models" in cfg.custom_imports["imports"]:
        pytest.importorskip("mmdet.models")
    with torch.device("meta"):
        model = MODELS.build(cfg.model)
    assert model.backbone.embed_dim == 192
    assert model.decode_head.num_classes == cfg.num_classes == len(cfg.classes)
    assert cfg.model.data_preprocessor.mean == [127.5] * 3
    trained = [name for name, p in model.backbone.named_parameters() if p.requires_grad]
    if not path.stem.endswith("_custom"):  # there `tune` says it
        assert bool(trained) == (path not in FROZEN)


def test_layer_decay_of_the_fine_tuned_model():
    init_default_scope("mmseg")
    cfg = config_of("ade20k_upernet_pe_b16", encoder="pe_spatial_t16_512", weights="random")
    model = MODELS.build(cfg.model)
    rate = {
        id(p): g["lr"]
        for g in build_optim_wrapper(model, cfg.optim_wrapper).param_groups
        for p in g["params"]
    }
    blocks = model.backbone.encoder.transformer.resblocks
    for i in (0, 11):
        found = rate[id(blocks[i].mlp.c_fc.weight)]
        assert found == pytest.approx(1e-4 * 0.65 ** (12 - i))
    assert rate[id(model.decode_head.conv_seg.weight)] == pytest.approx(1e-4)


def test_rates_of_mask2former():
    pytest.importorskip("mmdet.models")
    init_default_scope("mmseg")
    cfg = config_of("ade20k_mask2former_pe_b16", encoder="pe_spatial_t16_512", weights="random")
    model = MODELS.build(cfg.model)
    groups = {
        id(p): (g["lr"], g["weight_decay"])
        for g in build_optim_wrapper(model, cfg.optim_wrapper).param_groups
        for p in g["params"]
    }
    block = model.backbone.encoder.transformer.resblocks[0]
    assert groups[id(block.mlp.c_fc.weight)] == pytest.approx((1e-5, 0.05))
    assert groups[id(model.decode_head.query_embed.weight)] == pytest.approx((1e-4, 0.0))
    assert groups[id(model.decode_head.cls_embed.weight)] == pytest.approx((1e-4, 0.05))


# Running


def final_miou(runner) -> float:
    return runner.message_hub.get_scalar("val/seg/mIoU").current()


@pytest.mark.parametrize("name", ["upernet_pe_t16_mini", "mask2former_pe_t16_mini"])
def test_mini_recipes_train_and_predict(name, mini_root, tmp_path):
    if "mask2former" in name:
        pytest.importorskip("mmdet.models")
    options = {
        "data_root": str(mini_root / "ade"), "max_epochs": 1, "val_interval": 1,
        "image_scale": (64, 64), "crop_size": (64, 64), "train_dataloader.dataset.indices": 8,
        "train_dataloader.num_workers": 0, "val_dataloader.num_workers": 0,
    }  # fmt: skip
    runner = train(
        str(ROOT / f"configs/segmentation/{name}.py"), options=options, work_dir=tmp_path
    )
    assert runner.iter == 2
    assert 0.0 <= final_miou(runner) <= 1.0


MULTI_SCALE = ROOT / "configs/segmentation/ade20k_linear_dinov2_ms.py"


def toy_options(mini_root: Path, num_workers: int) -> dict:
    """A frozen protocol at toy size, for 4 iterations on the mini world."""
    sides = {
        f"test_dataloader.dataset.pipeline.1.transforms.0.{i}.scale": (10**6, side)
        for i, side in enumerate((64, 72, 80, 90, 100))
    }
    return sides | {
        "data_root": str(mini_root / "ade"), "max_iters": 4, "val_interval": 2,
        "crop_size": (64, 64), "train_scale": (10**6, 64), "test_scale": (10**6, 64),
        "test_stride": (42, 42), "num_workers": num_workers,
    }  # fmt: skip


@pytest.fixture(scope="module", params=[0, 2], ids=["no workers", "2 workers"])
def by_iteration(request, tmp_path_factory, mini_root):
    work_dir = tmp_path_factory.mktemp("iterations")
    options = toy_options(mini_root, request.param)
    accept = ("published-total", "class-absent")  # the mini world is no ADE20K
    more = dict(encoder="pe_spatial_t16_512", options=options, accept=accept)
    train(str(MULTI_SCALE), weights="random", work_dir=work_dir, **more)
    return work_dir, more


def test_training_by_iteration_resumes_exactly(by_iteration, tmp_path):
    work_dir, more = by_iteration
    assert sorted(f.name for f in work_dir.glob("*.pth")) == ["iter_2.pth", "iter_4.pth"]
    shutil.copy(work_dir / "iter_2.pth", tmp_path)
    train(str(MULTI_SCALE), weights="random", work_dir=tmp_path, resume=True, **more)
    whole, resumed, middle = (
        torch.load(file, weights_only=False)["state_dict"]
        for file in (work_dir / "iter_4.pth", tmp_path / "iter_4.pth", work_dir / "iter_2.pth")
    )
    key = "decode_head.conv_seg.weight"
    assert not torch.equal(middle[key], whole[key]), "iterations 3 and 4 must do something"
    assert [name for name in whole if not torch.equal(whole[name], resumed[name])] == []


def test_multi_scale_test_runs(by_iteration, tmp_path):
    work_dir, more = by_iteration
    evaluate(
        str(MULTI_SCALE), work_dir, **more, work_dir=tmp_path / "logs",
        records=tmp_path / "records",
    )  # fmt: skip
    (file,) = (tmp_path / "records").rglob("*.json")
    record = json.loads(file.read_text())
    assert 0.0 <= record["scores"]["mIoU"] <= 1.0
    assert record["dataset"]["num_items"] == 6


@pytest.mark.parametrize("name", ["ade20k_linear_dinov3", "ade20k_linear_radio"])
def test_a_protocol_with_its_own_pipelines_trains_and_is_scored(name, mini_root, tmp_path):
    options = {
        "data_root": str(mini_root / "ade"), "max_iters": 2, "val_interval": 2,
        "crop_size": (64, 64), "train_scale": (10**6, 64), "test_scale": (10**6, 60),
        "num_workers": 0,
    }  # fmt: skip
    radio = {"padded_size": (64, 64), "warmup_iters": 1}
    options |= radio if "radio" in name else {"test_stride": (42, 42)}
    runner = train(
        str(ROOT / f"configs/segmentation/{name}.py"), encoder="pe_spatial_t16_512",
        weights="random", options=options, work_dir=tmp_path,
        accept=("published-total", "class-absent"),
    )  # fmt: skip
    assert runner.iter == 2 and 0.0 <= final_miou(runner) <= 1.0
