"""A small DETA on a plain encoder, sized for data sets of hundreds of images.

Source: DETA, arXiv:2212.06137, in the form of perception_models @ 3e352cc (apps/detection/DETA_pe),
with 2 + 2 layers, width 128, FFN 512 and 100 queries instead of 6 + 6, 256, 2048 and 900, and
without a fixed canvas: the encoder keeps its own positions.
"""

REQUIRED_deta_small = ("encoder", "weights", "num_classes")
default_scope = "mmdet"
num_queries = 100
width = 128
num_pos_feats = 64  # half the width
model = dict(
    type="DETA",
    num_queries="$num_queries",
    num_feature_levels=5,
    data_preprocessor=dict(
        type="DetDataPreprocessor",
        mean="$encoder.mean_255",
        std="$encoder.std_255",
        bgr_to_rgb=True,
        pad_size_divisor="$encoder.patch_size",
    ),
    backbone=dict(type="DenseBackbone", encoder="$encoder", weights="$weights"),
    neck=dict(type="DETAPyramid", in_channels="$encoder.embed_dim", out_channels="$width"),
    encoder=dict(
        num_layers=2,
        layer_cfg=dict(
            self_attn_cfg=dict(embed_dims="$width", num_levels=5, dropout=0.0),
            ffn_cfg=dict(embed_dims="$width", feedforward_channels=512, ffn_drop=0.0),
        ),
    ),
    decoder=dict(
        num_layers=2,
        return_intermediate=True,
        layer_cfg=dict(
            self_attn_cfg=dict(embed_dims="$width", num_heads=8, dropout=0.0),
            cross_attn_cfg=dict(embed_dims="$width", num_levels=5, dropout=0.0),
            ffn_cfg=dict(embed_dims="$width", feedforward_channels=512, ffn_drop=0.0),
        ),
        post_norm_cfg=None,
    ),
    positional_encoding=dict(
        num_feats="$num_pos_feats", normalize=True, offset=-0.5, temperature=10000
    ),
    bbox_head=dict(
        type="DETAHead",
        num_classes="$num_classes",
        embed_dims="$width",
        proposal_assigner=dict(type="PairAssigner", positive_iou=0.7, max_positives=128),
        loss_cls=dict(type="FocalLoss", use_sigmoid=True, gamma=2.0, alpha=0.25, loss_weight=1.0),
        loss_bbox=dict(type="L1Loss", loss_weight=5.0),
        loss_iou=dict(type="GIoULoss", loss_weight=2.0, eps=1e-9),
    ),
    train_cfg=dict(assigner=dict(type="PairAssigner", positive_iou=0.6, max_positives=0.25)),
    test_cfg=dict(nms_pre=10000, nms=dict(type="nms", iou_threshold=0.7), max_per_img=100),
)
