"""Scales and flips against mmseg's SegTTAModel, on the same pipeline."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from mmcv.transforms import Compose
from mmengine.config import ConfigDict
from mmengine.dataset import pseudo_collate
from mmengine.registry import init_default_scope
from mmseg.registry import MODELS
from PIL import Image

import pe_dense.segmentation  # noqa: F401
from pe_dense.pixelwise import upsampled_loss
from pe_dense.pixelwise.banded_inference import BandedLogits, labels_of_views
from pe_dense.pixelwise.windows import PixelBox

SEGMENTOR = dict(
    data_preprocessor=dict(
        type="SegDataPreProcessor", mean=[120.0] * 3, std=[60.0] * 3, bgr_to_rgb=True
    ),
    backbone=dict(
        type="DenseBackbone",
        encoder="pe_spatial_t16_512",
        encoder_options=dict(
            patch_size=4, embed_dim=16, depth=2, num_heads=2, mlp_hidden=24, image_size=32
        ),
        out_indices=[0, 1],
        center_pad=True,
    ),
    decode_head=dict(type="LinearSegHead", in_channels=16, num_layers=2, num_classes=9),
    test_cfg=dict(mode="slide", crop_size=(22, 22), stride=(14, 14)),
)


def pipeline():
    init_default_scope("mmseg")
    return Compose([
        dict(type="LoadImage"),
        dict(
            type="TestTimeAug",
            transforms=[
                [dict(type="Resize", scale=(10**6, s), keep_ratio=True) for s in (32, 43, 57)],
                [dict(type="RandomFlip", prob=p) for p in (0.0, 1.0)],
                [dict(type="LoadAnnotations")],
                [dict(type="PackSegInputs")],
            ],
        ),
    ])  # fmt: skip


def models():
    init_default_scope("mmseg")
    torch.manual_seed(0)
    ours, stock = (
        MODELS.build(ConfigDict(type=tta, module=dict(type=kind, **copy.deepcopy(SEGMENTOR))))
        for tta, kind in (("DenseSegTTA", "DenseSegmentor"), ("SegTTAModel", "EncoderDecoder"))
    )
    for parameter in ours.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    stock.load_state_dict(ours.state_dict(), strict=True)
    return ours.eval(), stock.eval()


@pytest.mark.parametrize("band", [1, 10**7])
def test_labels_equal_mmseg_s(tmp_path, monkeypatch, band):
    monkeypatch.setitem(upsampled_loss.BAND_NUMEL, "cpu", band)
    generator = np.random.default_rng(0)
    small = generator.integers(0, 256, (5, 7, 3), dtype=np.uint8)
    Image.fromarray(small).resize((50, 38)).save(tmp_path / "a.png")
    Image.fromarray(np.full((38, 50), 3, np.uint8)).save(tmp_path / "map.png")
    files = dict(img_path=str(tmp_path / "a.png"), seg_map_path=str(tmp_path / "map.png"))
    results = dict(files, seg_fields=[], reduce_zero_label=False, label_map=None)
    data = pseudo_collate([pipeline()(copy.deepcopy(results)) for _ in range(2)])
    ours, stock = models()
    with torch.no_grad():
        found, expected = ours.test_step(data), stock.test_step(data)
        probabilities = torch.stack([
            stock.module.test_step(
                dict(inputs=data["inputs"][i], data_samples=data["data_samples"][i])
            )[0].seg_logits.data.softmax(0)
            for i in range(6)
        ]).mean(0)  # fmt: skip
    best = probabilities.topk(2, dim=0).values
    clear = (best[0] - best[1]) > 1e-5  # elsewhere rounding decides
    assert clear.float().mean() > 0.99
    for mine, theirs in zip(found, expected, strict=True):
        labels, known = mine.pred_sem_seg.data[0], theirs.pred_sem_seg.data[0]
        assert labels.shape == known.shape == (38, 50)
        assert labels.unique().numel() > 2, "the toy must be able to fail"
        assert torch.equal(labels[clear], known[clear])
        assert mine.img_path == files["img_path"]
        assert (mine.gt_sem_seg.data == 3).all()


def test_images_of_several_sizes_in_a_batch(tmp_path):
    items = []
    for name, size in (("a", (50, 38)), ("b", (38, 50)), ("c", (50, 38))):
        noise = np.random.default_rng(len(items)).integers(0, 256, (5, 7, 3), dtype=np.uint8)
        Image.fromarray(noise).resize(size).save(tmp_path / f"{name}.png")
        Image.fromarray(np.zeros(size[::-1], np.uint8)).save(tmp_path / f"{name}_map.png")
        files = [str(tmp_path / f"{name}{end}.png") for end in ("", "_map")]
        items.append(pipeline()(
            dict(img_path=files[0], seg_map_path=files[1], seg_fields=[],
                 reduce_zero_label=False, label_map=None)
        ))  # fmt: skip
    ours, _ = models()
    together = ours.test_step(pseudo_collate(items))
    for item, mine in zip(items, together, strict=True):
        (known,) = ours.test_step(pseudo_collate([item]))
        assert mine.img_path == known.img_path
        assert (mine.pred_sem_seg.data == known.pred_sem_seg.data).float().mean() > 0.99


def test_probabilities_are_averaged_not_logits():
    whole = [PixelBox(0, 1, 0, 1)]
    sure, unsure = torch.tensor([9.0, 0.0, 0.0]), torch.tensor([0.0, 1.4, 1.0])
    views = [
        BandedLogits([logits[:, None, None]], whole, (1, 1), (1, 1))
        for logits in (sure, unsure, unsure)
    ]
    mean = torch.stack([v.rows(0, 1).softmax(0) for v in views]).mean(0)
    assert labels_of_views(views).item() == mean.argmax(0).item() == 0
    assert labels_of_views(views[1:]).item() == 1


def test_views_of_different_images_are_refused():
    views = [
        BandedLogits([torch.zeros(2, 1, 1)], [PixelBox(0, 4, 0, 4)], (4, 4), (n, 4)) for n in (4, 5)
    ]
    with pytest.raises(ValueError, match="2 kinds"):
        labels_of_views(views)
    with pytest.raises(ValueError, match="0 kinds"):
        labels_of_views([])


def test_a_stock_segmentor_is_refused():
    init_default_scope("mmseg")
    with pytest.raises(ValueError, match="cannot average EncoderDecoder"):
        MODELS.build(
            ConfigDict(
                type="DenseSegTTA", module=dict(type="EncoderDecoder", **copy.deepcopy(SEGMENTOR))
            )
        )
