"""UPerNet on a pyramid of one layer of an encoder, for your own images and label maps.

Paper:    UPerNet (arXiv:1807.10221) on a simple pyramid (arXiv:2203.16527) of PE Spatial
          (arXiv:2504.13181).
Data:     as linear_custom.py; layouts and options: docs/own_data.md
Command:  python tools/train.py configs/segmentation/upernet_custom.py --cfg-options data_root=DIR
          python tools/test.py configs/segmentation/upernet_custom.py work_dirs/upernet_custom \\
              --cfg-options data_root=DIR
Cost:     at most 12,000 images seen on a CPU, 320,000 on a GPU; several times the linear head's.
Expected: depends on the data; sharper outlines than a linear head where there are some hundred
          images, no gain from a few dozen.

What to change first: tune=full to train the encoder as well (layer_decay=0.8), image_side,
--encoder. The block that is read is chosen on training images before the training; layer=8 says it
instead.
"""

_base_ = [
    "../_base_/runtime.py",
    "../_base_/own_training.py",
    "../_base_/own_maps.py",
]
protocol = dict(
    id="custom-segmentation-upernet",
    version=1,
    task="segmentation",
    dataset="$data.name",
    split="val",
    metric="mIoU",
    higher_is_better=True,
    own_annotations=dict(train="$data.train_sha256", val="$data.val_sha256", plan="$plan"),
)

encoder = "pe_spatial_s16_512"
weights = "released"
layer = "best"  # chosen before the training; or 8, -1
layers = ["$layer"]
layer_choice = "pe_dense.probing.layer_choice:choose"
lr_factor = 0.5
holdout_share = "$data.holdout_share"  # 0.1, as whole clips can meet it
width = 128
model = dict(
    neck=dict(
        type="SimplePyramid",
        in_channels="$encoder.embed_dim",
        out_channels="$width",
        scales=(4, 2, 1, 0.5),
        num_extra_levels=0,
    ),
    decode_head=dict(
        type="UPerHead",
        in_channels=["$width", "$width", "$width", "$width"],
        in_index=[0, 1, 2, 3],
        pool_scales=(1, 2, 3, 6),
        channels="$width",
        dropout_ratio=0.1,
        num_classes="$num_classes",
        norm_cfg=dict(type="BN"),
        align_corners=False,
        loss_decode=dict(
            type="CrossEntropyLoss", use_sigmoid=False, loss_weight=1.0, avg_non_ignore=True
        ),
    ),
)
default_hooks = dict(checkpoint=dict(interval="$val_interval", by_epoch=False))
log_processor = dict(by_epoch=False)
