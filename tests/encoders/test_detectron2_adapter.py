"""The detectron2 backbone, against a minimal stand-in of the few classes that it uses."""

import abc
import importlib.util
import pickle
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from small_towers import DETECTION, assert_equal_states, tower_of
from torch import nn
from torchvision_ops import importorskip_timm

from pe_dense.encoders import detectron2_adapter

OPTIONS = {**DETECTION, "pos_embed": "tile", "depth": 3}
ENCODER = "pe_spatial_t16_512"


class Backbone(nn.Module, metaclass=abc.ABCMeta):
    @abc.abstractmethod
    def forward(self): ...

    @property
    def size_divisibility(self):
        return 0

    @property
    def padding_constraints(self):
        return {}


@dataclass
class ShapeSpec:
    channels: int | None = None
    height: int | None = None
    width: int | None = None
    stride: int | None = None


class CfgNode(dict):
    """Values by attribute, as in yacs."""

    def __init__(self, init=None, new_allowed=False):
        super().__init__(init or {})

    def __getattr__(self, name):
        return self[name]

    __setattr__ = dict.__setitem__


class Registry(dict):
    def register(self, function):
        assert function.__name__ not in self, "registered twice"
        self[function.__name__] = function


def clear_caches():
    detectron2_adapter._backbone_class.cache_clear()
    detectron2_adapter.register.cache_clear()


@pytest.fixture
def detectron2(monkeypatch):
    package = ModuleType("detectron2")
    package.__path__ = []
    parts = {
        "config": dict(CfgNode=CfgNode),
        "layers": dict(ShapeSpec=ShapeSpec),
        "modeling": dict(Backbone=Backbone, BACKBONE_REGISTRY=Registry()),
    }
    monkeypatch.setitem(sys.modules, "detectron2", package)
    for name, members in parts.items():
        module = ModuleType(f"detectron2.{name}")
        vars(module).update(members)
        setattr(package, name, module)
        monkeypatch.setitem(sys.modules, f"detectron2.{name}", module)
    clear_caches()
    yield package
    clear_caches()


def backbone(**options):
    return detectron2_adapter.PEBackbone(ENCODER, encoder_options=OPTIONS, **options)


# Without detectron2


@pytest.mark.skipif(importlib.util.find_spec("detectron2") is not None, reason="it is installed")
@pytest.mark.parametrize(
    "ask",
    [
        lambda: detectron2_adapter.PEBackbone,
        detectron2_adapter.register,
        lambda: detectron2_adapter.add_pe_config(CfgNode()),
        lambda: exec("from pe_dense.encoders.detectron2_adapter import PEBackbone"),
    ],
)
def test_without_detectron2_one_sentence_says_what_to_do(ask):
    clear_caches()
    with pytest.raises(ImportError, match="detectron2 cannot be imported.*pip install") as error:
        ask()
    assert "\n" not in str(error.value) and "vitdet_ configs" in str(error.value)


def test_other_names_are_no_part_of_the_module():
    with pytest.raises(AttributeError, match="no attribute 'Backbone'"):
        detectron2_adapter.Backbone  # noqa: B018


# As a backbone


def test_what_a_pyramid_asks_of_its_net(detectron2):
    net = backbone(square_size=32)
    assert isinstance(net, Backbone)
    shape = net.output_shape()["last_feat"]
    assert (shape.channels, shape.stride) == (16, 4)
    assert net._out_feature_channels == {"last_feat": 16}
    assert net._out_feature_strides == {"last_feat": 4} and net._out_features == ["last_feat"]
    assert net.size_divisibility == 4
    assert net.padding_constraints == {"size_divisibility": 4, "square_size": 32}
    assert backbone().padding_constraints == {"size_divisibility": 4}


def test_the_map_is_that_of_the_encoder(detectron2):
    net = backbone(out_feature="p").eval()
    images = torch.randn(2, 3, 24, 32)
    maps = net(images)
    assert maps.keys() == {"p"} and maps["p"].shape == (2, 16, 6, 8)
    (expected,) = net.encoder.forward_intermediates(images, (-1,))
    assert torch.equal(maps["p"], expected)


