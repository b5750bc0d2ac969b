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
Choices:  Images are normalised with the encoder's own mean and deviation. Encoders without a final
          norm give their last block as it is. Images are turned by OpenCV, which rounds to whole
          grey levels; there by torchvision, which does not. Images keep their size, as in the
          released code; the paper's table 3 speaks of 1,024 tokens for every encoder. Epochs follow
          each other without the incomplete batch that is dropped there.
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
    test_cfg=dict(mode="whole", flip=True, pad="centre", padding="stretched"),
)
train_dataloader = dict(
    dataset=dict(
        pipeline=[
            dict(type="LoadImage", imdecode_backend="pillow"),
            dict(type="LoadDepth"),
            dict(type="Compose", transforms="$train_cut"),
            dict(type="RotateDepth", prob=0.5, degree=2.5),
            dict(type="RandomFlip", prob=0.5),
            dict(type="DepthRandomCrop", crop_size="$crop_size"),
            dict(type="BrightnessJitter", prob=0.5, brightness="$brightness"),
            dict(type="PackDepthInputs"),
        ]
    )
)
test_pipeline = [
    dict(type="LoadImage", imdecode_backend="pillow"),
    dict(type="LoadDepth"),
    dict(type="Compose", transforms="$val_cut"),
    dict(type="PackDepthInputs"),
]
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
sync_bn = "torch"
optim_wrapper = dict(
    optimizer=dict(betas=(0.9, 0.99)), paramwise_cfg=dict(decay_norm_and_bias=True)
)
param_scheduler = [
    dict(
        type="WarmupOneCycleLR",
        warmup="$warmup_iters",
        first=1 / 1000,
        last=1 / 25_000,
        by_epoch=False,
        begin=0,
        end="$max_iters",
    ),
    dict(
        type="WarmupOneCycleMomentum",
        warmup="$warmup_iters",
        low=0.85,
        high=0.95,
        by_epoch=False,
        begin=0,
        end="$max_iters",
    ),
]
default_hooks = dict(checkpoint=dict(interval="$val_interval", by_epoch=False))
log_processor = dict(by_epoch=False)
