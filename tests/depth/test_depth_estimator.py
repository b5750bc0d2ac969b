"""Inference of whole models: padding is cut, flips and windows are averaged, encoders stay."""

import copy

import pytest
import torch
import torch.nn.functional as F
from mmengine.config import ConfigDict
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData
from mmseg.models.segmentors import DepthEstimator
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from torch import nn

import pe_dense.depth  # noqa: F401

PATCH = 4
TOWER = dict(
    type="DenseBackbone",
    encoder="pe_spatial_t16_512",
    encoder_options=dict(
        patch_size=PATCH, embed_dim=16, depth=2, num_heads=2, mlp_hidden=24, image_size=32
    ),
    out_indices=[0, 1],
    frozen=True,
)
HEADS = {
    "linear": dict(
        type="DepthBinsHead", num_layers=2, num_bins=9, max_depth=5.0, upsample=2, batch_norm=True
    ),
    "dpt": dict(type="DPTDepthHead", num_layers=1, readout="ignore", channels=6, max_depth=1e9),
}


class Ramp(nn.Module):
    """A backbone that shows where it looks: the column of every token, in pixels of its input."""

    patch_size = PATCH

    def forward(self, images):
        rows, columns = (side // PATCH for side in images.shape[2:])
        centres = (torch.arange(columns) + 0.5) * PATCH
        return (centres.expand(len(images), 1, rows, columns).contiguous(),)


class Identity(nn.Module):
    align_corners = False
    num_classes = out_channels = 1

    def forward(self, maps):
        return maps[0]


@pytest.fixture(autouse=True)
def scope():
    init_default_scope("mmseg")
    torch.manual_seed(0)


def estimator(head="linear", seg_pad_val=0, **test_cfg):
    torch.manual_seed(1)
    tower = copy.deepcopy(TOWER)
    if head == "dpt":
        tower["out_indices"] = [1]
    model = MODELS.build(
        ConfigDict(
            type="DenseDepthEstimator",
            data_preprocessor=dict(
                type="SegDataPreProcessor", seg_pad_val=seg_pad_val, size_divisor=PATCH
            ),
            backbone=tower,
            decode_head=dict(in_channels=16, **HEADS[head]),
            test_cfg=test_cfg,
        )
    )
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.4)
    return model.eval()


def sample(ori, size=None, **meta):
    size = size or ori
    return SegDataSample(metainfo=dict(ori_shape=ori, img_shape=size, img_path="a.jpg", **meta))


def predicted(model, images, found=None):
    found = found or [sample(tuple(images.shape[2:])) for _ in images]
    with torch.no_grad():
        model.predict(images, found)
    return torch.stack([one.pred_depth_map.data for one in found])


def ramp(**test_cfg):
    model = estimator(**test_cfg)
    model.backbone, model.decode_head = Ramp(), Identity()
    return model


@pytest.mark.parametrize(("pad", "offset"), [("bottom_right", 0), ("centre", 1)])
def test_padding_is_cut(pad, offset):
    """The ramp keeps the pixel grid; stretched padding would change its slope."""
    found = predicted(ramp(pad=pad), torch.randn(1, 3, 9, 21))  # 3 columns of padding
    assert found.shape == (1, 1, 9, 21)
    columns = torch.arange(21) + 0.5 + offset
    torch.testing.assert_close(found[0, 0, 4, 4:18], columns[4:18])


def test_padding_may_be_stretched_as_dinov2_does():
    """Columns 0..23 of the padded input are read as columns 0..20 of the image."""
    found = predicted(ramp(pad="centre", padding="stretched"), torch.randn(1, 3, 9, 21))
    assert found.shape == (1, 1, 9, 21)
    columns = (torch.arange(21) + 0.5) * 24 / 21
    torch.testing.assert_close(found[0, 0, 4, 3:18], columns[3:18])
    # The same from several images at once, and once resized: the head's output to the image.
    model = ramp(pad="centre", padding="stretched", window_batch=1)
    twice = predicted(model, torch.randn(2, 3, 9, 21), [sample((18, 42), (9, 21))] * 2)
    columns = (torch.arange(42) + 0.5) * 24 / 42
    torch.testing.assert_close(twice[1, 0, 4, 6:36], columns[6:36])


def test_training_stretches_its_padding_as_inference_does():
    """The loss of a head that shows the columns, against the columns that it should show."""
    seen = {}

    class Recording(Identity):
        def loss(self, maps, samples, train_cfg):
            seen.update(maps=maps, samples=samples)
            return dict(loss_depth=maps[0].sum())

    images, depth = torch.randn(1, 3, 9, 21), torch.ones(1, 9, 21)
    shapes = {}
    for padding in ("cut", "stretched"):
        model = ramp(pad="centre", padding=padding)
        model.decode_head = Recording()
        one = sample((9, 21))
        one.gt_depth_map = PixelData(data=depth)
        model.loss(images, [one])
        shapes[padding] = tuple(seen["samples"][0].gt_depth_map.shape)
        assert seen["maps"][0].shape[2:] == (3, 6)
    assert shapes == {"cut": (12, 24), "stretched": (9, 21)}


