"""Losses of mmseg's heads, fused, against mmseg's own."""

import pytest
import torch
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample

import pe_dense.segmentation  # noqa: F401 (registers its parts)
from pe_dense.segmentation.fused_loss import head_losses, is_plain

HEADS = {
    "UPerHead": dict(in_channels=[6, 6], in_index=[0, 1], pool_scales=(1, 2)),
    "FCNHead": dict(in_channels=6, in_index=1, num_convs=1, concat_input=False),
}


def head_of(kind, loss=None, **more):
    init_default_scope("mmseg")
    torch.manual_seed(0)
    settings = dict(type=kind, channels=8, num_classes=5, norm_cfg=dict(type="BN"), **HEADS[kind])
    loss = dict(type="CrossEntropyLoss", loss_weight=0.4) | (loss or {})
    return MODELS.build(settings | dict(loss_decode=loss, dropout_ratio=0) | more)


def batch(label=2):
    torch.manual_seed(1)
    maps = [torch.randn(2, 6, 8, 10), torch.randn(2, 6, 4, 5)]
    labels = torch.randint(0, 5, (2, 1, 31, 40))
    labels[:, :, :9] = 255
    labels[0, 0, 20, 20] = label
    meta = [dict(seg_map_path=f"{i}.png") for i in range(2)]
    samples = [
        SegDataSample(gt_sem_seg=PixelData(data=one), metainfo=m)
        for one, m in zip(labels, meta, strict=True)
    ]
    return maps, samples


@pytest.mark.parametrize("kind", HEADS)
@pytest.mark.parametrize("loss", [{}, dict(avg_non_ignore=True, loss_name="loss_other")])
def test_loss_and_gradients_are_mmsegs(kind, loss):
    head, (maps, samples) = head_of(kind, loss), batch()
    assert is_plain(head)
    expected = head.loss(maps, samples, {})
    del expected["acc_seg"]
    (name,) = expected
    wanted = torch.autograd.grad(expected[name], list(head.parameters()))
    found = head_losses(head, maps, samples, {})
    assert list(found) == [name]
    torch.testing.assert_close(found[name], expected[name])
    gradients = torch.autograd.grad(found[name], list(head.parameters()))
    torch.testing.assert_close(gradients, wanted, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("loss", "more"),
    [
        (dict(class_weight=[1.0, 2.0, 1.0, 1.0, 1.0]), {}),
        (dict(use_sigmoid=True), {}),
        ({}, dict(align_corners=True)),
        ({}, dict(sampler=dict(type="OHEMPixelSampler", thresh=0.7, min_kept=10))),
    ],
)
def test_other_losses_stay_as_they_are(loss, more):
    head, (maps, samples) = head_of("FCNHead", loss, **more), batch()
    assert not is_plain(head)
    expected, found = (head.loss(maps, samples, {}), head_losses(head, maps, samples, {}))
    assert found.keys() == expected.keys() and "acc_seg" in found
    torch.testing.assert_close(found["loss_ce"], expected["loss_ce"])


def test_a_label_out_of_range_names_the_files():
    head, (maps, samples) = head_of("FCNHead"), batch(label=9)
    with pytest.raises(ValueError, match=r"0 to 9 .* 5 classes.*\(label maps 0.png, 1.png\)"):
        head_losses(head, maps, samples, {})


@pytest.mark.parametrize("several", [False, True])
def test_the_segmentor_names_the_losses_of_its_heads_as_mmseg_does(several):
    aux = dict(type="FCNHead", channels=8, num_classes=5, loss_decode=dict(type="CrossEntropyLoss"))
    aux |= HEADS["FCNHead"] | dict(in_index=0, in_channels=192)
    main = dict(aux, loss_decode=dict(type="CrossEntropyLoss", class_weight=[1.0] * 5))
    init_default_scope("mmseg")
    model = MODELS.build(
        dict(
            type="DenseSegmentor",
            data_preprocessor=dict(type="SegDataPreProcessor"),
            backbone=dict(type="DenseBackbone", encoder="pe_spatial_t16_512"),
            decode_head=main,
            auxiliary_head=[aux, aux] if several else aux,
        )
    )
    _, samples = batch()
    found = model.loss(torch.randn(2, 3, 32, 48), samples)
    fused = {"aux_0.loss_ce", "aux_1.loss_ce"} if several else {"aux.loss_ce"}
    assert set(found) == {"decode.loss_ce", "decode.acc_seg"} | fused
