"""Mask R-CNN on a plain encoder, as ViTDet builds it and PE trains it.

Source: ViTDet, arXiv:2203.16527; perception_models @ 3e352cc, apps/detection/detectron2_pe, and
detectron2 @ 02b5c4e (mask_rcnn_vitdet). Channel norms (eps 1e-6) in pyramid, box and mask head,
two convolutions in the RPN, every object has an anchor there but not in the second stage, weights
begin as there, pixels normalised by 127.
Deviation: the RPN has a ReLU behind the last of its convolutions too, as mmdet's always has; it is
applied twice to the same values, which changes nothing.

model.backbone.encoder_options may be set.
"""

REQUIRED_vitdet = (
    "encoder", "weights", "num_classes", "canvas", "score_thr", "max_per_img", "amp_dtype",
    "grad_checkpointing", "frozen", "layer",
)  # fmt: skip
default_scope = "mmdet"
pixel_mean, pixel_std = [127.0] * 3, [127.0] * 3
strides, roi_strides = [4, 8, 16, 32, 64], [4, 8, 16, 32]  # of a patch of 16
model = dict(
    type="MaskRCNN",
    data_preprocessor=dict(
        type="DetDataPreprocessor",
        mean="$pixel_mean",
        std="$pixel_std",
        bgr_to_rgb=True,
        pad_mask=True,
        pad_size_divisor="$canvas",  # padded after normalisation, always to the whole canvas
    ),
    backbone=dict(
        type="DenseBackbone",
        encoder="$encoder",
        weights="$weights",
        out_indices=["$layer"],
        frozen="$frozen",
        amp_dtype="$amp_dtype",
        grad_checkpointing="$grad_checkpointing",
    ),
    neck=dict(type="SimplePyramid", in_channels="$encoder.embed_dim", out_channels=256),
    rpn_head=dict(
        type="RPNHead",
        num_convs=2,
        in_channels=256,
        feat_channels=256,
        anchor_generator=dict(
            type="AnchorGenerator",
            scales=[8],
            ratios=[0.5, 1.0, 2.0],
            strides="$strides",
        ),
        bbox_coder=dict(
            type="DeltaXYWHBBoxCoder",
            target_means=[0.0, 0.0, 0.0, 0.0],
            target_stds=[1.0, 1.0, 1.0, 1.0],
        ),
        loss_cls=dict(type="CrossEntropyLoss", use_sigmoid=True, loss_weight=1.0),
        loss_bbox=dict(type="L1Loss", loss_weight=1.0),
    ),
    roi_head=dict(
        type="StandardRoIHead",
        bbox_roi_extractor=dict(
            type="SingleRoIExtractor",
            roi_layer=dict(type="RoIAlign", output_size=7, sampling_ratio=0),
            out_channels=256,
            featmap_strides="$roi_strides",
        ),
        bbox_head=dict(
            type="Shared4Conv1FCBBoxHead",
            in_channels=256,
            conv_out_channels=256,
            fc_out_channels=1024,
            roi_feat_size=7,
            num_classes="$num_classes",
            norm_cfg=dict(type="ChannelNorm", eps=1e-6),
            bbox_coder=dict(
                type="DeltaXYWHBBoxCoder",
                target_means=[0.0, 0.0, 0.0, 0.0],
                target_stds=[0.1, 0.1, 0.2, 0.2],
            ),
            reg_class_agnostic=False,
            loss_cls=dict(type="CrossEntropyLoss", use_sigmoid=False, loss_weight=1.0),
            loss_bbox=dict(type="L1Loss", loss_weight=1.0),
            init_cfg=[  # mmdet's, but for shared_fcs
                dict(type="Normal", std=0.01, override=dict(name="fc_cls")),
                dict(type="Normal", std=0.001, override=dict(name="fc_reg")),
                dict(type="Caffe2Xavier", override=dict(name="shared_fcs")),
            ],
        ),
        mask_roi_extractor=dict(
            type="SingleRoIExtractor",
            roi_layer=dict(type="RoIAlign", output_size=14, sampling_ratio=0),
            out_channels=256,
            featmap_strides="$roi_strides",
        ),
        mask_head=dict(
            type="FaintMaskHead",
            num_convs=4,
            in_channels=256,
            conv_out_channels=256,
            num_classes="$num_classes",
            norm_cfg=dict(type="ChannelNorm", eps=1e-6),
            loss_mask=dict(type="CrossEntropyLoss", use_mask=True, loss_weight=1.0),
        ),
    ),
    train_cfg=dict(
        rpn=dict(
            assigner=dict(
                type="BestAnchorAssigner",
                pos_iou_thr=0.7,
                neg_iou_thr=0.3,
                ignore_iof_thr=-1,
            ),
            sampler=dict(
                type="RandomSampler",
                num=256,
                pos_fraction=0.5,
                neg_pos_ub=-1,
                add_gt_as_proposals=False,
            ),
            allowed_border=-1,
            pos_weight=-1,
            debug=False,
        ),
        rpn_proposal=dict(
            nms_pre=2000, max_per_img=1000, nms=dict(type="nms", iou_threshold=0.7), min_bbox_size=0
        ),
        rcnn=dict(
            assigner=dict(
                type="MaxIoUAssigner",
                pos_iou_thr=0.5,
                neg_iou_thr=0.5,
                min_pos_iou=0.5,
                match_low_quality=False,
                ignore_iof_thr=-1,
            ),
            sampler=dict(
                type="RandomSampler",
                num=512,
                pos_fraction=0.25,
                neg_pos_ub=-1,
                add_gt_as_proposals=True,
            ),
            mask_size=28,
            pos_weight=-1,
            debug=False,
        ),
    ),
    test_cfg=dict(
        rpn=dict(
            nms_pre=1000, max_per_img=1000, nms=dict(type="nms", iou_threshold=0.7), min_bbox_size=0
        ),
        rcnn=dict(
            score_thr="$score_thr",
            nms=dict(type="nms", iou_threshold=0.5),
            max_per_img="$max_per_img",
            mask_thr_binary=0.5,
        ),
    ),
)
