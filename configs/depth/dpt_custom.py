"""A DPT head on four layers of an encoder, for your own images and depth maps.

Paper:    DPT (arXiv:2103.13413) as DINOv2 (arXiv:2304.07193) uses it, on PE Spatial
          (arXiv:2504.13181).
Data:     as linear_custom.py; layouts and options: docs/own_data.md
Command:  python tools/train.py configs/depth/dpt_custom.py --cfg-options data_root=DIR
          python tools/test.py configs/depth/dpt_custom.py work_dirs/dpt_custom \\
              --cfg-options data_root=DIR
Cost:     at most 12,000 images seen on a CPU, 320,000 on a GPU; several times the linear head's.
Expected: depends on the data; what predictors without the picture get stands beside the score.

What to change first: as linear_custom.py; width for a larger head.
"""

_base_ = [
    "../_base_/runtime.py",
    "../_base_/own_training.py",
    "../_base_/own_depths.py",
]
protocol = dict(
    id="custom-depth-dpt",
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
layers, num_layers = "$encoder.four_layers", 4
lr_factor = 0.2
holdout_share = "$data.holdout_share"  # 0.1, as whole clips can meet it
width = 128
model = dict(
    decode_head=dict(
        type="DPTDepthHead",
        in_channels="$encoder.embed_dim",
        channels="$width",
        num_layers="$num_layers",
        min_depth="$min_depth",
        max_depth="$max_depth",
        readout="ignore",
        losses=[dict(type="ScaleInvariantLogLoss", warm_up_steps="$warmup_iters")],
    ),
)
default_hooks = dict(checkpoint=dict(interval="$val_interval", by_epoch=False))
log_processor = dict(by_epoch=False)
