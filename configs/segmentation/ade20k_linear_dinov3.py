"""ADE20K by a linear head on the frozen last layer, as DINOv3 measures it: 1,024 tokens per crop.

Paper:    DINOv3 (arXiv:2508.10104, section 6.1 and appendix D; dinov3 @ 6876159).
          Crop and window of 32 x 32 tokens (512 px for patch 16, 448 for 14), short side of one
          crop x 0.5-2 (antialiased, by Pillow), hue over the whole circle, dropout 0.1 on channels
          and then the norm, AdamW 1e-3 with weight decay 1e-3, warm-up and cosine.
Data:     ADE20K (SceneParse150): python tools/prepare_data.py ade20k DIR
Command:  torchrun --nproc-per-node 8 tools/train.py \\
              configs/segmentation/ade20k_linear_dinov3.py --launcher pytorch
          python tools/test.py configs/segmentation/ade20k_linear_dinov3.py \\
              work_dirs/ade20k_linear_dinov3
Cost:     8 GPUs x 2 images, 40,000 iterations, float32; hours not measured.
Expected: mIoU 49.3 for PE Spatial G/14, 55.9 for DINOv3 7B/16 (reported, DINOv3 paper, table 3).
Choices:  One setting of the paper's sweep (lr 1e-4, 3e-4, 1e-3 x weight decay 1e-4, 1e-3), that of
          the released config, and the last model: the paper's numbers are the best of six runs, and
          the released code keeps the best of eight evaluations, both chosen on val. Mean and std
          are the encoder's own. Released is patch 16; for another, windows step by two thirds, as
          341 of 512. Hue is turned by OpenCV's arithmetic (one level in 1 % of values). Epochs
          follow each other without the incomplete batch that is dropped there. Areas are summed in
          whole numbers. Step by step: docs/protocols/segmentation_dinov3.md.
"""

_base_ = [
    "../_base_/runtime.py",
    "../_base_/segmentation_data.py",
    "../_base_/segmentation_linear.py",
    "../_base_/datasets/ade20k.py",
]
protocol = dict(
    id="ade20k-linear-dinov3",
    version=1,
    task="segmentation",
    dataset="ade20k",
    split="val",
    metric="mIoU",
    higher_is_better=True,
)

encoder = "pe_spatial_g14_448"
weights = "released"
layers, num_layers = [-1], 1
norm = "$encoder.has_final_norm"
dropout_ratio = 0.1
resize_features = None
crop_size = ("$encoder.side_of_32_tokens", "$encoder.side_of_32_tokens")
train_scale, ratio_range = (99_999_999, "$encoder.side_of_32_tokens"), (0.5, 2.0)
test_scale = (99_999_999, "$encoder.side_of_32_tokens")
test_mode, test_stride, test_divisor = "slide", 2 / 3, 1
batch_size = 2
processes = 8
max_iters, val_interval = 40_000, 5_000
lr, weight_decay = 1e-3, 1e-3
model = dict(decode_head=dict(dropout_first=True))
train_dataloader = dict(
    dataset=dict(
        pipeline=[
            dict(type="LoadImage", imdecode_backend="pillow"),
            dict(type="LoadAnnotations"),
            dict(
                type="RandomResize",
                scale="$train_scale",
                ratio_range="$ratio_range",
                keep_ratio=True,
                antialias=True,
            ),
            dict(type="RandomCrop", crop_size="$crop_size", cat_max_ratio=0.75),
            dict(type="RandomFlip", prob=0.5),
            dict(type="BlendedDistortion", hue_range=(-0.5, 0.5)),
            dict(type="PackSegInputs"),
        ]
    )
)
val_dataloader = dict(
    dataset=dict(
        pipeline=[
            dict(type="LoadImage", imdecode_backend="pillow"),
            dict(type="Resize", scale="$test_scale", keep_ratio=True, antialias=True),
            dict(type="LoadAnnotations"),
            dict(type="PackSegInputs"),
        ]
    )
)
test_dataloader = val_dataloader
param_scheduler = [
    dict(
        type="WarmupOneCycleLR",
        warmup=1500,
        held=1,
        line_from=1e-6,
        by_epoch=False,
        begin=0,
        end="$max_iters",
    ),
]
default_hooks = dict(
    logger=dict(interval=50),
    checkpoint=dict(interval="$val_interval", by_epoch=False),
)
log_processor = dict(window_size=50, by_epoch=False)
