"""ADE20K by UPerNet on a simple pyramid, the whole of PE Spatial B/16 fine-tuned.

Paper:    UPerNet (arXiv:1807.10221), pyramid of ViTDet (arXiv:2203.16527), on PE
          (arXiv:2504.13181). PE published no such model: learning rate, weight decay, layer decay,
          drop path, batch, schedule and windows are those with which mmseg fine-tunes MAE's ViT-B
          (arXiv:2111.06377).
Data:     ADE20K (SceneParse150): python tools/prepare_data.py ade20k DIR
Command:  torchrun --nproc-per-node 8 tools/train.py \\
              configs/segmentation/ade20k_upernet_pe_b16.py --launcher pytorch
          python tools/test.py configs/segmentation/ade20k_upernet_pe_b16.py \\
              work_dirs/ade20k_upernet_pe_b16
Cost:     8 GPUs x 2 images, 160,000 iterations; hours not measured. Fewer GPUs:
          --cfg-options batch_size=16/N, and lr=1e-4*N*batch_size/16 if the total changes.
Expected: not measured yet. UPerNet on a supervised ViT-B in mmseg, 80,000 iterations: mIoU 47.71
          (its metafile).
Choices:  The last map alone feeds all levels (mmseg's MAE takes four blocks), and the head is 512
          wide (there 768). Crop and window 32 x 32 tokens, step two thirds (there 512 by 341).
          float32 (there float16).
"""

_base_ = [
    "../_base_/runtime.py",
    "../_base_/segmentation_data.py",
    "../_base_/datasets/ade20k.py",
]
protocol = dict(
    id="ade20k-upernet-b-160k",
    version=1,
    task="segmentation",
    dataset="ade20k",
    split="val",
    metric="mIoU",
    higher_is_better=True,
)

encoder = "pe_spatial_b16_512"
weights = "released"
drop_path_rate = 0.1
grad_checkpointing = False
crop_size = ("$encoder.side_of_32_tokens", "$encoder.side_of_32_tokens")
train_scale, ratio_range = (2048, "$encoder.side_of_32_tokens"), (0.5, 2.0)
test_scale = (2048, "$encoder.side_of_32_tokens")
batch_size = 2
processes = 8
max_iters, val_interval = 160_000, 16_000
warmup_iters = 1500  # a shorter trial needs a shorter one
lr, weight_decay, layer_decay = 1e-4, 0.05, 0.65
model = dict(
    type="DenseSegmentor",
    data_preprocessor=dict(
        type="SegDataPreProcessor",
        mean="$encoder.mean_255",
        std="$encoder.std_255",
        bgr_to_rgb=True,
        pad_val=0,
        seg_pad_val=255,
        size="$crop_size",
        test_cfg=dict(size_divisor="$encoder.patch_size"),
    ),
    backbone=dict(
        type="DenseBackbone",
        encoder="$encoder",
        weights="$weights",
        out_indices=[-1],
        grad_checkpointing="$grad_checkpointing",
        encoder_options=dict(
            drop_path_rate="$drop_path_rate",
            drop_path_schedule="linear",
        ),
    ),
    neck=dict(
        type="SimplePyramid",
        in_channels="$encoder.embed_dim",
        out_channels=512,
        scales=(4, 2, 1, 0.5),
        num_extra_levels=0,
    ),
    decode_head=dict(
        type="UPerHead",
        in_channels=[512, 512, 512, 512],
        in_index=[0, 1, 2, 3],
        pool_scales=(1, 2, 3, 6),
        channels=512,
        dropout_ratio=0.1,
        num_classes="$num_classes",
        norm_cfg=dict(type="BN"),
        align_corners=False,
        loss_decode=dict(type="CrossEntropyLoss", use_sigmoid=False, loss_weight=1.0),
    ),
    auxiliary_head=dict(
        type="FCNHead",
        in_channels=512,
        in_index=2,
        channels=256,
        num_convs=1,
        concat_input=False,
        dropout_ratio=0.1,
        num_classes="$num_classes",
        norm_cfg=dict(type="BN"),
        align_corners=False,
        loss_decode=dict(type="CrossEntropyLoss", use_sigmoid=False, loss_weight=0.4),
    ),
    test_cfg=dict(mode="slide", crop_size="$crop_size", stride=2 / 3),
)
sync_bn = "torch"
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr="$lr", betas=(0.9, 0.999), weight_decay="$weight_decay"),
    constructor="EncoderLayerDecay",
    paramwise_cfg=dict(layer_decay="$layer_decay"),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=1e-6, by_epoch=False, begin=0, end="$warmup_iters"),
    dict(
        type="PolyLR",
        power=1.0,
        eta_min=0.0,
        by_epoch=False,
        begin="$warmup_iters",
        end="$max_iters",
    ),
]
default_hooks = dict(
    logger=dict(interval=50),
    checkpoint=dict(interval="$val_interval", by_epoch=False),
)
log_processor = dict(window_size=50, by_epoch=False)
