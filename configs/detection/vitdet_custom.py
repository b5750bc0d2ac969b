"""ViTDet Mask R-CNN on PE Spatial T/16 for your own images: boxes and masks of any classes.

Paper:    ViTDet (arXiv:2203.16527) on PE Spatial (arXiv:2504.13181), with small heads.
Data:     as in dino_custom.py, with a mask (polygons or run lengths) for every object. Data without
          masks are refused; boxes alone are trained with --cfg-options masks=False.
Command:  python tools/train.py configs/detection/vitdet_custom.py --cfg-options data_root=DIR
          python tools/test.py configs/detection/vitdet_custom.py work_dirs/vitdet_custom \\
              --cfg-options data_root=DIR
Cost:     as dino_custom.py, and about half as much again for the masks.
Expected: depends on the data; scores are AP of boxes, and mask_AP beside it.

Options and advice as in dino_custom.py; from random weights unless --weights says otherwise.
"""

_base_ = [
    "../_base_/runtime.py",
    "../_base_/own_data.py",
    "../_base_/own_training.py",
    "../_base_/vitdet.py",
]
protocol = dict(
    id="custom-instance",
    version=1,
    task="detection",
    dataset="$data.name",
    split="val",
    metric="AP",
    higher_is_better=True,
    own_annotations=dict(train="$data.train_sha256", val="$data.val_sha256", plan="$data.plan"),
)

encoder = "pe_spatial_t16_512"
weights = "random"
masks = True
layer, frozen = -1, False  # frozen: see tune
amp_dtype, grad_checkpointing = None, False
canvas = None  # pictures keep their shape
pixel_mean, pixel_std = "$encoder.mean_255", "$encoder.std_255"
strides, roi_strides = "$encoder.pyramid_strides", "$encoder.roi_strides"
width = 128
score_thr, max_per_img = 0.01, 100
model = dict(
    backbone=dict(tune="$tune"),
    data_preprocessor=dict(pad_mask="$masks", pad_size_divisor="$encoder.side_of_8_tokens"),
    neck=dict(out_channels="$width"),
    rpn_head=dict(num_convs=1, in_channels="$width", feat_channels="$width"),
    roi_head=dict(
        type="OptionalMaskRoIHead",
        with_masks="$masks",
        bbox_roi_extractor=dict(out_channels="$width"),
        bbox_head=dict(in_channels="$width", conv_out_channels="$width", fc_out_channels=256),
        mask_roi_extractor=dict(out_channels="$width"),
        mask_head=dict(num_convs=2, in_channels="$width", conv_out_channels="$width"),
    ),
    train_cfg=dict(
        rpn_proposal=dict(nms_pre=1000, max_per_img=300), rcnn=dict(sampler=dict(num=128))
    ),
    test_cfg=dict(rpn=dict(nms_pre=500, max_per_img=300)),
)
lr_factor = 1.25  # of the rate that suits DETA and DINO
backbone_lr_mult = 0.5
optim_wrapper = dict(clip_grad=dict(max_norm=10.0))
train_dataloader = dict(
    dataset=dict(
        pipeline=[
            dict(type="LoadImage"),
            dict(type="LoadObjects", with_mask="$masks"),
            dict(type="RandomFlip", prob="$flip_prob", direction="$flip_direction"),
            dict(type="RandomResize", scale="$image_scale", ratio_range="$shrink", keep_ratio=True),
            dict(type="PackDetInputs"),
        ]
    )
)
val_evaluator = dict(with_masks="$masks")
test_evaluator = val_evaluator
default_hooks = dict(checkpoint=dict(interval="$val_interval", by_epoch=False))
log_processor = dict(by_epoch=False)
