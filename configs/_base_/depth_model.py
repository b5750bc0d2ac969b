"""A depth estimator on a plain encoder without its head, AdamW, and a warm-up times a cosine.

As in mmcv 1, the cosine begins at 0 and the warm-up is a factor on it: 12,800 of 38,400 iterations
end at 0.75 of the rate.
"""

REQUIRED_depth_model = (
    "encoder", "weights", "layers", "frozen", "crop_size", "lr", "weight_decay",
    "backbone_lr_mult", "layer_decay", "warmup_iters", "max_iters", "model.decode_head",
)  # fmt: skip
model = dict(
    type="DenseDepthEstimator",
    data_preprocessor=dict(
        type="SegDataPreProcessor",
        mean="$encoder.mean_255",
        std="$encoder.std_255",
        bgr_to_rgb=True,
        pad_val=0,
        seg_pad_val=0,  # depth that is not annotated
        size="$crop_size",
        test_cfg=dict(size_divisor="$encoder.patch_size"),
    ),
    backbone=dict(
        type="DenseBackbone",
        encoder="$encoder",
        weights="$weights",
        out_indices="$layers",
        frozen="$frozen",
        norm=False,
    ),
    test_cfg=dict(mode="whole"),
)
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr="$lr", betas=(0.9, 0.999), weight_decay="$weight_decay"),
    clip_grad=dict(max_norm=35.0),
    constructor="EncoderLayerDecay",
    paramwise_cfg=dict(
        layer_decay="$layer_decay",
        custom_keys={"backbone.": dict(lr_mult="$backbone_lr_mult")},
    ),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=1e-3, by_epoch=False, begin=0, end="$warmup_iters"),
    dict(type="CosineAnnealingLR", eta_min=0.0, by_epoch=False, begin=0, end="$max_iters"),
]
