"""Linear depth bins on a frozen encoder for your own images and depth maps.

Paper:    bins and scale-invariant loss as DINOv2 (arXiv:2304.07193), batch norm as DINOv3
          (arXiv:2508.10104), on PE Spatial (arXiv:2504.13181).
Data:     a folder: images/ and depth/, frames beside their maps (a.color.jpg, a.depth.png), or
          lists of pairs as NYUv2; 16-bit PNG, EXR, npy, npz; docs/own_data.md has layouts, options.
Command:  python tools/train.py configs/depth/linear_custom.py --cfg-options data_root=DIR
          python tools/test.py configs/depth/linear_custom.py work_dirs/depth_linear_custom \\
              --cfg-options data_root=DIR
Cost:     at most 12,000 images seen on a CPU, 320,000 on a GPU; minutes for some hundred photos.
Expected: depends on the data; what predictors without the picture get stands beside the score.

What to change first: depth_scale where the printed unit is wrong, max_depth, image_side=448,
--encoder pe_spatial_b16_512, tune=full. The block that is read is chosen on training images before
the training; layers=[8] or layers=four says it instead.
"""

_base_ = [
    "../_base_/runtime.py",
    "../_base_/own_training.py",
    "../_base_/own_depths.py",
]
protocol = dict(
    id="custom-depth-linear",
    version=1,
    task="depth",
    dataset="$data.name",
    split="val",
    metric="rmse",
    higher_is_better=False,
    own_annotations=dict(train="$data.train_sha256", val="$data.val_sha256", plan="$plan"),
)

encoder = "pe_spatial_s16_512"
weights = "released"
layers, num_layers = "best", None  # one block, chosen before the training; or four, [8], ...
layer_choice = "pe_dense.probing.layer_choice:choose"
lr_factor = 1.0
holdout_share = "$data.holdout_share"  # 0.1, as whole clips can meet it
num_bins = 256
model = dict(
    decode_head=dict(
        type="DepthBinsHead",
        in_channels="$encoder.embed_dim",
        num_layers="$num_layers",
        num_bins="$num_bins",
        batch_norm=True,
        min_depth="$min_depth",
        max_depth="$max_depth",
        losses=[dict(type="ScaleInvariantLogLoss", warm_up_steps="$warmup_iters")],
    ),
)
default_hooks = dict(checkpoint=dict(interval="$val_interval", by_epoch=False))
log_processor = dict(by_epoch=False)
