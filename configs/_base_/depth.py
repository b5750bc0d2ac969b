"""Monocular depth through mmseg: loading, augmentation, evaluation, loops; without the model.

Source: the recipe of BTS (arXiv:1907.10326) and zhyever/Monocular-Depth-Estimation-Toolbox @
d8aff50 that DINOv2 (arXiv:2304.07193) uses: rotation by up to 2.5 degrees, flip, random crop,
gamma, brightness and colour, metric per image and then the mean.

train_cut and val_cut are lists of transforms before the augmentation and before packing:
NYUTrainCrop, KBCrop or none. Images are scored at their own size, max_depth in metres.
"""

REQUIRED_depth = (
    "dataset_type", "data_root", "train_list", "val_list", "image_folder", "depth_folder",
    "train_cut", "val_cut", "crop_size", "brightness", "min_depth", "max_depth", "score_crop",
    "batch_size", "max_iters", "val_interval", "model", "optim_wrapper", "param_scheduler",
)  # fmt: skip
custom_imports = dict(imports=["pe_dense.run.resume", "pe_dense.depth"], allow_failed_imports=False)
default_scope = "mmseg"
num_workers = 4
data_check = "pe_dense.depth.depth_check:check_config"
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
train_cfg = dict(type="IterBasedTrainLoop", max_iters="$max_iters", val_interval="$val_interval")
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
