"""The model of every config is built, with another encoder where any fits."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

pytest.importorskip("mmengine")

from config_files import CONFIGS, named, own_data

from pe_dense.run.config import load_config, load_template
from pe_dense.run.protocol import protocol_settings

PROBING = [path for path in CONFIGS if "probing.py" in path.read_text(encoding="utf-8")]


@pytest.mark.parametrize("encoder", ["pe_spatial_t16_512", "pe_spatial_l14_448"])
@pytest.mark.parametrize("path", PROBING, ids=named)
def test_probe_of_every_layer_builds(path: Path, encoder: str, mini_root: Path) -> None:
    pytest.importorskip("mmseg")
    from mmengine.registry import METRICS, MODELS, init_default_scope
    from mmengine.utils import import_modules_from_strings

    options = own_data(path, mini_root)
    cfg, template = load_config(path, weights="random", options=options)
    if cfg.model.get("listed_depth") is None:
        cfg, template = load_config(path, encoder=encoder, weights="random", options=options)
    settings = protocol_settings(template)
    import_modules_from_strings(**cfg.custom_imports)
    init_default_scope("mmseg")
    with torch.device("meta"):
        model = MODELS.build(cfg.model)
    metric = METRICS.build(cfg.test_evaluator)
    assert protocol_settings(template) == settings
    assert metric.sources == model.bank.sources
    assert len(model.bank.sources) >= model.backbone.encoder.depth
    if "crop_size" in cfg.model.get("test_cfg", {}):
        assert cfg.model.test_cfg.crop_size[0] == 32 * model.backbone.patch_size


DETECTION = [path for path in CONFIGS if path.parent.name == "detection"]
DEPTH = [
    path
    for path in CONFIGS
    if path.parent.name == "depth" and "probing" not in path.read_text(encoding="utf-8")
]


@pytest.mark.parametrize("encoder", ["pe_core_t16_384", "pe_spatial_g14_448"])
@pytest.mark.parametrize("path", DEPTH, ids=named)
def test_depth_estimator_builds_for_encoders_with_and_without_class_token(
    path: Path, encoder: str, mini_root: Path
) -> None:
    pytest.importorskip("mmseg")
    from mmengine.registry import MODELS, init_default_scope

    import pe_dense.depth  # noqa: F401 (registers its parts)

    init_default_scope("mmseg")
    options = own_data(path, mini_root)
    cfg, template = load_config(path, encoder=encoder, weights="random", options=options)
    settings = protocol_settings(template)
    with torch.device("meta"):
        model = MODELS.build(cfg.model)
    assert protocol_settings(template) == settings
    assert model.decode_head.with_class_token == model.backbone.with_class_token
    assert model.decode_head.num_layers == len(model.backbone.out_indices)


@pytest.mark.parametrize("path", DETECTION, ids=named)
def test_detector_builds_and_leaves_the_protocol_alone(path: Path, mini_root: Path) -> None:
    pytest.importorskip("mmdet")
    from mmdet.registry import MODELS
    from mmdet.utils import register_all_modules

    register_all_modules(init_default_scope=True)
    # Where any encoder fits, another one stands in: what is tested is how the parts fit.
    own_tower = "encoder_options" in load_template(path).model.backbone
    encoder = None if own_tower else "pe_core_t16_384"
    options = own_data(path, mini_root)
    (cfg, template), (again, _) = (
        load_config(path, encoder=encoder, weights="random", options=options) for _ in range(2)
    )
    settings = protocol_settings(template)
    # mmdet writes into the config it builds from, so each build needs its own.
    with torch.device("meta"):
        first, second = MODELS.build(cfg.model), MODELS.build(again.model)
    assert str(first) == str(second)
    first_shapes, second_shapes = (
        {name: tuple(p.shape) for name, p in model.named_parameters()} for model in (first, second)
    )
    assert first_shapes == second_shapes
    assert protocol_settings(template) == settings
    assert first.backbone.embed_dim == first.neck.in_channels
    assert own_tower or first.backbone.embed_dim == 192
    head = first.bbox_head if hasattr(first, "bbox_head") else first.roi_head.bbox_head
    assert head.num_classes == cfg.num_classes == len(cfg.classes)
    if not own_tower:
        assert cfg.model.data_preprocessor.mean == [127.5] * 3
