"""ADE20K by Mask2Former on a simple pyramid, the whole of PE Spatial B/16 fine-tuned.

Paper:    Mask2Former (arXiv:2112.01527), pyramid of ViTDet (arXiv:2203.16527), on PE
          (arXiv:2504.13181). PE published no such model: head, matching, losses and schedule are
          mmseg's for ADE20K with Swin-T (encoder at a tenth of the learning rate, gradients clipped
          to 0.01, drop path 0.3, 160,000 iterations).
Data:     ADE20K (SceneParse150): python tools/prepare_data.py ade20k DIR
Command:  torchrun --nproc-per-node 8 tools/train.py \\
              configs/segmentation/ade20k_mask2former_pe_b16.py --launcher pytorch
          python tools/test.py configs/segmentation/ade20k_mask2former_pe_b16.py \\
              work_dirs/ade20k_mask2former_pe_b16
Cost:     8 GPUs x 2 images, 160,000 iterations; hours not measured.
Expected: not measured yet. DINOv2 g/14, frozen, with ViT-Adapter: 60.2; DINOv3 7B/16: 62.6
          (reported, their papers; other necks, sizes and schedules).
Choices:  Needs mmdet. Crop 32 x 32 tokens; whole images at test, padded to the patch. Scales are
          continuous from 0.5 to 2, where mmseg draws among sixteen, and the longest side that is
          allowed grows with them (there 2,048 px). No vector decays (there biases do). The last
          model is scored (there the best on val).
"""

_base_ = [
    "../_base_/runtime.py",
    "../_base_/segmentation_data.py",
    "../_base_/mask2former.py",
    "../_base_/datasets/ade20k.py",
]
custom_imports = dict(imports=["pe_dense.run.resume", "pe_dense.segmentation", "mmdet.models"])
protocol = dict(
    id="ade20k-mask2former-b-160k",
    version=1,
    task="segmentation",
    dataset="ade20k",
    split="val",
    metric="mIoU",
    higher_is_better=True,
)

encoder = "pe_spatial_b16_512"
weights = "released"
drop_path_rate = 0.3
grad_checkpointing = False
crop_size = ("$encoder.side_of_32_tokens", "$encoder.side_of_32_tokens")
train_scale, ratio_range = (2048, "$encoder.side_of_32_tokens"), (0.5, 2.0)
test_scale = (2048, "$encoder.side_of_32_tokens")
batch_size = 2
processes = 8
max_iters, val_interval = 160_000, 5_000
num_queries = 100
lr, weight_decay = 1e-4, 0.05
model = dict(
    backbone=dict(
        out_indices=[-1],
        grad_checkpointing="$grad_checkpointing",
        encoder_options=dict(
            drop_path_rate="$drop_path_rate",
            drop_path_schedule="linear",
        ),
    ),
    decode_head=dict(
        loss_cls=dict(class_weight=[1.0] * 150 + [0.1]),  # the last is "no object"
    ),
    test_cfg=dict(mode="whole"),
)
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr="$lr", betas=(0.9, 0.999), weight_decay="$weight_decay"),
    clip_grad=dict(max_norm=0.01, norm_type=2),
    constructor="EncoderLayerDecay",
    paramwise_cfg=dict(
        layer_decay=1.0,
        custom_keys={
            "backbone.": dict(lr_mult=0.1),
            "query_embed": dict(decay_mult=0.0),
            "query_feat": dict(decay_mult=0.0),
            "level_embed": dict(decay_mult=0.0),
            "level_encoding": dict(decay_mult=0.0),
        },
    ),
)
param_scheduler = [
    dict(type="PolyLR", power=0.9, eta_min=0.0, by_epoch=False, begin=0, end="$max_iters"),
]
default_hooks = dict(
    logger=dict(interval=50),
    checkpoint=dict(interval="$val_interval", by_epoch=False),
)
log_processor = dict(window_size=50, by_epoch=False)
