"""Segmentation of a person's own images: loading, augmentation, optimiser, schedule.

What the folder holds is found by looking (pe_dense/data/checks/own_maps.py; layouts and options in
docs/own_data.md), and image side, batch, steps and learning rate follow from it and the machine
(pe_dense/data/own_schedule.py); all is printed before the training, and each can be given.

The short side of an image is image_side; training takes random scales and crops of that, scoring
whole images.
"""

REQUIRED_own_maps = ("encoder", "weights", "layers", "lr_factor", "model.decode_head")
custom_imports = dict(
    imports=["pe_dense.run.resume", "pe_dense.segmentation"], allow_failed_imports=False
)
default_scope = "mmseg"
data_root = None  # --cfg-options data_root=DIR
# Folders and files below data_root; None is found by looking.
images, masks, names_file = None, None, None
unlabelled = None  # labels or names that are no class: [0] or [sky]; None: by the rules
split, split_seed, split_group = None, 0, None  # 0.2 where the folder has no parts of its own
data_facts = "pe_dense.data.checks.own_maps:facts"
data_check = "pe_dense.segmentation.own_data:check_config"
classes, num_classes = "$data.classes", "$data.num_classes"
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
ratio_range = (0.5, 2.0)
num_workers = 1

own_set = dict(
    type="OwnLabelMaps",
    data_root="$data_root",
    ann_file="$data.list",
    metainfo=dict(classes="$classes", numbers="$data.label_numbers"),  # in the masks as they are
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
            dict(type="LoadAnnotations"),
            dict(
                type="RandomResize",
                scale=(99_999_999, "$image_side"),
                ratio_range="$ratio_range",
                keep_ratio=True,
            ),
            dict(type="RandomCrop", crop_size=("$image_side", "$image_side"), cat_max_ratio=0.75),
            dict(type="RandomFlip", prob="$flip_prob"),
            dict(type="PhotoMetricDistortion"),
            dict(type="PackSegInputs"),
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
            dict(type="LoadAnnotations"),
            dict(type="PackSegInputs"),
        ],
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type="MeanIoU")
test_evaluator = val_evaluator
model = dict(
    type="DenseSegmentor",
    data_preprocessor=dict(
        type="SegDataPreProcessor",
        mean="$encoder.mean_255",
        std="$encoder.std_255",
        bgr_to_rgb=True,
        pad_val=0,
        seg_pad_val=255,
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
        center_pad=True,
    ),
    test_cfg=dict(mode="whole"),
)
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr="$lr", betas=(0.9, 0.999), weight_decay="$weight_decay"),
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
        type="PolyLR",
        power=1.0,
        eta_min=0.0,
        by_epoch=False,
        begin="$warmup_iters",
        end="$max_iters",
    ),
]
