"""ATSS on a plain encoder: a dense one-stage detector that learns fast from random weights.

Source: ATSS, arXiv:1912.02424, as mmdet implements it (configs/atss), with 2 instead of 4
convolutions in the head, a width of 96, and three pyramid levels (SimplePyramid: ViTDet,
arXiv:2203.16527) instead of five.
"""

REQUIRED_atss_small = ("encoder", "weights", "num_classes")
default_scope = "mmdet"
width = 96
block = -1  # the pyramid is built on the output of this encoder block
strides = [8, 16, 32]
pyramid_scales, num_extra_levels = (2, 1, 0.5), 0
model = dict(
    type="ATSS",
    data_preprocessor=dict(
        type="DetDataPreprocessor",
        mean="$encoder.mean_255",
        std="$encoder.std_255",
        bgr_to_rgb=True,
        pad_size_divisor="$encoder.patch_size",
    ),
    backbone=dict(
        type="DenseBackbone", encoder="$encoder", weights="$weights", out_indices=["$block"]
    ),
    neck=dict(
        type="SimplePyramid",
        in_channels="$encoder.embed_dim",
        out_channels="$width",
        scales="$pyramid_scales",
        num_extra_levels="$num_extra_levels",
    ),
    bbox_head=dict(
        type="ATSSHead",
        num_classes="$num_classes",
        in_channels="$width",
        feat_channels="$width",
        stacked_convs=2,
        anchor_generator=dict(
            type="AnchorGenerator",
            ratios=[1.0],
            octave_base_scale=4,  # anchors of 32, 64 and 128 px
            scales_per_octave=1,
            strides="$strides",
        ),
        bbox_coder=dict(
            type="DeltaXYWHBBoxCoder",
            target_means=[0.0, 0.0, 0.0, 0.0],
            target_stds=[0.1, 0.1, 0.2, 0.2],
        ),
        loss_cls=dict(type="FocalLoss", use_sigmoid=True, gamma=2.0, alpha=0.25, loss_weight=1.0),
        loss_bbox=dict(type="GIoULoss", loss_weight=2.0),
        loss_centerness=dict(type="CrossEntropyLoss", use_sigmoid=True, loss_weight=1.0),
    ),
    train_cfg=dict(
        assigner=dict(type="ATSSAssigner", topk=9), allowed_border=-1, pos_weight=-1, debug=False
    ),
    test_cfg=dict(
        nms_pre=1000,
        min_bbox_size=0,
        score_thr=0.01,
        nms=dict(type="nms", iou_threshold=0.6),
        max_per_img=100,
    ),
)
