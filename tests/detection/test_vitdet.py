"""ViTDet as its configs build it: names, norms, pixels, awkward images, masks in the metric."""

from pathlib import Path

import numpy as np
import pytest
import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks, PolygonMasks
from mmdet.utils import register_all_modules
from mmengine.structures import InstanceData

import pe_dense.detection  # noqa: F401
from pe_dense.detection.coco_metric import encode_masks
from pe_dense.detection.gradient_compression import CompressGradients
from pe_dense.openmmlab.necks import ChannelNorm
from pe_dense.run.config import load_config

CONFIGS = Path(__file__).resolve().parents[2] / "configs/detection"


def build(name, device="cpu", **options):
    register_all_modules(init_default_scope=True)
    cfg, _ = load_config(CONFIGS / name, weights="random", options=options)
    with torch.device(device):
        return MODELS.build(cfg.model), cfg


@pytest.fixture(scope="module")
def full():
    return build("vitdet_pe_spatial_g14_coco_36ep.py", "meta")


@pytest.fixture
def small():
    torch.manual_seed(0)
    model, _ = build("vitdet_pe_t16_mini.py")
    model.init_weights()
    return model.train()


def test_names_and_shapes_of_the_heads(full):
    state = {k: tuple(v.shape) for k, v in full[0].state_dict().items() if "backbone" not in k}
    expected = {
        "neck.levels.0.0.weight": (1536, 768, 2, 2),
        "neck.levels.0.1.weight": (768,),
        "neck.levels.0.3.weight": (768, 384, 2, 2),
        "neck.levels.0.4.weight": (256, 384, 1, 1),
        "neck.levels.3.4.weight": (256,),
        "rpn_head.rpn_conv.1.conv.bias": (256,),
        "rpn_head.rpn_cls.weight": (3, 256, 1, 1),
        "roi_head.bbox_head.shared_convs.3.conv.weight": (256, 256, 3, 3),
        "roi_head.bbox_head.shared_convs.3.ln.weight": (256,),
        "roi_head.bbox_head.shared_fcs.0.weight": (1024, 256 * 7 * 7),
        "roi_head.bbox_head.fc_cls.weight": (81, 1024),
        "roi_head.bbox_head.fc_reg.weight": (320, 1024),
        "roi_head.mask_head.convs.3.ln.bias": (256,),
        "roi_head.mask_head.upsample.weight": (256, 256, 2, 2),
        "roi_head.mask_head.conv_logits.weight": (80, 256, 1, 1),
    }
    assert expected.items() <= state.items() | {
        ("neck.levels.3.4.weight", (256,)),
    }
    assert "roi_head.bbox_head.shared_convs.0.conv.bias" not in state
    assert "roi_head.mask_head.convs.0.conv.bias" not in state
    assert not any("neck" in key and key.endswith("levels.2.0.bias") for key in state)


def test_every_channel_norm_has_detectron2_s_eps(full):
    norms = [module for module in full[0].modules() if isinstance(module, ChannelNorm)]
    assert len(norms) == 4 + 4 + 9  # box convolutions, mask convolutions, pyramid
    assert {norm.eps for norm in norms} == {1e-6}


def test_pixels_windows_and_settings(full):
    model, cfg = full
    assert cfg.model.data_preprocessor.mean == cfg.model.data_preprocessor.std == [127.0] * 3
    assert cfg.model.data_preprocessor.pad_size_divisor == 1024
    blocks = model.backbone.encoder.transformer.resblocks
    assert [i for i, b in enumerate(blocks) if b.window_size is None] == [12, 24, 36, 49]
    assert blocks[-1].drop_path_1.drop_prob == 0.5
    assert not cfg.model.train_cfg.rcnn.assigner.match_low_quality
    assert cfg.param_scheduler[0].end == 91
    assert cfg.param_scheduler[1].milestones == [59000, 63916]
    assert cfg.optim_wrapper.paramwise_cfg.decay_norm_and_bias
    assert cfg.optim_wrapper.optimizer.weight_decay == 0.1