def test_depth_is_limited_before_it_is_resized_as_dinov2_does():
    class Steps(Identity):
        depth_limits = (2.0, 8.0)

        def forward(self, maps):
            return torch.tensor([0.0, 0.0, 16.0, 16.0]).expand(1, 1, 1, 4)

    for padding in ("cut", "stretched"):
        model = ramp(padding=padding)
        model.decode_head = Steps()
        found = predicted(model, torch.randn(1, 3, 4, 16))
        known = F.interpolate(
            torch.tensor([2.0, 2.0, 8.0, 8.0]).expand(1, 1, 1, 4), (4, 16), mode="bilinear"
        )
        torch.testing.assert_close(found, known)
        assert set(found.unique().tolist()) > {2.0, 8.0}  # limited afterwards it were only these


def test_padding_of_the_preprocessor_is_cut_and_the_rest_resized():
    images = torch.randn(2, 3, 12, 24)
    found = [sample((16, 40), (8, 20), img_padding_size=(0, 4, 0, 4)) for _ in images]
    assert torch.equal(
        predicted(estimator(), images, found),
        predicted(estimator(), images[:, :, :8, :20], [sample((16, 40), (8, 20)) for _ in images]),
    )
    both = [sample((8, 20), padding_size=(0, side, 0, 0)) for side in (4, 3)]
    with pytest.raises(ValueError, match="different padding"):
        predicted(estimator(), images, both)


@pytest.mark.parametrize("head", ["linear", "dpt"])
def test_whole_inference_equals_mmseg_s_where_nothing_is_padded(head):
    ours = estimator(head, mode="whole")
    stock = DepthEstimator(
        backbone=copy.deepcopy(TOWER) | dict(out_indices=list(ours.backbone.out_indices)),
        decode_head=dict(in_channels=16, **HEADS[head]),
        test_cfg=ConfigDict(mode="whole"),
    )
    stock.load_state_dict(ours.state_dict(), strict=True)
    images = torch.randn(2, 3, 16, 24)
    metas = [sample((33, 47), (16, 24), pad_shape=(16, 24)) for _ in images]
    found = predicted(ours, images, copy.deepcopy(metas))
    assert found.shape == (2, 1, 33, 47) and found.dtype == torch.float32
    torch.testing.assert_close(found, predicted(stock.eval(), images, metas))
    assert found.std() > 0.01


@pytest.mark.parametrize(
    "head",
    [
        dict(type="DepthBinsHead", num_layers=2, num_bins=9, with_class_token=True),
        dict(type="DPTDepthHead", num_layers=1, readout="project", channels=6),
    ],
)
def test_class_tokens_of_the_backbone_reach_the_head(head):
    tower = copy.deepcopy(TOWER)
    tower["encoder_options"]["cls_token"] = True
    tower["out_indices"] = list(range(head["num_layers"]))
    model = MODELS.build(
        ConfigDict(
            type="DenseDepthEstimator",
            backbone=dict(tower, with_class_token=True),
            decode_head=dict(head, in_channels=16, max_depth=5.0),
        )
    ).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.4)
    images = torch.randn(1, 3, 16, 20)
    assert predicted(model, images).shape == (1, 1, 16, 20)
    with torch.no_grad():
        layers = model.extract_feat(images)
        depth = model.decode_head(layers)
        other = model.decode_head([(map_BChw, token_BC + 1) for map_BChw, token_BC in layers])
    assert not torch.allclose(depth, other, atol=1e-3)


def test_a_batch_of_several_sizes_gives_what_each_image_gives_alone():
    model = estimator()
    images = [torch.randn(3, *size) for size in ((16, 20), (16, 4), (16, 20))]
    items = [dict(inputs=[x], data_samples=[sample(tuple(x.shape[1:]))]) for x in images]
    batch = {key: [item[key][0] for item in items] for key in items[0]}
    with torch.no_grad():
        together = model.test_step(batch)
        alone = [model.val_step(item)[0] for item in items]
    for mine, known in zip(together, alone, strict=True):
        torch.testing.assert_close(mine.pred_depth_map.data, known.pred_depth_map.data)


def test_flip_is_the_mean_of_both():
    images = torch.randn(2, 3, 10, 22)
    straight = predicted(estimator(), images)
    mirrored = predicted(estimator(), images.flip(-1)).flip(-1)
    assert not torch.allclose(straight, mirrored, atol=1e-3)
    found = predicted(estimator(flip=True), images)
    torch.testing.assert_close(found, (straight + mirrored) / 2)
    # The same where the preprocessor has padded one side.
    padded = F.pad(images, (0, 2, 0, 2))
    metas = [sample((10, 22), img_padding_size=(0, 2, 0, 2)) for _ in images]
    torch.testing.assert_close(predicted(estimator(flip=True), padded, metas), found)


