"""Depth probes of every layer on published data: loaders with a holdout.

Encoders of every patch size see one token for 16 x 16 pixels: 1,200 for an image of NYUv2, whose
tower of patch 14 runs at 420 x 560. Used with probing.py, and datasets/nyu.py or kitti.py;
holdout_group says what is held out as a whole.
"""

REQUIRED_depth_probing = (
    "encoder", "weights", "dataset_type", "data_root", "train_list", "val_list", "image_folder",
    "depth_folder", "train_cut", "val_cut", "crop_size", "brightness", "min_depth", "max_depth",
    "score_crop", "holdout_share", "holdout_group", "half_length",
)  # fmt: skip
custom_imports = dict(
    imports=["pe_dense.run.resume", "pe_dense.probing", "pe_dense.depth"],
    allow_failed_imports=False,
)
default_scope = "mmseg"
data_check = "pe_dense.depth.depth_check:check_config"
task = "depth"
sources = "all"
lrs, weight_decays, seeds = [3e-3, 1e-3, 3e-4, 1e-4], [1e-3], [0, 1, 2]
pixels_per_patch = 16
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
        seg_pad_val=0,  # depth that is not annotated
        size_divisor="$pixels_per_patch",
        test_cfg=dict(size_divisor="$pixels_per_patch"),
    ),
    pixels_per_patch="$pixels_per_patch",
    task_options=dict(
        min_depth="$min_depth",
        max_depth="$max_depth",
        num_bins=256,
        upsample=1,
        gradient_weight=0.0,
        warm_up_steps=100,
        crop="$score_crop",
    ),
)
train_set = dict(
    type="$dataset_type",
    data_root="$data_root",
    ann_file="$train_list",
    data_prefix=dict(img_path="$image_folder", depth_map_path="$depth_folder"),
)
test_pipeline = [
    dict(type="LoadImage"),
    dict(type="LoadDepth"),
    dict(type="Compose", transforms="$val_cut"),
    dict(type="PackDepthInputs"),
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
                dict(type="LoadDepth"),
                dict(type="Compose", transforms="$train_cut"),
                dict(type="RotateDepth", prob=0.5, degree=2.5),
                dict(type="RandomFlip", prob=0.5),
                dict(type="DepthRandomCrop", crop_size="$crop_size"),
                dict(type="BrightnessJitter", prob=0.5, brightness="$brightness"),
                dict(type="PackDepthInputs"),
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
                ann_file="$val_list",
                data_prefix=dict(img_path="$image_folder", depth_map_path="$depth_folder"),
                test_mode=True,
                pipeline=test_pipeline,
            ),
        ],
    ),
)
