"""Published data for segmentation by names; used with segmentation_text.py.

Training images choose, a tenth of them; all of their labels make the predictors without a picture.
"""

REQUIRED_segmentation_text_data = (
    "dataset_type", "data_root", "img_suffix", "seg_map_suffix", "reduce_zero_label",
    "train_images", "train_maps", "train_list", "val_images", "val_maps", "val_list",
    "short_side", "holdout_share", "holdout_group", "num_workers",
)  # fmt: skip
data_facts = "pe_dense.segmentation.known_datasets:facts"
classes, num_classes = "$data.classes", "$data.num_classes"
data_check = "pe_dense.segmentation.known_datasets:check_config"
# CLIP's seven (openai/CLIP, notebooks/Prompt_Engineering_for_ImageNet.ipynb).
templates = [
    "itap of a {}.",
    "a bad photo of the {}.",
    "a origami {}.",
    "a photo of the large {}.",
    "a {} in a video game.",
    "art of the {}.",
    "a photo of the small {}.",
]
readouts, layers = "all", "all"
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
    batch_size=1,
    num_workers="$num_workers",
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type="HoldoutSubset",
        part="train",
        share="$holdout_share",
        group="$holdout_group",
        dataset=dict(**train_set, pipeline=test_pipeline),
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
