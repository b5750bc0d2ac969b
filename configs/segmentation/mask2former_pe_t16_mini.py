"""Mask2Former on a PE Spatial T/16 trained from random weights: segmentation of the mini world.

Paper:    Mask2Former (arXiv:2112.01527) on a simple pyramid (arXiv:2203.16527); four blocks.
Data:     python tools/prepare_data.py mini
Command:  python tools/train.py configs/segmentation/mask2former_pe_t16_mini.py
          python tools/test.py configs/segmentation/mask2former_pe_t16_mini.py \\
              work_dirs/mask2former_pe_t16_mini
Cost:     2 CPU cores; minutes not measured.
Expected: not measured yet.
"""

_base_ = [
    "../_base_/runtime.py",
    "../_base_/segmentation.py",
    "../_base_/mask2former.py",
    "../_base_/datasets/mini_segmentation.py",
]
custom_imports = dict(imports=["pe_dense.run.resume", "pe_dense.segmentation", "mmdet.models"])
protocol = dict(
    id="mini-segmentation-mask2former",
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
num_queries = 20
max_epochs, val_interval = 8, 8
lr, weight_decay = 4e-4, 1e-2
backbone_lr_mult, layer_decay = 1.0, 1.0
warmup_iters = 50
test_mode = "whole"
small_ffn = dict(embed_dims=64, feedforward_channels=128)
small_attention = dict(embed_dims=64, num_heads=4)
model = dict(
    backbone=dict(out_indices="$layers", frozen="$frozen", norm=False),
    neck=dict(out_channels=64),
    decode_head=dict(
        in_channels=[64, 64, 64, 64],
        feat_channels=64,
        out_channels=64,
        pixel_decoder=dict(
            encoder=dict(
                num_layers=1,
                layer_cfg=dict(self_attn_cfg=small_attention, ffn_cfg=small_ffn),
            ),
            positional_encoding=dict(num_feats=32),
        ),
        positional_encoding=dict(num_feats=32),
        transformer_decoder=dict(
            num_layers=2,
            layer_cfg=dict(
                self_attn_cfg=small_attention, cross_attn_cfg=small_attention, ffn_cfg=small_ffn
            ),
        ),
        loss_cls=dict(class_weight=[1.0] * 10 + [0.1]),  # the last is "no object"
        train_cfg=dict(num_points=1024),
    ),
    test_cfg=dict(mode="$test_mode"),
)
del small_ffn, small_attention
optim_wrapper = dict(clip_grad=dict(max_norm=0.1, norm_type=2))
