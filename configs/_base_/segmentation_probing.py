"""Segmentation probes of every layer on published data: a holdout, 1,024 tokens per crop.

A crop and a sliding window have 32 x 32 tokens for every encoder: 448 px at patch 14, 512 at 16.
Used with probing.py. train_list and val_list are as in segmentation_data.py; holdout_group says
what is held out as a whole.
"""

REQUIRED_segmentation_probing = (
    "encoder", "weights", "dataset_type", "data_root", "img_suffix", "seg_map_suffix",
    "reduce_zero_label", "train_images", "train_maps", "train_list", "val_images", "val_maps",
    "val_list", "short_side", "holdout_share", "holdout_group", "half_length",
)  # fmt: skip
custom_imports = dict(
    imports=["pe_dense.run.resume", "pe_dense.probing", "pe_dense.segmentation"],
    allow_failed_imports=False,
)
default_scope = "mmseg"
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
    half_length="$half_length",
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
        group="$holdout_group",
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
                group="$holdout_group",
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
