"""Deformable DETR (two-stage, refined) on PE Spatial B/16 for COCO, 50 epochs: a reference row.

Paper:    Deformable DETR (arXiv:2010.04159), mmdet's own detector with its published settings
          (configs/deformable_detr): 300 queries, one-to-one matching, 50 epochs, drop at 40.
          It is DETA without one-to-many assignment and proposal NMS. Encoder, canvas, augmentation
          and layer-wise decay are those of dino_pe_b16_coco_12ep.py; lr is 1e-4 for 16 images,
          which is mmdet's 2e-4 for 32.
Data:     COCO 2017: python tools/prepare_data.py coco DIR
Command:  torchrun --nproc-per-node 8 tools/train.py \\
              configs/detection/deformable_detr_pe_b16_coco_50ep.py --launcher pytorch
Cost:     8 GPUs x 2 images.
Expected: not measured yet.
"""

_base_ = ["./dino_pe_b16_coco_12ep.py"]
protocol = dict(id="coco-detection-deformable-detr-b16-50ep")

num_queries, max_detections = 300, 100
deformable = dict(embed_dims="$width", num_levels="$num_levels", dropout=0.1)
ffn = dict(embed_dims="$width", feedforward_channels=1024, ffn_drop=0.1)
model = dict(
    _delete_=True,
    type="DeformableDETR",
    num_queries="$num_queries",
    num_feature_levels="$num_levels",
    with_box_refine=True,
    as_two_stage=True,
    data_preprocessor=dict(
        type="DetDataPreprocessor",
        mean="$pixel_mean",
        std="$pixel_std",
        bgr_to_rgb=True,
        pad_size_divisor="$canvas",
    ),
    backbone=dict(
        type="DenseBackbone",
        encoder="$encoder",
        weights="$weights",
        amp_dtype="$amp_dtype",
        encoder_options=dict(
            patch_size=16,
            image_size=512,
            cls_token=False,
            window_size=32,
            global_blocks="$global_blocks",
            pos_embed="tile",
            rope_grid=32,
            drop_path_rate="$drop_path_rate",
            drop_path_schedule="linear",
        ),
    ),
    neck=dict(
        type="SimplePyramid",
        in_channels="$encoder.embed_dim",
        out_channels="$width",
        scales="$pyramid_scales",
        num_extra_levels="$num_extra_levels",
    ),
    encoder=dict(num_layers=6, layer_cfg=dict(self_attn_cfg=deformable, ffn_cfg=ffn)),
    decoder=dict(
        num_layers=6,
        return_intermediate=True,
        layer_cfg=dict(
            self_attn_cfg=dict(embed_dims="$width", num_heads=8, dropout=0.1),
            cross_attn_cfg=deformable,
            ffn_cfg=ffn,
        ),
        post_norm_cfg=None,
    ),
    positional_encoding=dict(num_feats=128, normalize=True, offset=-0.5, temperature=10000),
    bbox_head=dict(
        type="DeformableDETRHead",
        num_classes="$num_classes",
        sync_cls_avg_factor=True,
        embed_dims="$width",
        loss_cls=dict(type="FocalLoss", use_sigmoid=True, gamma=2.0, alpha=0.25, loss_weight=2.0),
        loss_bbox=dict(type="L1Loss", loss_weight=5.0),
        loss_iou=dict(type="GIoULoss", loss_weight=2.0),
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
    test_cfg=dict(max_per_img="$max_detections"),
)
del deformable, ffn
max_epochs, lr_drop = 50, 40
val_interval = 10