def test_lvis_differs_where_it_should():
    model, cfg = build("vitdet_pe_core_g14_lvis_75ep.py", "meta")
    head = model.roi_head.bbox_head
    assert head.fc_cls.out_features == 1204
    assert type(head.loss_cls).__name__ == "FederatedLoss"
    assert cfg.model.test_cfg.rcnn.score_thr == 0.02
    assert cfg.model.test_cfg.rcnn.max_per_img == 300
    assert cfg.train_dataloader.sampler == dict(type="RepeatFactorSampler", threshold=0.001)
    assert cfg.test_evaluator.type == "LvisAP"
    assert cfg.param_scheduler[0].end == 189


def test_frozen_detection_is_windowed_everywhere_and_trains_heads_only():
    model, _ = build("frozen_vitdet_coco_15ep.py", "meta", layer=37)
    assert len(model.backbone.encoder.transformer.resblocks) == 38
    assert {b.window_size for b in model.backbone.encoder.transformer.resblocks} == {32}
    trained = {name.split(".")[0] for name, p in model.named_parameters() if p.requires_grad}
    assert trained == {"neck", "rpn_head", "roi_head"}


def sample(boxes, labels, ignored=(), as_polygons=False):
    found = DetDataSample(
        metainfo=dict(
            img_shape=(256, 256), ori_shape=(256, 256), pad_shape=(256, 256),
            batch_input_shape=(256, 256), scale_factor=(1.0, 1.0), img_id=1,
        )
    )  # fmt: skip
    bitmaps = np.zeros((len(boxes), 256, 256), dtype=np.uint8)
    polygons = []
    for mask, (x1, y1, x2, y2) in zip(bitmaps, boxes, strict=True):
        mask[y1:y2, x1:x2] = 1
        polygons.append([np.array([x1, y1, x2, y1, x2, y2, x1, y2], dtype=float)])
    masks = PolygonMasks(polygons, 256, 256) if as_polygons else BitmapMasks(bitmaps, 256, 256)
    found.gt_instances = InstanceData(
        bboxes=torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        labels=torch.tensor(labels, dtype=torch.int64),
        masks=masks,
    )
    found.ignored_instances = InstanceData(
        bboxes=torch.tensor(ignored, dtype=torch.float32).reshape(-1, 4)
    )
    return found


@pytest.mark.parametrize(
    ("boxes", "labels", "ignored"),
    [
        ([[20, 30, 120, 140], [60, 60, 200, 220]], [1, 3], []),
        ([], [], []),  # nothing annotated
        ([], [], [[0, 0, 256, 256]]),  # only a crowd
        ([[5, 5, 6, 6]], [2], []),  # CocoDataset drops what is smaller than a pixel
    ],
    ids=["objects", "empty", "crowd only", "one pixel"],
)
@pytest.mark.parametrize("as_polygons", [True, False])
def test_awkward_images_train(small, boxes, labels, ignored, as_polygons):
    torch.manual_seed(0)
    images = torch.rand(2, 3, 256, 256)
    batch = [
        sample(boxes, labels, ignored, as_polygons),
        sample([[40, 40, 90, 100]], [0], (), as_polygons),
    ]
    losses = small.loss(images, batch)
    parts = [v if torch.is_tensor(v) else sum(v) for k, v in losses.items() if "loss" in k]
    assert all(torch.isfinite(part) for part in parts)
    sum(parts).backward()
    silent = [n for n, p in small.named_parameters() if p.requires_grad and p.grad is None]
    assert silent == []


def test_masks_are_encoded_as_pycocotools_decodes_them():
    from pycocotools import mask as coding

    masks = torch.zeros(2, 7, 9, dtype=torch.bool)
    masks[0, 2:5, 3:8] = True
    encoded = encode_masks(masks)
    assert [type(item["counts"]) for item in encoded] == [str, str]
    for mask, item in zip(masks, encoded, strict=True):
        np.testing.assert_array_equal(coding.decode(item), mask.numpy())
    assert encode_masks(torch.zeros(0, 7, 9, dtype=torch.bool)) == []


def test_gradient_compression_says_when_there_is_nothing_to_compress():
    class Logger:
        lines: list = []  # noqa: RUF012

        def info(self, line):
            self.lines.append(line)

    class Runner:
        model, logger = torch.nn.Linear(1, 1), Logger()

    CompressGradients().before_train(Runner())
    assert "nothing to compress" in Logger.lines[0]
