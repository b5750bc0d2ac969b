"""Banded and batched inference against mmseg's own, and the linear head."""

import copy

import numpy as np
import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample

import pe_dense.segmentation  # noqa: F401
from pe_dense.pixelwise import upsampled_loss
from pe_dense.pixelwise.banded_inference import BandedLogits
from pe_dense.pixelwise.upsampled_loss import reference_cross_entropy
from pe_dense.pixelwise.windows import PixelBox, slide_windows

CLASSES = 9
TOWER = dict(
    type="DenseBackbone",
    encoder="pe_spatial_t16_512",
    encoder_options=dict(
        patch_size=4, embed_dim=16, depth=2, num_heads=2, mlp_hidden=24, image_size=32
    ),
    out_indices=[0, 1],
)


def settings(kind, mode):
    test_cfg = dict(mode=mode, crop_size=(24, 24), stride=(16, 16), window_batch=3)
    if kind == "EncoderDecoder":
        test_cfg.pop("window_batch")
    return ConfigDict(
        type=kind,
        data_preprocessor=dict(type="SegDataPreProcessor"),
        backbone=copy.deepcopy(TOWER),
        decode_head=dict(
            type="LinearSegHead", in_channels=16, num_layers=2, num_classes=CLASSES,
            dropout_ratio=0.1,
        ),
        test_cfg=test_cfg,
    )  # fmt: skip


def models(mode):
    init_default_scope("mmseg")
    torch.manual_seed(0)
    ours, stock = (MODELS.build(settings(k, mode)) for k in ("DenseSegmentor", "EncoderDecoder"))
    for parameter in ours.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    stock.load_state_dict(ours.state_dict(), strict=True)
    return ours.eval(), stock.eval()


def sample(ori, size, padding=(0, 0, 0, 0), **more):
    meta = dict(
        ori_shape=ori, img_shape=size, pad_shape=size, padding_size=list(padding), img_path="a.jpg",
        **more,
    )  # fmt: skip
    return SegDataSample(metainfo=meta)


@pytest.mark.parametrize("band", [1, 10**7])
@pytest.mark.parametrize("mode", ["whole", "slide"])
@pytest.mark.parametrize(
    ("ori", "padding", "flip"),
    [
        ((40, 56), (0, 0, 0, 0), None),
        ((67, 31), (0, 0, 0, 0), None),
        ((36, 50), (0, 6, 0, 4), None),
        ((40, 80), (0, 2, 0, 3), "horizontal"),
        ((90, 56), (0, 0, 0, 0), "vertical"),
    ],
)
def test_labels_equal_mmseg_s(monkeypatch, mode, ori, padding, flip, band):
    monkeypatch.setitem(upsampled_loss.BAND_NUMEL, "cpu", band)
    ours, stock = models(mode)
    images = torch.randn(2, 3, 40, 56)
    more = dict(flip=True, flip_direction=flip) if flip else {}
    with torch.no_grad():
        found, expected = (
            model.predict(images, [sample(ori, (40, 56), padding, **more) for _ in range(2)])
            for model in (ours, stock)
        )
    for mine, theirs in zip(found, expected, strict=True):
        labels, known = mine.pred_sem_seg.data, theirs.pred_sem_seg.data
        assert labels.shape == known.shape == (1, *ori)
        # Where two classes are within rounding of each other, either may win.
        logits = theirs.seg_logits.data
        best = logits.topk(2, dim=0).values
        clear = (best[0] - best[1]) > 1e-4
        assert clear.float().mean() > 0.99
        assert torch.equal(labels[0][clear], known[0][clear])


def test_an_image_smaller_than_the_crop():
    ours, stock = models("slide")
    images = torch.randn(1, 3, 12, 20)
    with torch.no_grad():
        found = ours.predict(images, [sample((12, 20), (12, 20))])[0].pred_sem_seg.data
        known = stock.predict(images, [sample((12, 20), (12, 20))])[0].pred_sem_seg.data
    assert (found == known).float().mean() > 0.99


