"""Depth heads against slow versions, mmseg's DPT, and a few steps of training."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData
from mmseg.models.decode_heads import DPTHead
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from torch import nn

import pe_dense.depth  # noqa: F401
from pe_dense.depth.dpt_head import Fusion

B, C, H, W = 2, 8, 3, 5
BINS = dict(num_bins=7, min_depth=0.5, max_depth=4.0)


@pytest.fixture(autouse=True)
def scope():
    init_default_scope("mmseg")
    torch.manual_seed(0)


def build(kind, **settings):
    head = MODELS.build(dict(type=kind, in_channels=C, **BINS, **settings))
    for parameter in head.parameters():
        nn.init.normal_(parameter, std=0.5)
    return head


def pairs(num_layers, h=H, w=W):
    return [(torch.randn(B, C, h, w), torch.randn(B, C)) for _ in range(num_layers)]


def samples(depth_BHW):
    found = []
    for number, depth_HW in enumerate(depth_BHW):
        sample = SegDataSample(metainfo=dict(img_path=f"{number}.jpg"))
        sample.gt_depth_map = PixelData(data=depth_HW[None])
        found.append(sample)
    return found


def slow_bins(head, layers, upsample):
    """DINOv2's order: concatenate, upsample all channels, score each pixel, take the mean."""
    parts = []
    for layer in layers:
        map_BChw, token_BC = layer if isinstance(layer, tuple) else (layer, None)
        parts.append(map_BChw)
        if token_BC is not None:
            parts.append(token_BC[:, :, None, None].repeat(1, 1, *map_BChw.shape[2:]))
    features = torch.cat(parts, 1)
    if isinstance(head.bn, nn.BatchNorm2d):
        bn = head.bn
        mean, var = features.mean((0, 2, 3)), features.var((0, 2, 3), unbiased=False)
        features = (features - mean[:, None, None]) / (var[:, None, None] + bn.eps).sqrt()
        features = features * bn.weight[:, None, None] + bn.bias[:, None, None]
    size = [side * upsample for side in features.shape[2:]]
    features = F.interpolate(features, size, mode="bilinear", align_corners=False)
    weight, bias = head.conv_seg.weight[:, :, 0, 0], head.conv_seg.bias
    bins = np.linspace(0.5, 4.0, 7)
    found = torch.zeros(B, 1, *size)
    for b in range(B):
        for y in range(size[0]):
            for x in range(size[1]):
                scores = (weight @ features[b, :, y, x] + bias).clamp(min=0).detach() + 0.1
                found[b, 0, y, x] = float((scores.numpy() * bins).sum() / scores.sum())
    return found


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("upsample", [1, 4])
@pytest.mark.parametrize(("num_layers", "token"), [(1, False), (1, True), (4, True)])
def test_linear_head_is_the_slow_one(num_layers, token, upsample, batch_norm):
    head = build(
        "DepthBinsHead",
        num_layers=num_layers, with_class_token=token, upsample=upsample, batch_norm=batch_norm,
    )  # fmt: skip
    layers = pairs(num_layers)
    layers = layers if token else [layer[0] for layer in layers]
    found = head.train()(layers)
    assert found.shape == (B, 1, H * upsample, W * upsample)
    torch.testing.assert_close(found, slow_bins(head, layers, upsample), rtol=1e-4, atol=1e-5)
    assert found.std() > 0.01


def test_class_tokens_are_left_where_they_are_not_read():
    head, layers = build("DepthBinsHead"), pairs(1)
    assert torch.equal(head(layers), head([layers[0][0]]))


@pytest.mark.parametrize("strategy", ["UD", "SID"])
@pytest.mark.parametrize("norm", ["linear", "softmax", "sigmoid"])
def test_depth_stays_within_the_bins(norm, strategy):
    for kind in ("DepthBinsHead", "DPTDepthHead"):
        head = build(kind, norm=norm, strategy=strategy, num_layers=1, **without_token(kind))
        depth = head([1e3 * torch.randn(B, C, H, W)])
        assert 0.5 - 1e-4 <= depth.min() < depth.max() <= 4.0 + 1e-4


def without_token(kind):
    return dict(readout="ignore") if kind == "DPTDepthHead" else {}


