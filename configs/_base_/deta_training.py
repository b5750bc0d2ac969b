"""How DETA on PE Spatial is trained: loading, augmentation, optimiser, schedule.

Source: perception_models @ 3e352cc, apps/detection/DETA_pe: Pillow images, AdamW (SGD in stage 4),
no warm-up, gradient norm clipped to 0.1, weight decay 1e-4 on every parameter, a tenth of the rate
for sampling offsets, one drop of the rate by 10. Step by step: docs/protocols/deta_pe_training.md.

Choices, where this differs:
- A picture is turned as its Exif entry says; there it is taken as it is stored.
- Boxes with a side under 1 px or an area of 0 are not trained on; there they are.
"""

REQUIRED_deta_training = (
    "dataset_type", "data_root", "train_json", "val_json", "train_images", "val_images", "canvas",
    "batch_size", "lr", "backbone_lr_mult", "layer_decay", "max_epochs", "lr_drop", "val_interval",
    "model",
)  # fmt: skip
custom_imports = dict(
    imports=["pe_dense.run.resume", "pe_dense.detection"], allow_failed_imports=False
)
data_facts = "pe_dense.detection.known_datasets:facts"
classes, num_classes = "$data.classes", "$data.num_classes"
data_check = "pe_dense.detection.coco_check:check_config"
train_dataloader = dict(
    batch_size="$batch_size",
    num_workers=4,
    drop_last=True,
    sampler=dict(type="DefaultSampler", shuffle=True),
    dataset=dict(
        type="$dataset_type",
        data_root="$data_root",
        ann_file="$train_json",
        data_prefix=dict(img="$train_images"),
        metainfo=dict(classes="$classes"),
        filter_cfg=dict(filter_empty_gt=False),  # images without objects are trained on
        pipeline=[
            dict(type="LoadImage", imdecode_backend="pillow"),
            dict(type="LoadAnnotations", with_bbox=True),
            dict(type="RandomFlip", prob=0.5),
            dict(type="DETAScaleJitter", canvas="$canvas"),
            dict(type="PackDetInputs"),
        ],
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=4,
    drop_last=False,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type="$dataset_type",
        data_root="$data_root",
        ann_file="$val_json",
        data_prefix=dict(img="$val_images"),
        metainfo=dict(classes="$classes"),
        test_mode=True,
        pipeline=[
            dict(type="LoadImage", imdecode_backend="pillow"),
            dict(type="DETAResize", canvas="$canvas"),
            dict(type="LoadAnnotations", with_bbox=True),
            dict(
                type="PackDetInputs",
                meta_keys=("img_id", "img_path", "ori_shape", "img_shape", "scale_factor"),
            ),
        ],
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type="CocoAP", ann_file="$data_root/$val_json")
test_evaluator = val_evaluator

optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr="$lr", betas=(0.9, 0.999), weight_decay=1e-4),
    clip_grad=dict(max_norm=0.1, norm_type=2),
    constructor="EncoderLayerDecay",
    paramwise_cfg=dict(
        layer_decay="$layer_decay",
        decay_norm_and_bias=True,
        custom_keys={
            "backbone.": dict(lr_mult="$backbone_lr_mult"),
            "sampling_offsets": dict(lr_mult=0.1),
        },
    ),
)
train_cfg = dict(type="EpochBasedTrainLoop", max_epochs="$max_epochs", val_interval="$val_interval")
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
param_scheduler = [
    dict(type="MultiStepLR", by_epoch=True, end="$max_epochs", milestones=["$lr_drop"], gamma=0.1)
]
