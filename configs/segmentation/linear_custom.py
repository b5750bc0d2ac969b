"""A linear head on a frozen encoder for your own images and label maps.

Paper:    a linear head as DINOv2 (arXiv:2304.07193) on PE Spatial (arXiv:2504.13181).
Data:     a folder: images/ and masks/, VOC, Cityscapes, ADE20K, COCO (panoptic or masks of objects)
          and others; docs/own_data.md has the layouts, and the options where names differ.
Command:  python tools/train.py configs/segmentation/linear_custom.py --cfg-options data_root=DIR
          python tools/test.py configs/segmentation/linear_custom.py work_dirs/linear_custom \\
              --cfg-options data_root=DIR
Cost:     at most 12,000 images seen on a CPU, 320,000 on a GPU; minutes for a hundred photos.
Expected: depends on the data; the score of the best constant is printed before the training.

What to change first: --encoder pe_spatial_b16_512 (larger), image_side=448 for thin or small
things, tune=full for an encoder that is trained as well (layer_decay=0.8). The block that is read
is chosen on training images before the training; layers=[8] or layers=four says it instead.
"""

_base_ = [
    "../_base_/runtime.py",
    "../_base_/own_training.py",
    "../_base_/own_maps.py",
]
protocol = dict(
    id="custom-segmentation-linear",
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
layers, num_layers = "best", None  # one block, chosen before the training; or four, [8], ...
layer_choice = "pe_dense.probing.layer_choice:choose"
lr_factor = 1.0
holdout_share = "$data.holdout_share"  # 0.1, as whole clips can meet it
model = dict(
    decode_head=dict(
        type="LinearSegHead",
        in_channels="$encoder.embed_dim",
        num_layers="$num_layers",
        num_classes="$num_classes",
        average_counted=True,
    ),
)
default_hooks = dict(checkpoint=dict(interval="$val_interval", by_epoch=False))
log_processor = dict(by_epoch=False)
