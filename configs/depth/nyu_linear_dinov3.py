"""NYUv2 depth by batch norm and linear bins on the last layer, as DINOv3 measures it.

Paper:    DINOv3 (arXiv:2508.10104, section 6.1) and its released evaluation
          (facebookresearch/dinov3 @ 6876159): last layer after the final norm, no class token,
          batch norm and 256 bins at token resolution, a cosine from 0 times a linear warm-up,
          weight decay on all of the head, mirrored copy averaged.
Data:     NYUv2 in the layout of BTS: python tools/prepare_data.py nyu DIR
Command:  torchrun --nproc-per-node 8 tools/train.py configs/depth/nyu_linear_dinov3.py \\
              --launcher pytorch
          python tools/test.py configs/depth/nyu_linear_dinov3.py \\
              work_dirs/nyu_linear_dinov3
Cost:     8 GPUs x 2 images, 38,400 iterations; hours not measured.
Expected: RMSE 0.362 for PE Spatial G/14, 0.590 for PE Core G/14, 0.372 for DINOv2 g/14 (reported,
          DINOv3 paper, table 3).
Choices:  Padding of patch 14 is cut from predictions, in training and test; there it is stretched.
          beta1 is 0.9 throughout; the released schedule sets it to 0 in the warm-up, and then from
          0.85 to 0.95. The cosine ends at 0, there at 4e-5 of the rate. Encoders without a final
          norm give their last block as it is.
"""

_base_ = [
    "../_base_/runtime.py",
    "../_base_/depth.py",
    "../_base_/depth_model.py",
    "../_base_/datasets/nyu.py",
]
protocol = dict(
    id="nyu-linear-dinov3",
    version=1,
    task="depth",
    dataset="nyu",
    split="test",
    metric="rmse",
    higher_is_better=False,
)

encoder = "pe_spatial_g14_448"
weights = "released"
layers = [-1]
frozen = True
batch_size = 2
processes = 8
max_iters, val_interval = 38_400, 3_840
lr, weight_decay = 3e-4, 1e-4
backbone_lr_mult, layer_decay = 1.0, 1.0
warmup_iters = 12_800
model = dict(
    backbone=dict(norm="$encoder.has_final_norm", center_pad=True),
    decode_head=dict(
        type="DepthBinsHead",
        in_channels="$encoder.embed_dim",
        num_layers=1,
        num_bins=256,
        min_depth="$min_depth",
        max_depth="$max_depth",
        batch_norm=True,
        losses=[dict(type="ScaleInvariantLogLoss", warm_up_steps=100)],
    ),
    test_cfg=dict(mode="whole", flip=True, pad="centre"),
)
sync_bn = "torch"
optim_wrapper = dict(
    optimizer=dict(betas=(0.9, 0.99)), paramwise_cfg=dict(decay_norm_and_bias=True)
)
default_hooks = dict(checkpoint=dict(interval="$val_interval", by_epoch=False))
log_processor = dict(by_epoch=False)
