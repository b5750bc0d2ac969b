"""A DETA of the size of the golden arrays, and the arrays."""

from pathlib import Path

import numpy as np
import torch
from mmdet.structures import DetDataSample
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData

import pe_dense.detection  # noqa: F401
from pe_dense.detection.deta import DETA

FILE = Path(__file__).resolve().parents[1] / "golden/deta_small.npz"


def load_arrays():
    with np.load(FILE) as file:
        return {name: file[name] for name in file.files}


def tensor(array):
    return torch.from_numpy(np.asarray(array))


def model_settings(arrays, num_queries=None, soft=False):
    """Arguments of DETA for the golden configuration."""

    def number(name):
        return arrays[f"config/{name}"].item()

    width, heads = number("transformer/d_model"), number("transformer/nhead")
    points, hidden = number("transformer/enc_n_points"), number("transformer/dim_feedforward")
    deformable = dict(
        embed_dims=width, num_heads=heads, num_levels=5, num_points=points, dropout=0.0,
        batch_first=True,
    )  # fmt: skip
    ffn = dict(embed_dims=width, feedforward_channels=hidden, ffn_drop=0.0)
    nms = dict(type="nms", iou_threshold=0.7)
    test_cfg = dict(nms_pre=10000, nms=nms, max_per_img=100)
    if soft:
        nms = dict(type="soft_nms_quad", iou_threshold=0.7, quad_scale=soft, min_score=1e-3)
        test_cfg = dict(nms_pre=2000, nms=nms, max_per_img=-1)
    return dict(
        num_queries=num_queries or number("num_queries"),
        num_feature_levels=5,
        data_preprocessor=dict(type="DetDataPreprocessor", pad_size_divisor=256),
        backbone=dict(
            type="DenseBackbone",
            encoder="pe_spatial_g14_448",
            encoder_options=dict(
                patch_size=number("backbone/patch_size"),
                embed_dim=number("backbone/embed_dim"),
                depth=number("backbone/depth"),
                num_heads=number("backbone/num_heads"),
                mlp_hidden=number("backbone/mlp_hidden"),
                image_size=number("backbone/pretrain_img_size"),
                cls_token=False,
                layer_scale=number("backbone/init_values"),
                window_size=number("backbone/window_size"),
                global_blocks=arrays["config/backbone/global_block_indexes"].tolist(),
                rope_grid=number("backbone/pt_hw_seq_len"),
                pos_embed="tile",
            ),
        ),
        neck=dict(type="DETAPyramid", in_channels=number("backbone/embed_dim"), out_channels=width),
        encoder=dict(
            num_layers=number("transformer/num_encoder_layers"),
            layer_cfg=dict(self_attn_cfg=dict(deformable), ffn_cfg=dict(ffn)),
        ),
        decoder=dict(
            num_layers=number("transformer/num_decoder_layers"),
            return_intermediate=True,
            layer_cfg=dict(
                self_attn_cfg=dict(embed_dims=width, num_heads=heads, dropout=0.0),
                cross_attn_cfg=dict(deformable),
                ffn_cfg=dict(ffn),
            ),
            post_norm_cfg=None,
        ),
        positional_encoding=dict(
            num_feats=width // 2, normalize=True, offset=-0.5, temperature=10000
        ),
        bbox_head=dict(
            type="DETAHead",
            num_classes=number("num_classes"),
            embed_dims=width,
            proposal_assigner=dict(type="PairAssigner", positive_iou=0.7, max_positives=128),
            loss_cls=dict(type="FocalLoss", use_sigmoid=True, gamma=2.0, alpha=0.25),
            loss_bbox=dict(type="L1Loss", loss_weight=5.0),
            loss_iou=dict(type="GIoULoss", loss_weight=2.0, eps=1e-9),
        ),
        train_cfg=dict(assigner=dict(type="PairAssigner", positive_iou=0.6, max_positives=0.25)),
        test_cfg=test_cfg,
    )


def build_model(arrays, **options):
    """The golden DETA with its weights, in training mode (nothing in it is random)."""
    from pe_dense.detection.deta_layout import deta_from_official

    init_default_scope("mmdet")
    model = DETA(**model_settings(arrays, **options))
    prefix = "weights/"
    official = {
        k.removeprefix(prefix): tensor(v) for k, v in arrays.items() if k.startswith(prefix)
    }
    for key in arrays["official_alias_keys"].tolist():
        official[key] = official[key.removeprefix("transformer.decoder.")]
    model.load_state_dict(deta_from_official(official), strict=True)
    return model.train()


def samples(arrays, targets=None, padded=True):
    """Data samples of the two images, with the ground truth below `targets` in pixels."""
    found = []
    for i, (height, width) in enumerate(arrays["inputs/sizes"].tolist()):
        shape = (height, width) if padded else (256, 256)
        sample = DetDataSample(
            metainfo=dict(
                img_shape=shape,
                batch_input_shape=(256, 256),
                ori_shape=tuple(arrays["inputs/original_sizes"][i].tolist()),
                scale_factor=(1.0, 1.0),
            )
        )
        if targets is not None:
            boxes = tensor(arrays[f"{targets}/targets/img{i}/boxes"])
            sample.gt_instances = InstanceData(
                bboxes=corners(boxes) * torch.tensor([shape[1], shape[0]] * 2),
                labels=tensor(arrays[f"{targets}/targets/img{i}/labels"]),
            )
        found.append(sample)
    return found


def corners(boxes):
    return torch.cat([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2], 1)
