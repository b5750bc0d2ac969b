"""UPerNet on a PE Spatial T/16 trained from random weights: segmentation of the mini world.

Paper:    UPerNet (arXiv:1807.10221) on a simple pyramid (arXiv:2203.16527); four blocks.
Data:     python tools/prepare_data.py mini
Command:  python tools/train.py configs/segmentation/upernet_pe_t16_mini.py
          python tools/test.py configs/segmentation/upernet_pe_t16_mini.py \\
              work_dirs/upernet_pe_t16_mini
Cost:     2 CPU cores; minutes not measured.
Expected: not measured yet.
"""

_base_ = [
    "../_base_/runtime.py",
    "../_base_/segmentation.py",
    "../_base_/segmentation_model.py",
    "../_base_/datasets/mini_segmentation.py",
]
protocol = dict(
    id="mini-segmentation-upernet",
    version=1,
    task="segmentation",
    dataset="mini",
    split="val",
    metric="mIoU",
    higher_is_better=True,
)

encoder = "pe_spatial_t16_512"
weights = "random"
layers, frozen = [3], False
batch_size = 4
max_epochs, val_interval = 8, 8
lr, weight_decay = 1e-3, 1e-2
backbone_lr_mult, layer_decay = 1.0, 1.0
warmup_iters = 50
model = dict(
    neck=dict(
        type="SimplePyramid",
        in_channels="$encoder.embed_dim",
        out_channels=64,
        scales=(4, 2, 1, 0.5),
        num_extra_levels=0,
    ),
    decode_head=dict(
        type="UPerHead",
        in_channels=[64, 64, 64, 64],
        in_index=[0, 1, 2, 3],
        pool_scales=(1, 2, 3, 6),
        channels=64,
        dropout_ratio=0.1,
        num_classes="$num_classes",
        norm_cfg=dict(type="BN"),
        align_corners=False,
        loss_decode=dict(type="CrossEntropyLoss", use_sigmoid=False, loss_weight=1.0),
    ),
)
