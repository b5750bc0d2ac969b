"""Semantic segmentation of a small data set: loading, augmentation, optimiser, schedule.

Source: the linear evaluation of DINOv2 (arXiv:2304.07193) on mmseg: random scale and crop, flip,
photometric distortion, AdamW.
"""

REQUIRED_segmentation = (
    "classes", "num_classes", "data_root", "train_images", "train_maps", "val_images", "val_maps",
    "reduce_zero_label", "image_scale", "ratio_range", "crop_size", "batch_size", "max_epochs",
    "val_interval", "lr", "weight_decay", "backbone_lr_mult", "layer_decay", "warmup_iters",
    "model",
)  # fmt: skip
custom_imports = dict(
    imports=["pe_dense.run.resume", "pe_dense.segmentation"], allow_failed_imports=False
)
default_scope = "mmseg"
data_check = "pe_dense.segmentation.map_check:check_config"
train_dataloader = dict(
    batch_size="$batch_size",
    num_workers=1,
    drop_last=True,
    sampler=dict(type="DefaultSampler", shuffle=True),
    dataset=dict(
        type="BaseSegDataset",
        data_root="$data_root",
        data_prefix=dict(img_path="$train_images", seg_map_path="$train_maps"),
        metainfo=dict(classes="$classes"),
        reduce_zero_label="$reduce_zero_label",
        pipeline=[
            dict(type="LoadImage"),
            dict(type="LoadAnnotations"),
            dict(
                type="RandomResize",
                scale="$image_scale",
                ratio_range="$ratio_range",
                keep_ratio=True,
            ),
            dict(type="RandomCrop", crop_size="$crop_size", cat_max_ratio=0.75),
            dict(type="RandomFlip", prob=0.5),
            dict(type="PhotoMetricDistortion"),
            dict(type="PackSegInputs"),
        ],
    ),
)
val_dataloader = dict(
    batch_size="$batch_size",
    num_workers=1,
    drop_last=False,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type="BaseSegDataset",
        data_root="$data_root",
        data_prefix=dict(img_path="$val_images", seg_map_path="$val_maps"),
        metainfo=dict(classes="$classes"),
        reduce_zero_label="$reduce_zero_label",
        test_mode=True,
        pipeline=[
            dict(type="LoadImage"),
            dict(type="Resize", scale="$image_scale", keep_ratio=True),
            dict(type="LoadAnnotations"),
            dict(type="PackSegInputs"),
        ],
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type="MeanIoU")
test_evaluator = val_evaluator
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr="$lr", betas=(0.9, 0.999), weight_decay="$weight_decay"),
    constructor="EncoderLayerDecay",
    paramwise_cfg=dict(
        layer_decay="$layer_decay",
        custom_keys={"backbone.": dict(lr_mult="$backbone_lr_mult")},
    ),
)
train_cfg = dict(type="EpochBasedTrainLoop", max_epochs="$max_epochs", val_interval="$val_interval")
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
param_scheduler = [
    dict(type="LinearLR", start_factor=1e-6, by_epoch=False, begin=0, end="$warmup_iters"),
    dict(
        type="PolyLR",
        power=1.0,
        eta_min=0.0,
        by_epoch=True,
        begin=0,
        end="$max_epochs",
        convert_to_iter_based=True,
    ),
]
