"""The mini world by the names of its shapes and grounds, with the small contrastive towers.

Paper:    none; which layer and read-out of a contrastive tower know where things are.
Data:     python tools/prepare_data.py mini
Command:  python tools/train.py configs/alignment/contrastive_t16_mini.py
          python tools/test.py configs/segmentation/text_mini.py \\
              --weights work_dirs/contrastive_t16_mini/iter_900.pth
Cost:     about a minute on one CPU core, after 9 to 20 minutes of training.
Expected: mIoU 0.046 [0.039, 0.053] with towers of 300 iterations, 0.028 with random weights; a
          linear head on position, which sees no picture, has 0.213: no use yet.
"""

_base_ = ["../_base_/runtime.py", "../_base_/segmentation_text.py"]
protocol = dict(
    id="mini-segmentation-text",
    version=1,
    task="segmentation",
    dataset="mini",
    split="val",
    metric="mIoU",
    higher_is_better=True,
)

data_root = "data/mini/ade"
classes = ["sky", "wall", "ground", "path", "disc", "box", "triangle", "star", "ring", "cross"]
num_classes = 10
encoder = "pe_core_t16_384"
weights = "random"
embed_dim, depth, num_heads, mlp_hidden, towers_side = 96, 10, 3, 384, 128
templates = ["{}"]
readouts, layers = "all", "all"
background, thresholds = None, []
short_side, window = 256, (256, 256)
test_mode = "whole"
custom_imports = dict(
    imports=[
        "pe_dense.run.resume",
        "pe_dense.alignment.contrastive_backbone",
        "pe_dense.segmentation",
    ],
    allow_failed_imports=False,
)
data_check = "pe_dense.segmentation.map_check:check_config"
model = dict(
    backbone=dict(
        _delete_=True,
        type="ContrastiveBackbone",
        encoder="$encoder",
        weights="$weights",
        encoder_options=dict(
            patch_size=16,
            embed_dim="$embed_dim",
            depth="$depth",
            num_heads="$num_heads",
            mlp_hidden="$mlp_hidden",
            image_size="$towers_side",
            pool_heads="$num_heads",
            output_dim="$embed_dim",
        ),
        text=dict(embed_dim=64, depth=2, num_heads=2),
    ),
)
test_pipeline = [
    dict(type="LoadImage"),
    dict(type="Resize", scale=(99_999_999, "$short_side"), keep_ratio=True),
    dict(type="LoadAnnotations"),
    dict(type="PackSegInputs"),
]
train_set = dict(
    type="BaseSegDataset",
    data_root="$data_root",
    data_prefix=dict(img_path="images/training", seg_map_path="annotations/training"),
    metainfo=dict(classes="$classes"),
    reduce_zero_label=True,
)
train_dataloader = dict(
    batch_size=1,
    num_workers="$num_workers",
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type="HoldoutSubset",
        part="train",
        share="$holdout_share",
        group="image",
        dataset=dict(**train_set, pipeline=test_pipeline),
    ),
)
test_dataloader = dict(
    batch_size=8,
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
                group="image",
                dataset=dict(**train_set, test_mode=True, pipeline=test_pipeline),
            ),
            dict(
                type="BaseSegDataset",
                data_root="$data_root",
                data_prefix=dict(
                    img_path="images/validation", seg_map_path="annotations/validation"
                ),
                metainfo=dict(classes="$classes"),
                reduce_zero_label=True,
                test_mode=True,
                pipeline=test_pipeline,
            ),
        ],
    ),
)