def test_state_dict_has_official_names_and_goes_both_ways(detectron2):
    net, other = backbone(), backbone()
    whole = nn.ModuleDict({"backbone": nn.ModuleDict({"net": net})})
    state = whole.state_dict()
    tower = tower_of(**DETECTION).state_dict()
    assert state.keys() == {f"backbone.net.{key}" for key in tower}
    assert state["backbone.net.positional_embedding"].shape == (1, 16, 16)
    for key, value in other.state_dict().items():
        assert not torch.equal(value, net.state_dict()[key]) or value.std() == 0
    other.load_state_dict(net.state_dict(), strict=True)
    assert_equal_states(other.state_dict(), net.state_dict())


def test_an_official_checkpoint_loads_strictly(detectron2):
    tower = tower_of(**DETECTION).state_dict()
    official = {f"net.{key}": value for key, value in tower.items()}
    official["net.positional_embedding"] = official["net.positional_embedding"][None]
    official["net.rope_glb.freqs_cos"] = torch.ones(4, 8)
    official["net.transformer.resblocks.0.attn.rope.freqs_sin"] = torch.ones(4, 8)
    net = backbone()
    nn.ModuleDict({"net": net}).load_state_dict(official, strict=True)
    assert_equal_states(net.encoder.state_dict(), tower)
    assert "net.rope_glb.freqs_cos" in official  # the caller's mapping is not touched
    official.pop("net.conv1.weight")
    with pytest.raises(RuntimeError, match="Missing key.*conv1.weight"):
        nn.ModuleDict({"net": net}).load_state_dict(official, strict=True)


def test_weights_are_loaded_from_a_file(detectron2, tmp_path):
    tower = tower_of(**DETECTION)
    torch.save(tower.state_dict(), tmp_path / "tower.pt")
    net = backbone(weights=str(tmp_path / "tower.pt"))
    assert_equal_states(net.encoder.state_dict(), tower.state_dict())


def test_gradients_reach_every_trainable_parameter(detectron2):
    net = backbone(grad_checkpointing=True).train()
    net(torch.randn(1, 3, 16, 16))["last_feat"].square().mean().backward()
    assert all(p.grad is not None for p in net.parameters() if p.requires_grad)


def test_frozen_means_frozen(detectron2):
    net = backbone(frozen=True).train()
    assert not net.encoder.training and not any(p.requires_grad for p in net.parameters())


def test_parts_behind_the_blocks_are_not_trained(detectron2):
    options = {**OPTIONS, "pool_heads": 2, "output_dim": 12}
    net = detectron2_adapter.PEBackbone(ENCODER, encoder_options=options)
    frozen = {name for name, p in net.named_parameters() if not p.requires_grad}
    assert "encoder.proj" in frozen and not any("resblocks" in name for name in frozen)


def test_wrong_settings(detectron2):
    with pytest.raises(
        ValueError, match="square_size=30 is no multiple of the patch of 4 px; use 32"
    ):
        backbone(square_size=30)
    with pytest.raises(ValueError, match="unknown encoder"):
        detectron2_adapter.PEBackbone("pe_spatial_x")
    with pytest.raises(ValueError, match="no such option"):
        detectron2_adapter.PEBackbone(ENCODER, encoder_options=dict(nothing=1))


def test_configs_find_the_class_by_its_name(detectron2):
    found = detectron2_adapter.PEBackbone
    assert f"{found.__module__}.{found.__qualname__}" == (
        "pe_dense.encoders.detectron2_adapter.PEBackbone"
    )
    assert pickle.loads(pickle.dumps(found)) is found is detectron2_adapter.PEBackbone


# Through the registry


