"""Monocular depth through mmseg: loading, augmentation, optimiser, schedule; without the head.

Source: the recipe of BTS (arXiv:1907.10326) and zhyever/Monocular-Depth-Estimation-Toolbox @
d8aff50 that DINOv2 (arXiv:2304.07193) uses: rotation by up to 2.5 degrees, flip, random crop,
gamma, brightness and colour, AdamW, metric per image and then the mean. As in mmcv 1, the cosine
begins at 0 and the warm-up is a factor on it: 12,800 of 38,400 iterations end at 0.75 of the rate.

The config that uses this defines encoder, weights, layers, frozen, dataset_type, data_root,
train_list, val_list, image_folder, depth_folder, train_cut, val_cut (lists of transforms before
the augmentation and before packing: NYUTrainCrop, KBCrop or none), crop_size, brightness,
min_depth, max_depth, score_crop, batch_size, max_iters, val_interval, lr, weight_decay,
backbone_lr_mult, layer_decay and warmup_iters, and model.decode_head. Images are scored at their
own size, max_depth in metres.
"""

custom_imports = dict(imports=["pe_dense.run.resume", "pe_dense.depth"], allow_failed_imports=False)
default_scope = "mmseg"
num_workers = 4
data_check = "pe_dense.depth.depth_check:check_config"
model = dict(
    type="DenseDepthEstimator",
    data_preprocessor=dict(
        type="SegDataPreProcessor",
        mean="$encoder.mean_255",
        std="$encoder.std_255",
        bgr_to_rgb=True,
        pad_val=0,
        seg_pad_val=0,  # depth that is not annotated
        size="$crop_size",
        test_cfg=dict(size_divisor="$encoder.patch_size"),
    ),
    backbone=dict(
        type="DenseBackbone",
        encoder="$encoder",
        weights="$weights",
        out_indices="$layers",
        frozen="$frozen",
        norm=False,
    ),
    test_cfg=dict(mode="whole"),
)
train_dataloader = dict(
    batch_size="$batch_size",
    num_workers="$num_workers",
    drop_last=True,
    sampler=dict(type="InfiniteSampler", shuffle=True),
    dataset=dict(
        type="$dataset_type",
        data_root="$data_root",
        ann_file="$train_list",
        data_prefix=dict(img_path="$image_folder", depth_map_path="$depth_folder"),
        pipeline=[
            dict(type="LoadImage"),
            dict(type="LoadDepth"),
            dict(type="Compose", transforms="$train_cut"),
            dict(type="RotateDepth", prob=0.5, degree=2.5),
            dict(type="RandomFlip", prob=0.5),
            dict(type="DepthRandomCrop", crop_size="$crop_size"),
            dict(type="BrightnessJitter", prob=0.5, brightness="$brightness"),
            dict(type="PackDepthInputs"),
        ],
    ),
)
val_dataloader = dict(
    batch_size="$batch_size",
    num_workers="$num_workers",
    drop_last=False,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type="$dataset_type",
        data_root="$data_root",
        ann_file="$val_list",
        data_prefix=dict(img_path="$image_folder", depth_map_path="$depth_folder"),
        test_mode=True,
        pipeline=[
            dict(type="LoadImage"),
            dict(type="LoadDepth"),
            dict(type="Compose", transforms="$val_cut"),
            dict(type="PackDepthInputs"),
        ],
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(
    type="DepthErrors", min_depth="$min_depth", max_depth="$max_depth", crop="$score_crop"
)
test_evaluator = val_evaluator
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr="$lr", betas=(0.9, 0.999), weight_decay="$weight_decay"),
    clip_grad=dict(max_norm=35.0),
    constructor="EncoderLayerDecay",
    paramwise_cfg=dict(
        layer_decay="$layer_decay",
        custom_keys={"backbone.": dict(lr_mult="$backbone_lr_mult")},
    ),
)
train_cfg = dict(type="IterBasedTrainLoop", max_iters="$max_iters", val_interval="$val_interval")
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
param_scheduler = [
    dict(type="LinearLR", start_factor=1e-3, by_epoch=False, begin=0, end="$warmup_iters"),
    dict(type="CosineAnnealingLR", eta_min=0.0, by_epoch=False, begin=0, end="$max_iters"),
]
