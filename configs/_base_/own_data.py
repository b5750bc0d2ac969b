"""Box detection on a person's own COCO-format folder: loading, augmentation, optimiser, schedule.

Which files the folder has, its classes and their number are found by looking
(pe_dense/data/checks/coco_folder.py); each can be given. Image size, batch, steps and learning rate
follow from the number of images and the device (pe_dense/data/own_schedule.py), are printed before
the run, and each can be set.
"""

REQUIRED_own_data = ("encoder", "weights", "model.backbone.tune")
custom_imports = dict(
    imports=["pe_dense.run.resume", "pe_dense.detection", "pe_dense.data.holdout"],
    allow_failed_imports=False,
)
data_root = None  # --cfg-options data_root=DIR
# Below data_root; None is found by looking.
train_json, val_json = None, None
train_images, val_images = None, None
data_facts = "pe_dense.data.checks.coco_folder:facts"
data_check = "pe_dense.detection.coco_check:check_config"
classes, num_classes = "$data.classes", "$data.num_classes"

planned_for = "$data.planned_for"  # 'cpu' or 'gpu'
image_scale = ("$data.image_side", "$data.image_side")  # no side is longer than this
shrink = (0.75, 1.0)  # training scales, as shares of image_scale
flip_prob, flip_direction = 0.5, "horizontal"
batch_size = "$data.batch_size"
max_iters, val_interval = "$data.max_iters", "$data.val_interval"
warmup_iters, lr = "$data.warmup_iters", "$data.lr"
tune = "full"  # or frozen, lora, lora=RANK, layers=N: how much of the encoder is trained
backbone_lr_mult, layer_decay = 0.25, 1.0

dataset_type = "CocoDataset"
train_dataloader = dict(
    batch_size="$batch_size",
    num_workers=1,
    sampler=dict(type="InfiniteSampler", shuffle=True),
    dataset=dict(
        type="$dataset_type",
        data_root="$data_root",
        ann_file="$data.train_json",
        data_prefix=dict(img="$data.train_images"),
        metainfo=dict(classes="$classes"),
        filter_cfg=dict(filter_empty_gt=False),
        pipeline=[
            dict(type="LoadImage"),
            dict(type="LoadAnnotations", with_bbox=True),
            dict(type="RandomFlip", prob="$flip_prob", direction="$flip_direction"),
            dict(type="RandomResize", scale="$image_scale", ratio_range="$shrink", keep_ratio=True),
            dict(type="PackDetInputs"),
        ],
    ),
)
val_dataloader = dict(
    batch_size=1,  # beside a larger image there would be more padding, which an encoder sees
    num_workers=1,
    drop_last=False,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type="$dataset_type",
        data_root="$data_root",
        ann_file="$data.val_json",
        data_prefix=dict(img="$data.val_images"),
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
val_evaluator = dict(type="CocoAP", ann_file="$data.val_file")
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
train_cfg = dict(type="IterBasedTrainLoop", max_iters="$max_iters", val_interval="$val_interval")
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end="$warmup_iters"),
    dict(
        type="CosineAnnealingLR",
        eta_min_ratio=0.01,
        by_epoch=False,
        begin=0,
        end="$max_iters",
        T_max="$max_iters",
    ),
]
