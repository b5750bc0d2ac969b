"""A small Core tower from nothing: pictures and captions of the mini world, on one CPU core.

Paper:    the contrastive stage of Perception Encoder (arXiv:2504.13181) at toy size: attention
          pooling, a text tower, softmax loss. Neither its data, resolution schedule nor optimiser.
Data:     drawn as it starts and kept in data/mini_captions: 6,000 pictures of 128 px, 2 minutes
Command:  python tools/train.py configs/alignment/contrastive_t16_mini.py
Cost:     0.6 to 1.3 s per iteration on one CPU core, the latter on a busy machine: 9 to 20 minutes.
Expected: not measured as a whole. With max_iters=300 and 3,000 pictures the loss falls from 4.3 to
          1.7, and of 256 pictures 19 % find their own caption first (chance: 0.4 %).
Choices:  10 blocks of width 96 and patch 16: 65 tokens a picture. Mirrored pictures get mirrored
          captions; no other augmentation, because captions name colours and places. Without the
          backdrop in the captions nothing was learned in 150 iterations (loss 4.05 of 4.16).
          Validation is retrieval among 512 pictures that training never saw.
"""

_base_ = ["../_base_/runtime.py"]
protocol = dict(
    id="mini-contrastive",
    version=1,
    task="alignment",
    dataset="mini",
    split="train",
    metric="loss",
    higher_is_better=False,
)

encoder = "pe_core_t16_384"
weights = "random"
data_root = "data/mini_captions"
patch_size, embed_dim, depth, num_heads, mlp_hidden = 16, 96, 10, 3, 384
image_size = 128
num_images, num_val_images, world_seed = 6000, 512, 0
batch_size = 64
max_iters, warmup_iters, val_interval, checkpoint_interval = 900, 50, 150, 150
lr, weight_decay = 2e-3, 0.05

custom_imports = dict(
    imports=[
        "pe_dense.run.resume",
        "pe_dense.openmmlab.backbone",
        "pe_dense.alignment.contrastive",
        "pe_dense.alignment.mini_captioned_images",
    ],
    allow_failed_imports=False,
)
default_scope = "mmengine"
model = dict(
    type="ContrastivePair",
    backbone=dict(
        type="DenseBackbone",
        encoder="$encoder",
        weights="$weights",
        out_indices=(-1,),
        encoder_options=dict(
            patch_size="$patch_size",
            embed_dim="$embed_dim",
            depth="$depth",
            num_heads="$num_heads",
            mlp_hidden="$mlp_hidden",
            image_size="$image_size",
            pool_heads="$num_heads",
            output_dim="$embed_dim",
        ),
    ),
    text=dict(embed_dim=64, depth=2, num_heads=2),
)
train_dataloader = dict(
    batch_size="$batch_size",
    num_workers=0,  # pictures lie in memory
    drop_last=True,
    sampler=dict(type="InfiniteSampler", shuffle=True),
    dataset=dict(
        type="MiniCaptionedImages",
        data_root="$data_root",
        split="train",
        num_images="$num_images",
        world_seed="$world_seed",
        image_size="$image_size",
        mirror_prob=0.5,
    ),
)
val_dataloader = dict(
    batch_size="$batch_size",
    num_workers=0,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type="MiniCaptionedImages",
        data_root="$data_root",
        split="val",
        num_images="$num_val_images",
        world_seed="$world_seed",
        image_size="$image_size",
    ),
)
val_evaluator = dict(type="RetrievalAccuracy")
val_cfg = dict(type="ValLoop")
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr="$lr", betas=(0.9, 0.98), weight_decay="$weight_decay"),
    clip_grad=dict(max_norm=1.0),
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0, flat_decay_mult=0.0),
)
train_cfg = dict(type="IterBasedTrainLoop", max_iters="$max_iters", val_interval="$val_interval")
param_scheduler = [
    dict(type="LinearLR", start_factor=1e-3, by_epoch=False, begin=0, end="$warmup_iters"),
    dict(type="CosineAnnealingLR", eta_min=0.0, by_epoch=False, begin=0, end="$max_iters"),
]
default_hooks = dict(checkpoint=dict(interval="$checkpoint_interval", by_epoch=False))
log_processor = dict(by_epoch=False)
