"""Segmentation of published data sets by iteration: loaders, augmentation, evaluation, loops.

Random scale of the short side, a random crop in which no class fills more than 75 %, flip,
mmseg's photometric distortion; evaluation image by image in the original size.

Lists are files of names, "" takes whole folders. The config sets default_hooks and log_processor
to count iterations.
"""

REQUIRED_segmentation_data = (
    "dataset_type", "data_root", "img_suffix", "seg_map_suffix", "reduce_zero_label",
    "train_images", "train_maps", "train_list", "val_images", "val_maps", "val_list", "train_scale",
    "ratio_range", "crop_size", "test_scale", "batch_size", "max_iters", "val_interval",
    "model", "optim_wrapper",
)  # fmt: skip
custom_imports = dict(
    imports=["pe_dense.run.resume", "pe_dense.segmentation"], allow_failed_imports=False
)
default_scope = "mmseg"
data_facts = "pe_dense.segmentation.known_datasets:facts"
classes, num_classes = "$data.classes", "$data.num_classes"
data_check = "pe_dense.segmentation.known_datasets:check_config"
num_workers = 4
train_dataloader = dict(
    batch_size="$batch_size",
    num_workers="$num_workers",
    drop_last=True,
    sampler=dict(type="InfiniteSampler", shuffle=True),
    dataset=dict(
        type="$dataset_type",
        data_root="$data_root",
        data_prefix=dict(img_path="$train_images", seg_map_path="$train_maps"),
        ann_file="$train_list",
        img_suffix="$img_suffix",
        seg_map_suffix="$seg_map_suffix",
        reduce_zero_label="$reduce_zero_label",
        pipeline=[
            dict(type="LoadImage"),
            dict(type="LoadAnnotations"),
            dict(
                type="RandomResize",
                scale="$train_scale",
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
    batch_size=1,
    num_workers="$num_workers",
    drop_last=False,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type="$dataset_type",
        data_root="$data_root",
        data_prefix=dict(img_path="$val_images", seg_map_path="$val_maps"),
        ann_file="$val_list",
        img_suffix="$img_suffix",
        seg_map_suffix="$seg_map_suffix",
        reduce_zero_label="$reduce_zero_label",
        test_mode=True,
        pipeline=[
            dict(type="LoadImage"),
            dict(type="Resize", scale="$test_scale", keep_ratio=True),
            dict(type="LoadAnnotations"),
            dict(type="PackSegInputs"),
        ],
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(type="MeanIoU")
test_evaluator = val_evaluator
train_cfg = dict(type="IterBasedTrainLoop", max_iters="$max_iters", val_interval="$val_interval")
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
