"""Box detection on a small COCO-format data set: loading, augmentation, optimiser, schedule."""

REQUIRED_coco_small = (
    "classes", "num_classes", "data_root", "train_images", "val_images", "image_scale",
    "train_scales", "flip_prob", "flip_direction", "batch_size", "max_epochs", "val_interval", "lr",
    "backbone_lr_mult", "layer_decay", "model",
)  # fmt: skip
custom_imports = dict(
    imports=["pe_dense.run.resume", "pe_dense.detection"], allow_failed_imports=False
)
data_check = "pe_dense.detection.coco_check:check_config"

dataset_type = "CocoDataset"
train_dataloader = dict(
    batch_size="$batch_size",
    num_workers=1,
    sampler=dict(type="DefaultSampler", shuffle=True),
    dataset=dict(
        type="$dataset_type",
        data_root="$data_root",
        ann_file="annotations/train.json",
        data_prefix=dict(img="$train_images"),
        metainfo=dict(classes="$classes"),
        filter_cfg=dict(filter_empty_gt=False),
        pipeline=[
            dict(type="LoadImage"),
            dict(type="LoadAnnotations", with_bbox=True),
            dict(type="RandomFlip", prob="$flip_prob", direction="$flip_direction"),
            dict(
                type="RandomChoiceResize",
                resize_type="Resize",
                scales="$train_scales",
                keep_ratio=True,
            ),
            dict(type="PackDetInputs"),
        ],
    ),
)
val_dataloader = dict(
    batch_size="$batch_size",
    num_workers=1,
    drop_last=False,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type="$dataset_type",
        data_root="$data_root",
        ann_file="annotations/val.json",
        data_prefix=dict(img="$val_images"),
        metainfo=dict(classes="$classes"),
        test_mode=True,
        pipeline=[
            dict(type="LoadImage"),
            dict(type="Resize", scale="$image_scale", keep_ratio=True),
            dict(type="LoadAnnotations", with_bbox=True),
            dict(
                type="PackDetInputs",
                meta_keys=("img_id", "img_path", "ori_shape", "img_shape", "scale_factor"),
            ),
        ],
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type="CocoAP", ann_file="$data_root/annotations/val.json")
test_evaluator = val_evaluator

optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr="$lr", weight_decay=1e-4),
    clip_grad=dict(max_norm=0.1, norm_type=2),
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
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=100),
    dict(
        type="CosineAnnealingLR",
        eta_min_ratio=0.01,
        by_epoch=True,
        begin=0,
        end="$max_epochs",
        T_max="$max_epochs",
        convert_to_iter_based=True,
    ),
]