def test_a_yacs_config_builds_it(detectron2):
    assert detectron2_adapter.register() is detectron2_adapter.register()
    cfg = CfgNode(dict(MODEL=CfgNode()))
    detectron2_adapter.add_pe_config(cfg)
    cfg.MODEL.PE.ENCODER, cfg.MODEL.PE.WEIGHTS = ENCODER, "random"
    cfg.MODEL.PE.SQUARE_SIZE = 32
    cfg.MODEL.PE.ENCODER_OPTIONS = CfgNode(OPTIONS)
    build = detectron2.modeling.BACKBONE_REGISTRY["build_pe_backbone"]
    net = build(cfg, ShapeSpec(channels=3))
    assert isinstance(net, Backbone) and net.square_size == 32
    assert net(torch.randn(1, 3, 32, 32))["last_feat"].shape == (1, 16, 8, 8)
    with pytest.raises(ValueError, match="take 3 channels, but MODEL.PIXEL_MEAN has 4"):
        build(cfg, ShapeSpec(channels=4))


# Layer-wise learning rates


def learning_rates(net, decay):
    """Of every trained parameter of a detector by its name, from our own constructor."""
    pytest.importorskip("mmengine")
    from mmengine.optim import build_optim_wrapper

    import pe_dense.openmmlab.layer_decay  # noqa: F401

    model = nn.Module()
    model.backbone = nn.Module()
    model.backbone.net, model.backbone.simfp_2 = net, nn.Linear(2, 2)
    model.roi_heads = nn.Linear(2, 2)
    wrapper = build_optim_wrapper(
        model,
        dict(
            optimizer=dict(type="SGD", lr=1.0),
            constructor="EncoderLayerDecay",
            paramwise_cfg=dict(layer_decay=decay, backbone="backbone.net."),
        ),
    )
    rate = {id(p): group["lr"] for group in wrapper.param_groups for p in group["params"]}
    return {name: rate[id(p)] for name, p in model.named_parameters() if p.requires_grad}


def assert_rule_is_ours(net, num_layers):
    for decay in (0.7, 1.0):
        expected = learning_rates(net, decay)
        found = {
            name: detectron2_adapter.layer_decay_rate(name, decay, num_layers) for name in expected
        }
        assert found == pytest.approx(expected)
    assert len(set(learning_rates(net, 0.7).values())) == num_layers + 2


def test_layer_decay_is_that_of_our_own_detectors(detectron2):
    assert_rule_is_ours(backbone(), 3)
    options = {**OPTIONS, "pool_heads": 2, "output_dim": 12, "layer_scale": 0.1}
    net = detectron2_adapter.PEBackbone(ENCODER, encoder_options=options)
    assert_rule_is_ours(net, 3)


def test_layer_decay_of_timm_towers(detectron2):
    importorskip_timm()
    for name in ("timm:test_vit", "timm:test_vit3", "timm:vit_tiny_patch16_224"):
        net = detectron2_adapter.PEBackbone(name)
        assert_rule_is_ours(net, net.encoder.depth)


def test_layer_decay_of_the_reference(detectron2):
    """Rates of the official rule, for the names that its own towers have."""
    with np.load(Path(__file__).parents[1] / "golden" / "vitdet_steps.npz") as arrays:
        names, expected = arrays["decay_names"].tolist(), arrays["decay_rates"]
    ours = [name.replace("backbone.net.", "backbone.net.encoder.") for name in names]
    found = [detectron2_adapter.layer_decay_rate(name, 0.9, 50) for name in ours]
    assert found == pytest.approx(expected.tolist())


def test_layer_decay_refuses_what_it_does_not_know():
    rule = detectron2_adapter.layer_decay_rate
    with pytest.raises(ValueError, match="is in block 12, but num_layers is 12"):
        rule("backbone.net.encoder.transformer.resblocks.12.ln_1.weight", 0.7, 12)
    with pytest.raises(ValueError, match="to none of PEBackbone; use the rule of its class"):
        rule("backbone.net.blocks.3.norm1.weight", 0.7, 12)
    assert rule("transformer.encoder.layers.0.norm1.weight", 0.7, 12) == 1.0
    assert rule("backbone.encoder.conv1.weight", 0.5, 1) == 0.25
