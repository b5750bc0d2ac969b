"""Depth of a person's own images: loading, augmentation, optimiser, schedule.

What the folder holds, the unit and the range of its depth are found by looking
(pe_dense/data/checks/own_depths.py; layouts and options in docs/own_data.md), and image side,
batch, steps and learning rate follow from it and the machine (pe_dense/data/own_schedule.py); all
is printed before the training, and each can be given.

The short side of an image is image_side; training takes crops of that, as there is no other scale
that keeps metres. Scoring takes whole images and is at their own size.
"""

REQUIRED_own_depths = ("encoder", "weights", "layers", "lr_factor", "model.decode_head")
custom_imports = dict(imports=["pe_dense.run.resume", "pe_dense.depth"], allow_failed_imports=False)
default_scope = "mmseg"
data_root = None  # --cfg-options data_root=DIR
images, depths = None, None  # folders below data_root; None is found by looking
depth_scale = "$data.depth_scale"  # numbers of the maps that are a metre: 1000 for millimetres
min_depth, max_depth = "$data.min_depth", "$data.max_depth"  # metres
split, split_seed, split_group = None, 0, None  # 0.2 where the folder has no parts of its own
data_facts = "pe_dense.data.checks.own_depths:facts"
data_check = "pe_dense.depth.own_data:check_config"
found = "$data.found"

planned_for = "$data.planned_for"  # cpu or gpu
image_side, batch_size = "$data.image_side", "$data.batch_size"
max_iters, val_interval = "$data.max_iters", "$data.val_interval"
warmup_iters, lr = "$data.warmup_iters", "$data.lr"
plan = "$planned_for, side $image_side, batch $batch_size, steps $max_iters, rate $lr"
tune = "frozen"  # or lora, lora=RANK, layers=N, full: how much of the encoder is trained
backbone_lr_mult, layer_decay = 0.1, 0.8  # of an encoder that is trained
weight_decay = 1e-2
flip_prob = 0.5
num_workers = 1

own_set = dict(
    type="OwnDepthMaps",
    data_root="$data_root",
    ann_file="$data.list",
    depth_scale="$data.steps_per_metre",
)
train_dataloader = dict(
    batch_size="$batch_size",
    num_workers="$num_workers",
    drop_last=True,
    sampler=dict(type="InfiniteSampler", shuffle=True),
    dataset=dict(
        **own_set,
        part="train",
        pipeline=[
            dict(type="LoadImage"),
            dict(type="LoadDepth"),
            dict(type="Resize", scale=(99_999_999, "$image_side"), keep_ratio=True),
            dict(type="RandomFlip", prob="$flip_prob"),
            dict(type="DepthRandomCrop", crop_size=("$image_side", "$image_side")),
            dict(type="BrightnessJitter", prob=0.5, peak=255.0),
            dict(type="PackDepthInputs"),
        ],
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers="$num_workers",
    drop_last=False,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        **own_set,
        part="val",
        test_mode=True,
        pipeline=[
            dict(type="LoadImage"),
            dict(type="Resize", scale=(99_999_999, "$image_side"), keep_ratio=True),
            dict(type="LoadDepth"),
            dict(type="PackDepthInputs"),
        ],
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type="DepthErrors", min_depth="$min_depth", max_depth="$max_depth")
test_evaluator = val_evaluator
model = dict(
    type="DenseDepthEstimator",
    data_preprocessor=dict(
        type="SegDataPreProcessor",
        mean="$encoder.mean_255",
        std="$encoder.std_255",
        bgr_to_rgb=True,
        pad_val=0,
        seg_pad_val=0,  # depth that is not annotated
        size=("$image_side", "$image_side"),
        test_cfg=dict(size_divisor="$encoder.patch_size"),
    ),
    backbone=dict(
        type="DenseBackbone",
        encoder="$encoder",
        weights="$weights",
        out_indices="$layers",
        tune="$tune",
        norm=False,
    ),
    test_cfg=dict(mode="whole"),
)
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
    dict(
        type="CosineAnnealingLR",
        eta_min=0.0,
        by_epoch=False,
        begin="$warmup_iters",
        end="$max_iters",
    ),
]
