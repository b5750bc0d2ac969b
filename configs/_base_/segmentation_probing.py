"""Segmentation probes of every layer on published data: a holdout, 1,024 tokens a crop.

A crop and a sliding window have 32 x 32 tokens for every encoder: 448 px at patch 14, 512 at 16.
Layer, learning rate and weight decay are chosen on a tenth of the training images; the reported
split is scored once, with three seeds of the head.

The config that uses this defines dataset_type, data_root, img_suffix, seg_map_suffix,
reduce_zero_label, train_images, train_maps, train_list, val_images, val_maps, val_list (see
segmentation_data.py), short_side and max_epochs.
"""

custom_imports = dict(
    imports=["pe_dense.run.resume", "pe_dense.probing", "pe_dense.segmentation"],
    allow_failed_imports=False,
)
default_scope = "mmseg"
select_on = "holdout"
holdout_share = 0.1
allow_absent_classes = False
data_facts = "pe_dense.segmentation.known_datasets:facts"
classes, num_classes = "$data.classes", "$data.num_classes"
data_check = "pe_dense.segmentation.known_datasets:check_config"
task = "segmentation"
sources = "all"
lrs, weight_decays, seeds = [1e-2, 3e-3, 1e-3, 3e-4], [1e-3], [0, 1, 2]
crop_size = ("$encoder.side_of_32_tokens", "$encoder.side_of_32_tokens")
batch_size = 16
warmup_iters = 1_500
num_workers = 8
model = dict(
    type="LayerProbe",
    backbone=dict(type="DenseBackbone", encoder="$encoder", weights="$weights", norm=False),
    encoder_depth="$encoder.depth",
    sources="$sources",
    task="$task",
    lrs="$lrs",
    weight_decays="$weight_decays",
    seeds="$seeds",
    data_preprocessor=dict(
        type="SegDataPreProcessor",
        mean="$encoder.mean_255",
        std="$encoder.std_255",
        bgr_to_rgb=True,
        pad_val=0,
        seg_pad_val=255,
        size="$crop_size",
        test_cfg=dict(size_divisor="$encoder.patch_size"),
    ),
    task_options=dict(num_classes="$num_classes"),
    test_cfg=dict(mode="slide", crop_size="$crop_size", stride=2 / 3),
)
train_set = dict(
    type="$dataset_type",
    data_root="$data_root",
    data_prefix=dict(img_path="$train_images", seg_map_path="$train_maps"),
    ann_file="$train_list",
    img_suffix="$img_suffix",
    seg_map_suffix="$seg_map_suffix",
    reduce_zero_label="$reduce_zero_label",
)
test_pipeline = [
    dict(type="LoadImage"),
    dict(type="Resize", scale=(99_999_999, "$short_side"), keep_ratio=True),
    dict(type="LoadAnnotations"),
    dict(type="PackSegInputs"),
]
train_dataloader = dict(
    batch_size="$batch_size",
    num_workers="$num_workers",
    drop_last=True,
    sampler=dict(type="DefaultSampler", shuffle=True),
    dataset=dict(
        type="HoldoutSubset",
        part="train",
        share="$holdout_share",
        dataset=dict(
            **train_set,
            pipeline=[
                dict(type="LoadImage"),
                dict(type="LoadAnnotations"),
                dict(
                    type="RandomResize",
                    scale=(99_999_999, "$short_side"),
                    ratio_range=(0.5, 2.0),
                    keep_ratio=True,
                ),
                dict(type="RandomCrop", crop_size="$crop_size", cat_max_ratio=0.75),
                dict(type="RandomFlip", prob=0.5),
                dict(type="PhotoMetricDistortion"),
                dict(type="PackSegInputs"),
            ],
        ),
    ),
)
test_dataloader = dict(
    batch_size=1,
    num_workers="$num_workers",
    drop_last=False,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type="ConcatDataset",
        datasets=[
            dict(
                type="HoldoutSubset",
                part="holdout",
                share="$holdout_share",
                dataset=dict(**train_set, test_mode=True, pipeline=test_pipeline),
            ),
            dict(
                type="$dataset_type",
                data_root="$data_root",
                data_prefix=dict(img_path="$val_images", seg_map_path="$val_maps"),
                ann_file="$val_list",
                img_suffix="$img_suffix",
                seg_map_suffix="$seg_map_suffix",
                reduce_zero_label="$reduce_zero_label",
                test_mode=True,
                pipeline=test_pipeline,
            ),
        ],
    ),
)
test_evaluator = dict(
    type="ProbeMetric",
    task="$task",
    encoder_depth="$encoder.depth",
    sources="$sources",
    lrs="$lrs",
    weight_decays="$weight_decays",
    seeds="$seeds",
    select_on="$select_on",
    allow_absent_classes="$allow_absent_classes",
)
optim_wrapper = dict(
    type="OptimWrapper",
    constructor="HeadBankOptimizer",
    optimizer=dict(type="GroupedAdamW", lr=1.0, betas=(0.9, 0.999)),  # lr: factor of all heads
)
train_cfg = dict(type="EpochBasedTrainLoop", max_epochs="$max_epochs", val_interval="$max_epochs")
# Selection belongs to the evaluation: it scores the holdout and the reported split in one pass.
val_dataloader = None
val_evaluator = None
val_cfg = None
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
