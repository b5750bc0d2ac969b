"""DETA as PE Spatial uses it: five levels, 6 + 6 layers, 900 queries, a fixed square canvas.

Source: DETA, arXiv:2212.06137; perception_models @ 3e352cc, apps/detection/DETA_pe. Choices, where
this differs:
- Heads have one channel per class instead of one per raw category id (80, not 91, for COCO).
- Soft-NMS keeps classes apart exactly; there by an offset in float32, which moves scores by 3e-5.

model.backbone.encoder_options may be set.
"""

REQUIRED_deta = ("encoder", "weights", "num_classes", "canvas", "amp_dtype", "grad_checkpointing")
default_scope = "mmdet"
num_queries = 900
# ImageNet's, not PE's own 0.5.
pixel_mean, pixel_std = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]
model = dict(
    type="DETA",
    canvas="$canvas",
    num_queries="$num_queries",
    num_feature_levels=5,
    data_preprocessor=dict(
        type="DetDataPreprocessor",
        mean="$pixel_mean",
        std="$pixel_std",
        bgr_to_rgb=True,
        pad_size_divisor="$canvas",  # every image is smaller, so this pads to the canvas
        pad_value=0,
    ),
    backbone=dict(
        type="DenseBackbone",
        encoder="$encoder",
        weights="$weights",
        amp_dtype="$amp_dtype",
        grad_checkpointing="$grad_checkpointing",
    ),
    neck=dict(type="DETAPyramid", in_channels="$encoder.embed_dim", out_channels=256),
    encoder=dict(
        num_layers=6,
        layer_cfg=dict(
            self_attn_cfg=dict(embed_dims=256, num_levels=5, dropout=0.0),
            ffn_cfg=dict(embed_dims=256, feedforward_channels=2048, ffn_drop=0.0),
        ),
    ),
    decoder=dict(
        num_layers=6,
        return_intermediate=True,
        layer_cfg=dict(
            self_attn_cfg=dict(embed_dims=256, num_heads=8, dropout=0.0),
            cross_attn_cfg=dict(embed_dims=256, num_levels=5, dropout=0.0),
            ffn_cfg=dict(embed_dims=256, feedforward_channels=2048, ffn_drop=0.0),
        ),
        post_norm_cfg=None,
    ),
    positional_encoding=dict(num_feats=128, normalize=True, offset=-0.5, temperature=10000),
    bbox_head=dict(
        type="DETAHead",
        num_classes="$num_classes",
        embed_dims=256,
        proposal_assigner=dict(type="PairAssigner", positive_iou=0.7, max_positives=128),
        loss_cls=dict(type="FocalLoss", use_sigmoid=True, gamma=2.0, alpha=0.25, loss_weight=1.0),
        loss_bbox=dict(type="L1Loss", loss_weight=5.0),
        loss_iou=dict(type="GIoULoss", loss_weight=2.0, eps=1e-9),
    ),
    train_cfg=dict(assigner=dict(type="PairAssigner", positive_iou=0.6, max_positives=0.25)),
    test_cfg=dict(nms_pre=10000, nms=dict(type="nms", iou_threshold=0.7), max_per_img=100),
)
