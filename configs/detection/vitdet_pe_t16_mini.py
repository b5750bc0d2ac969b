"""ViTDet Mask R-CNN on PE Spatial T/16 for the mini world, from random weights.

Paper:    ViTDet (arXiv:2203.16527) on PE Spatial (arXiv:2504.13181), two encoder blocks.
Data:     python tools/prepare_data.py mini
Command:  python tools/train.py configs/detection/vitdet_pe_t16_mini.py
          python tools/test.py configs/detection/vitdet_pe_t16_mini.py work_dirs/vitdet_pe_t16_mini
Cost:     5 min on 2 CPU cores.
Expected: not measured yet.
"""

_base_ = [
    "../_base_/runtime.py",
    "../_base_/coco_small.py",
    "../_base_/vitdet.py",
    "../_base_/datasets/mini_detection.py",
]
protocol = dict(
    id="mini-instance",
    version=1,
    task="detection",
    dataset="mini",
    split="val",
    metric="AP",
    higher_is_better=True,
    # The world of seed 0 in its default size; any other is another protocol.
    annotations_sha256="447be409ac2e34bc72610e2e774a9cc3123af30330ba9e0a774618baf57e2133",
)

encoder = "pe_spatial_t16_512"
weights = "random"
layer, frozen = 1, False
amp_dtype, grad_checkpointing = None, False
canvas = 256
pixel_mean, pixel_std = "$encoder.mean_255", "$encoder.std_255"
width = 96
model = dict(
    neck=dict(out_channels="$width"),
    rpn_head=dict(
        num_convs=1,
        in_channels="$width",
        feat_channels="$width",
        anchor_generator=dict(scales=[6]),
    ),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels="$width"),
        bbox_head=dict(
            in_channels="$width",
            conv_out_channels="$width",
            fc_out_channels=256,
        ),
        mask_roi_extractor=dict(out_channels="$width"),
        mask_head=dict(num_convs=1, in_channels="$width", conv_out_channels="$width"),
    ),
    train_cfg=dict(
        rpn_proposal=dict(nms_pre=500, max_per_img=200), rcnn=dict(sampler=dict(num=64))
    ),
    test_cfg=dict(rpn=dict(nms_pre=500, max_per_img=200)),
)
score_thr, max_per_img = 0.01, 100
max_epochs = 7
batch_size = 4
lr = 1e-3
backbone_lr_mult, layer_decay = 1.0, 1.0
val_interval = 7
optim_wrapper = dict(clip_grad=dict(max_norm=10.0))
train_dataloader = dict(
    dataset=dict(
        pipeline=[
            dict(type="LoadImage"),
            dict(type="LoadPolygons", with_bbox=True, with_mask=True),
            dict(type="RandomFlip", prob="$flip_prob", direction="$flip_direction"),
            dict(type="Resize", scale="$image_scale", keep_ratio=True),
            dict(type="PackDetInputs"),
        ]
    )
)
val_evaluator = dict(with_masks=True)
test_evaluator = dict(with_masks=True)