def names_of_mmseg(name):
    """Where mmseg's DPTHead keeps a parameter of ours."""
    part, *rest = name.split(".")
    if part == "reassemble":
        stage, module, *last = rest
        place = {
            "merge": f"readout_projects.{stage}.0",
            "project": f"projects.{stage}.conv",
            "resize": f"resize_layers.{stage}",
        }[module]
        return ".".join(["reassemble_blocks", place, *last])
    if part == "narrow":
        return ".".join(["convs", rest[0], "conv", *rest[1:]])
    if part == "fusion":
        block = f"fusion_blocks.{3 - int(rest[0])}"
        if rest[1] == "project":
            return f"{block}.project.conv.{rest[2]}"
        unit = {"skip_unit": "res_conv_unit1", "unit": "res_conv_unit2"}[rest[1]]
        layer = {"1": "conv1.conv", "2": "conv1.bn", "4": "conv2.conv", "5": "conv2.bn"}[rest[3]]
        return f"{block}.{unit}.{layer}.{rest[4]}"
    if part == "smooth":
        return f"project.{'conv' if rest[0] == '0' else 'bn'}.{rest[1]}"
    return name


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("readout", ["ignore", "add", "project"])
@pytest.mark.parametrize("num_layers", [1, 4])
def test_dpt_is_mmseg_s(num_layers, readout, training):
    stages = [3, 4, 5, 6]
    head = build(
        "DPTDepthHead",
        channels=6, stage_channels=stages, readout=readout, num_layers=num_layers, batch_norm=True,
    )  # fmt: skip
    stock = DPTHead(
        embed_dims=C, post_process_channels=list(stages), readout_type=readout, in_channels=[C] * 4,
        channels=6, num_classes=7, in_index=[0, 1, 2, 3], input_transform="multiple_select",
        dropout_ratio=0,
    )  # fmt: skip
    state = {
        names_of_mmseg(name): value
        for name, value in head.state_dict().items()
        if not name.startswith(("bin_decoder", "loss_decode"))
    }
    stock.load_state_dict(state, strict=True)
    layers = pairs(num_layers, 4, 6)  # even, see the head's docstring
    found = head.train(training).bin_logits(layers)
    known = stock.train(training)(list(layers) * (4 // num_layers)).detach()
    assert found.shape == (B, 7, 32, 48)
    torch.testing.assert_close(found, known, rtol=1e-3, atol=1e-3 * float(known.abs().max()))


def test_dpt_goes_to_the_grid_of_the_next_stage():
    head = build("DPTDepthHead", channels=6, stage_channels=[3, 4, 5, 6])
    assert head(pairs(4, 3, 5)).shape == (B, 1, 24, 40)
    assert head(pairs(4, 1, 1)).shape == (B, 1, 8, 8)


def test_residual_units_without_batch_norm_have_a_bias():
    fusion, x, skip = Fusion(3, False, True), torch.randn(1, 3, 4, 5), torch.randn(1, 3, 4, 5)

    def unit(module, values):
        first, second = (layer for layer in module.layers if isinstance(layer, nn.Conv2d))
        inner = F.conv2d(values.relu(), first.weight, first.bias, padding=1)
        return values + F.conv2d(inner.relu(), second.weight, second.bias, padding=1)

    known = unit(fusion.unit, x + unit(fusion.skip_unit, skip))
    known = F.interpolate(known, (8, 10), mode="bilinear", align_corners=True)
    known = fusion.project(known)  # after the upsampling, as in the source
    torch.testing.assert_close(fusion(x, skip, (8, 10)), known, rtol=1e-4, atol=1e-5)


def test_the_stages_of_one_layer_have_weights_of_their_own():
    head = build("DPTDepthHead", num_layers=1, readout="ignore", channels=6)
    assert [stage.project.out_channels for stage in head.reassemble] == [1, 2, 4, 8]
    head([torch.randn(B, C, H, W)]).sum().backward()
    assert all(p.grad is not None for p in head.parameters())  # DDP finds none unused


@pytest.mark.parametrize("kind", ["DepthBinsHead", "DPTDepthHead"])
def test_loss_is_that_of_the_upsampled_prediction(kind):
    losses = [
        dict(type="ScaleInvariantLogLoss", max_depth=4.0),
        dict(type="DepthGradientLoss", loss_weight=0.5),
    ]
    head = build(kind, num_layers=1, losses=losses, **without_token(kind))
    maps = [torch.randn(B, C, H, W)]
    target = torch.rand(B, 21, 37) * 3 + 0.2
    target[:, :4] = 0
    found = head.loss(maps, samples(target), None)
    assert set(found) == {"loss_silog", "loss_gradient"}
    depth = F.interpolate(head(maps), (21, 37), mode="bilinear", align_corners=False)[:, 0]
    valid = target > 0
    error = ((depth + 1e-3).log() - (target + 1e-3).log())[valid]
    known = (error.var() + 0.15 * error.mean() ** 2).sqrt()
    torch.testing.assert_close(found["loss_silog"], known)
    assert found["loss_gradient"] > 0


@pytest.mark.parametrize("kind", ["DepthBinsHead", "DPTDepthHead"])
def test_a_few_steps_learn_a_toy(kind):
    losses = [dict(type="ScaleInvariantLogLoss"), dict(type="DepthGradientLoss", loss_weight=0.5)]
    small = without_token(kind)
    if kind == "DPTDepthHead":
        small |= dict(channels=16, stage_channels=[8] * 4)
    head = MODELS.build(
        dict(type=kind, in_channels=C, num_layers=1, losses=losses, **BINS, **small)
    )
    head.init_weights()
    maps = [torch.randn(B, C, 4, 4)]
    target = 1 + F.interpolate(maps[0][:, :1].sigmoid(), (32, 32), mode="bilinear")[:, 0]
    optimizer = torch.optim.AdamW(head.parameters(), lr=0.01)
    history = []
    for _ in range(50):
        loss = sum(head.loss(maps, samples(target), None).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        history.append(loss.item())
    assert history[-1] < 0.5 * history[0]


def test_a_batch_without_annotation_has_loss_0_and_a_gradient():
    head = build("DepthBinsHead")
    loss = head.loss([torch.randn(B, C, H, W)], samples(torch.zeros(B, 6, 8)), None)["loss_silog"]
    loss.backward()
    assert loss == 0 and not head.conv_seg.weight.grad.any()


def test_a_checkpoint_keeps_its_bins():
    trained, fresh = build("DepthBinsHead"), build("DepthBinsHead", strategy="SID")
    fresh.load_state_dict(trained.state_dict())
    maps = [torch.randn(B, C, H, W)]
    assert torch.equal(fresh(maps), trained(maps))


@pytest.mark.parametrize(
    ("kind", "settings", "words"),
    [
        ("DepthBinsHead", dict(norm="l1"), "l1"),
        ("DepthBinsHead", dict(strategy="log"), "log"),
        ("DepthBinsHead", dict(upsample=0), "upsample 0"),
        ("DepthBinsHead", dict(num_classes=3), "takes no num_classes"),
        ("DepthBinsHead", dict(align_corners=True), "takes no align_corners"),
        ("DPTDepthHead", dict(num_layers=2), "num_layers 2"),
        ("DPTDepthHead", dict(readout="cls"), "cls"),
        ("DPTDepthHead", dict(stage_channels=[4, 4]), "stage_channels"),
        ("DPTDepthHead", dict(loss_decode={}), "takes no loss_decode"),
    ],
)
def test_bad_settings_are_named(kind, settings, words):
    with pytest.raises(ValueError, match=words):
        MODELS.build(dict(type=kind, in_channels=C, **BINS) | settings)


def test_bad_input_is_named():
    head = build("DepthBinsHead", num_layers=2, with_class_token=True)
    with pytest.raises(ValueError, match="gives 1 maps"):
        head(pairs(1))
    with pytest.raises(ValueError, match="with_class_token=True in backbone"):
        head([torch.randn(B, C, H, W)] * 2)
    head, maps = build("DepthBinsHead"), [torch.randn(B, C, H, W)]
    good = samples(torch.ones(B, 6, 8))
    with pytest.raises(ValueError, match=r"1\.jpg has no gt_depth_map"):
        head.loss(maps, [good[0], SegDataSample(metainfo=dict(img_path="1.jpg"))], None)
    other = copy.deepcopy(good)
    other[1].gt_depth_map = PixelData(data=torch.ones(1, 6, 9))
    with pytest.raises(ValueError, match=r"1\.jpg is \(1, 6, 9\)"):
        head.loss(maps, other, None)