@pytest.mark.parametrize(("direction", "axis"), [("horizontal", -1), ("vertical", -2)])
def test_an_image_that_came_mirrored_is_mirrored_back(direction, axis):
    images = torch.randn(1, 3, 8, 12)
    meta = sample((8, 12), flip=True, flip_direction=direction)
    found = predicted(estimator(), images.flip(axis), [meta])
    known = predicted(estimator(), images.flip(axis)).flip(axis)
    assert torch.equal(found, known)


def test_one_window_is_the_whole():
    images = torch.randn(3, 3, 10, 14)
    slide = dict(mode="slide", crop_size=(16, 16), stride=(8, 8))
    torch.testing.assert_close(
        predicted(estimator(**slide), images), predicted(estimator(window_batch=1), images)
    )


@pytest.mark.parametrize("window_batch", [1, 3, 100])
@pytest.mark.parametrize("flip", [False, True])
def test_windows_are_averaged_where_they_overlap(flip, window_batch):
    slide = dict(mode="slide", crop_size=(10, 10), stride=(6, 6), window_batch=window_batch)
    images = torch.randn(2, 3, 16, 20)
    found = predicted(estimator(flip=flip, **slide), images)

    def slowly(images):
        model, sums, counts = estimator(), torch.zeros(2, 1, 16, 20), torch.zeros(16, 20)
        for top in (0, 6):
            for left in (0, 6, 10):
                part = predicted(model, images[:, :, top : top + 10, left : left + 10])
                sums[:, :, top : top + 10, left : left + 10] += part
                counts[top : top + 10, left : left + 10] += 1
        return sums / counts

    known = slowly(images)
    if flip:
        known = (known + slowly(images.flip(-1)).flip(-1)) / 2
    torch.testing.assert_close(found, known)


def test_without_samples_the_input_has_the_original_size():
    model = estimator()
    with torch.no_grad():
        found = model.predict(torch.randn(2, 3, 9, 11))
    assert [one.pred_depth_map.data.shape for one in found] == [(1, 9, 11)] * 2


def test_a_frozen_encoder_is_bit_identical_after_a_step():
    model = estimator(flip=True).train()
    before = {k: v.clone() for k, v in model.backbone.state_dict().items()}
    head = {k: v.clone() for k, v in model.decode_head.state_dict().items()}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5, weight_decay=0.1)
    found = sample((16, 18))
    found.gt_depth_map = PixelData(data=torch.rand(1, 16, 18) * 4 + 0.5)
    data = model.data_preprocessor(
        dict(inputs=[torch.randn(3, 16, 18)], data_samples=[found]), training=True
    )
    depth = data["data_samples"][0].gt_depth_map.data
    assert depth.shape == (1, 16, 20) and not depth[:, :, 18:].any()  # padded as not annotated
    losses = model.loss(data["inputs"], data["data_samples"])
    assert set(losses) == {"decode.loss_silog"}
    losses["decode.loss_silog"].backward()
    optimizer.step()
    assert all(torch.equal(v, before[k]) for k, v in model.backbone.state_dict().items())
    assert not torch.equal(model.decode_head.conv_seg.weight, head["conv_seg.weight"])


@pytest.mark.parametrize(("pad", "offset"), [("bottom_right", 0), ("centre", 1)])
def test_a_loss_sees_prediction_and_annotation_at_the_same_pixels(pad, offset):
    """Tokens say the column of their centre, which the annotation has too: nothing to learn."""
    model = ramp(pad=pad)
    seen = {}

    def remember(depth, samples):
        seen["depth"] = F.interpolate(depth, samples[0].gt_depth_map.shape, mode="bilinear")
        seen["truth"] = torch.stack([one.gt_depth_map.data for one in samples])
        return dict(loss=depth.sum())

    model.decode_head.loss = lambda maps, samples, cfg: remember(maps[0], samples)
    columns = torch.arange(18) + 0.5 + offset  # of the padded image
    found = sample((16, 18))
    found.gt_depth_map = PixelData(data=columns.expand(1, 16, 18).contiguous())
    model.loss(torch.randn(1, 3, 16, 18), [found])
    annotated = seen["truth"] > 0
    assert annotated.sum() == 16 * 18 and seen["truth"].shape == (1, 1, 16, 20)
    inner = annotated.clone()
    inner[..., :2] = inner[..., -2:] = False  # outside all centres a ramp is flat
    torch.testing.assert_close(seen["depth"][inner], seen["truth"][inner])
    assert found.gt_depth_map.shape == (16, 18)  # the sample of the caller is not changed


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (dict(seg_pad_val=255), "seg_pad_val=0"),
        (dict(mode="slide_flip"), "slide_flip"),
        (dict(padding="crop"), "padding='crop' is neither"),
        (
            dict(padding="stretched", mode="slide", crop_size=(8, 8), stride=(4, 4)),
            "does not go with mode 'slide'",
        ),
        (dict(mode="slide", crop_size=(8, 8)), "lacks stride"),
        (dict(pad="top"), "'top'"),
        (dict(size_divisor=0), "divisor 0"),
    ],
)
def test_bad_settings_are_named(settings, words):
    with pytest.raises(ValueError, match=words):
        estimator(**settings)