@pytest.mark.parametrize("step", ["val_step", "test_step"])
def test_a_batch_of_several_sizes_gives_what_each_image_gives_alone(step):
    ours, _ = models("slide")
    images = [torch.randn(3, *size) for size in ((40, 56), (8, 56), (40, 56), (56, 40))]
    items = [dict(inputs=[x], data_samples=[sample((9, 9 + i), x.shape[1:])])
             for i, x in enumerate(images)]  # fmt: skip
    batch = {key: [item[key][0] for item in items] for key in items[0]}
    with torch.no_grad():
        together = getattr(ours, step)(batch)
        alone = [getattr(ours, step)(item)[0] for item in items]
    for i, (mine, known) in enumerate(zip(together, alone, strict=True)):
        assert mine.ori_shape == (9, 9 + i)
        assert (mine.pred_sem_seg.data == known.pred_sem_seg.data).float().mean() > 0.97


def test_windows_are_those_of_mmseg():
    windows = slide_windows((40, 56), (24, 24), (16, 16))
    assert [(w.top, w.left) for w in windows] == [
        (0, 0),
        (0, 16),
        (0, 32),
        (16, 0),
        (16, 16),
        (16, 32),
    ]
    assert slide_windows((10, 10), (24, 24), (16, 16)) == [PixelBox(0, 10, 0, 10)]


def test_windows_that_leave_pixels_out_are_our_mistake():
    with pytest.raises(AssertionError, match="leave pixels out"):
        BandedLogits([torch.zeros(2, 2, 2)], [PixelBox(0, 4, 0, 4)], (4, 8), (4, 8))


def with_labels(labels):
    found = sample((40, 56), (40, 56), seg_map_path="maps/x.png")
    found.gt_sem_seg = PixelData(data=torch.from_numpy(labels)[None])
    return found


def test_the_head_s_loss_is_mmseg_s():
    ours, _ = models("whole")
    ours.train()
    ours.decode_head.dropout = None
    labels = np.random.default_rng(0).integers(0, CLASSES, (2, 40, 56))
    labels[0, :5] = 255
    images = torch.randn(2, 3, 40, 56)
    losses = ours.loss(images, [with_labels(label) for label in labels])
    with torch.no_grad():
        logits = ours.decode_head(ours.extract_feat(images))
    expected = reference_cross_entropy(logits, torch.from_numpy(labels))
    (value,) = losses.values()
    torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-6)


def test_a_label_out_of_range_names_the_file():
    ours, _ = models("whole")
    labels = np.full((1, 40, 56), CLASSES)
    with pytest.raises(ValueError, match=r"holds? .*9.*classes.*maps/x.png"):
        ours.loss(torch.randn(1, 3, 40, 56), [with_labels(labels[0])])


def test_settings_that_do_not_fit_are_refused():
    init_default_scope("mmseg")
    head = dict(type="LinearSegHead", in_channels=16, num_classes=3)
    with pytest.raises(ValueError, match="takes no loss_decode, sampler"):
        MODELS.build(dict(head, loss_decode=dict(type="DiceLoss"), sampler=dict(type="x")))
    with pytest.raises(ValueError, match="num_layers is 1, but the backbone gives 2"):
        MODELS.build(head)([torch.zeros(1, 16, 2, 2)] * 2)
    ours, _ = models("whole")
    ours.test_cfg["mode"] = "tiles"
    with pytest.raises(ValueError, match="'tiles' is neither 'whole' nor 'slide'"):
        ours.predict(torch.zeros(1, 3, 40, 56))
    ours.test_cfg["mode"] = "whole"
    with pytest.raises(ValueError, match="a.jpg is padded at the left or top"):
        ours.predict(torch.zeros(1, 3, 40, 56), [sample((40, 56), (40, 56), (2, 0, 0, 0))])
