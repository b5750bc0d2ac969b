"""Depth heads against slow versions, mmseg's DPT, and a few steps of training.

Against the code of DINOv2: test_released_depth_heads.py.
"""

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

B, C, H, W = 2, 8, 3, 5
LIMITS = dict(min_depth=0.5, max_depth=4.0)
BINS = dict(num_bins=7, **LIMITS)


@pytest.fixture(autouse=True)
def scope():
    init_default_scope("mmseg")
    torch.manual_seed(0)


def build(kind, **settings):
    head = MODELS.build(dict(type=kind, in_channels=C, **limits(kind), **settings))
    for parameter in head.parameters():
        nn.init.normal_(parameter, std=0.5)
    return head


def limits(kind):
    return BINS if kind == "DepthBinsHead" else LIMITS


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
    depth = build("DepthBinsHead", norm=norm, strategy=strategy)([1e3 * torch.randn(B, C, H, W)])
    assert 0.5 - 1e-4 <= depth.min() < depth.max() <= 4.0 + 1e-4


def test_dpt_regresses_from_the_lowest_depth_and_nothing_limits_it_in_training():
    head = build("DPTDepthHead", num_layers=1, readout="ignore", channels=6)
    nn.init.constant_(head.conv_seg.bias, 0.0)
    depth = head.train()([1e2 * torch.randn(B, C, H, W)])
    assert depth.min() == 0.5 and depth.max() > 4.0
    assert head.depth_limits == (0.5, 4.0) and build("DepthBinsHead").depth_limits is None


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
        layer = {"1": "conv1.conv", "3": "conv2.conv"}[rest[3]]
        return f"{block}.{unit}.{layer}.{rest[4]}"
    return f"project.conv.{rest[0]}"


@pytest.mark.parametrize("size", [(4, 6), (3, 5)])
@pytest.mark.parametrize("readout", ["ignore", "add", "project"])
@pytest.mark.parametrize("num_layers", [1, 4])
def test_dpt_is_mmseg_s_before_its_own_end(num_layers, readout, size):
    stages = [3, 4, 5, 6]
    head = build(
        "DPTDepthHead",
        channels=6, stage_channels=stages, readout=readout, num_layers=num_layers,
    )  # fmt: skip
    stock = DPTHead(
        embed_dims=C, post_process_channels=list(stages), readout_type=readout, in_channels=[C] * 4,
        channels=6, num_classes=7, in_index=[0, 1, 2, 3], input_transform="multiple_select",
        dropout_ratio=0, norm_cfg=None,
    )  # fmt: skip
    own_end = ("halve", "detail", "conv_seg", "loss_decode")
    state = {
        names_of_mmseg(name): value
        for name, value in head.state_dict().items()
        if not name.startswith(own_end)
    }
    stock.load_state_dict(state | {k: v for k, v in stock.state_dict().items() if "seg" in k})
    seen = {}
    head.smooth.register_forward_hook(lambda *call: seen.update(found=call[2].relu()))
    stock.project.register_forward_hook(lambda *call: seen.update(known=call[2]))
    layers = pairs(num_layers, *size)
    head.eval()(layers)
    stock.eval()(list(layers) * (4 // num_layers))
    found, known = seen["found"], seen["known"].detach()
    torch.testing.assert_close(found, known, rtol=1e-3, atol=1e-3 * float(known.abs().max()))


def test_dpt_gives_32_times_its_coarsest_grid():
    head = build("DPTDepthHead", channels=6, stage_channels=[3, 4, 5, 6])
    assert head(pairs(4, 4, 6)).shape == (B, 1, 64, 96)
    assert head(pairs(4, 3, 5)).shape == (B, 1, 64, 96)
    assert head(pairs(4, 1, 1)).shape == (B, 1, 32, 32)


def test_dpt_begins_as_the_layers_of_dinov2_do():
    """What is mmcv's ConvModule there: normal by its outputs, bias 0; the rest as torch's."""
    head = MODELS.build(dict(type="DPTDepthHead", in_channels=64, channels=64, **LIMITS))
    head.init_weights()
    for layer in (head.narrow[3], head.fusion[0].unit.layers[1], head.smooth):
        assert float(layer.weight.std()) == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.05)
        assert layer.weight.abs().max() > 3 * layer.weight.std()
    assert not head.smooth.bias.any() and not head.reassemble[0].project.bias.any()
    for layer, fan_in in ((head.halve, 64 * 9), (head.conv_seg, 32)):
        assert layer.weight.abs().max() <= fan_in**-0.5 and layer.bias.any()


def test_the_stages_of_one_layer_have_weights_of_their_own():
    head = build("DPTDepthHead", num_layers=1, readout="ignore", channels=6)
    nn.init.constant_(head.conv_seg.bias, 10.0)
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
        dict(type=kind, in_channels=C, num_layers=1, losses=losses, **limits(kind), **small)
    )
    head.init_weights()
    if kind == "DPTDepthHead":  # its last ReLU never wakes where it gives 0 everywhere at first
        nn.init.constant_(head.conv_seg.bias, 1.0)
    maps = [torch.randn(B, C, 4, 4)]
    target = 1 + F.interpolate(maps[0][:, :1].sigmoid(), (32, 32), mode="bilinear")[:, 0]
    optimizer = torch.optim.AdamW(head.parameters(), lr=0.01 if kind == "DepthBinsHead" else 0.001)
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
        ("DPTDepthHead", dict(channels=7), "channels 7 cannot be halved"),
        ("DPTDepthHead", dict(min_depth=5.0), "depth limits 5.0 and 4.0"),
    ],
)
def test_bad_settings_are_named(kind, settings, words):
    with pytest.raises(ValueError, match=words):
        MODELS.build(dict(type=kind, in_channels=C, **limits(kind)) | settings)


def test_bad_input_is_named():
    head = build("DepthBinsHead", num_layers=2, with_class_token=True)
    with pytest.raises(ValueError, match="gives 1 maps"):
        head(pairs(1))
    with pytest.raises(ValueError, match="model.backbone.with_class_token=True"):
        head([torch.randn(B, C, H, W)] * 2)
    head, maps = build("DepthBinsHead"), [torch.randn(B, C, H, W)]
    good = samples(torch.ones(B, 6, 8))
    with pytest.raises(ValueError, match=r"1\.jpg has no gt_depth_map"):
        head.loss(maps, [good[0], SegDataSample(metainfo=dict(img_path="1.jpg"))], None)
    other = copy.deepcopy(good)
    other[1].gt_depth_map = PixelData(data=torch.ones(1, 6, 9))
    with pytest.raises(ValueError, match=r"1\.jpg is \(1, 6, 9\)"):
        head.loss(maps, other, None)
