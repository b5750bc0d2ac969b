"""A small DINO on a plain encoder: mmdet's own detector, sized for data sets of hundreds of images.

Source: DINO, arXiv:2203.03605, as mmdet implements it (configs/dino), with 2 + 2 layers, width 128
and 100 queries instead of 6 + 6, 256 and 900, on a SimplePyramid (ViTDet, arXiv:2203.16527).
"""

REQUIRED_dino_small = ("encoder", "weights", "num_classes")
default_scope = "mmdet"
num_queries = 100
width = 128
# Strides 16, 32 and 64. Finer levels find small objects better, but cost four times the tokens and
# learn more slowly from random weights: pyramid_scales=(2,1,0.5) num_extra_levels=0.
pyramid_scales, num_extra_levels = (1, 0.5), 1
num_levels = 3
num_dn_queries = 100
model = dict(
    type="DINO",
    num_queries="$num_queries",
    num_feature_levels="$num_levels",
    with_box_refine=True,
    as_two_stage=True,
    data_preprocessor=dict(
        type="DetDataPreprocessor",
        mean="$encoder.mean_255",
        std="$encoder.std_255",
        bgr_to_rgb=True,
        pad_size_divisor="$encoder.patch_size",
    ),
    backbone=dict(type="DenseBackbone", encoder="$encoder", weights="$weights"),
    neck=dict(
        type="SimplePyramid",
        in_channels="$encoder.embed_dim",
        out_channels="$width",
        scales="$pyramid_scales",
        num_extra_levels="$num_extra_levels",
    ),
    encoder=dict(
        num_layers=2,
        layer_cfg=dict(
            self_attn_cfg=dict(embed_dims="$width", num_levels="$num_levels", dropout=0.0),
            ffn_cfg=dict(embed_dims="$width", feedforward_channels=512, ffn_drop=0.0),
        ),
    ),
    decoder=dict(
        num_layers=2,
        return_intermediate=True,
        layer_cfg=dict(
            self_attn_cfg=dict(embed_dims="$width", num_heads=8, dropout=0.0),
            cross_attn_cfg=dict(embed_dims="$width", num_levels="$num_levels", dropout=0.0),
            ffn_cfg=dict(embed_dims="$width", feedforward_channels=512, ffn_drop=0.0),
        ),
        post_norm_cfg=None,
    ),
    positional_encoding=dict(num_feats=64, normalize=True, offset=0.0, temperature=20),
    bbox_head=dict(
        type="DINOHead",
        num_classes="$num_classes",
        sync_cls_avg_factor=True,
        embed_dims="$width",
        loss_cls=dict(type="FocalLoss", use_sigmoid=True, gamma=2.0, alpha=0.25, loss_weight=1.0),
        loss_bbox=dict(type="L1Loss", loss_weight=5.0),
        loss_iou=dict(type="GIoULoss", loss_weight=2.0),
    ),
    dn_cfg=dict(
        label_noise_scale=0.5,
        box_noise_scale=1.0,
        group_cfg=dict(dynamic=True, num_groups=None, num_dn_queries="$num_dn_queries"),
    ),
    train_cfg=dict(
        assigner=dict(
            type="HungarianAssigner",
            match_costs=[
                dict(type="FocalLossCost", weight=2.0),
                dict(type="BBoxL1Cost", weight=5.0, box_format="xywh"),
                dict(type="IoUCost", iou_mode="giou", weight=2.0),
            ],
        )
    ),
    test_cfg=dict(max_per_img="$num_queries"),
)
