"""DINOv2's depth protocols: frozen encoder, class token, 256 bins, mirrored copy averaged.

Source: DINOv2 (arXiv:2304.07193, section 7.4) and facebookresearch/dinov2 @ b8931f7: no final norm,
class token concatenated, bilinear x4, 256 even bins; the linear head is here, for one layer. Its
training configs are not in the repository; copies of two of them are public (NYUv2 with DPT for
ViT-L, KITTI with one layer for ViT-S), and the settings here are theirs. docs/protocols lays every
step beside its source.

Choices: DINOv2's gradient loss is left out: as released it slices the wrong axes and is exactly 0
at 2 images per process (DepthGradientLoss(as_released=True) has that; without, the loss that was
meant). Its save_best on the test set is not imitated either: the last model is scored. Images are
normalised with the encoder's own mean and deviation. Encoders without a class token go without.
Epochs follow each other without the incomplete batch that is dropped there.
"""

REQUIRED_depth_dinov2 = ("layers", "crop_size", "min_depth", "max_depth")
encoder = "pe_spatial_l14_448"
weights = "released"
frozen = True
batch_size = 2
processes = 8
max_iters, val_interval = 38_400, 3_840
lr, weight_decay = 1e-4, 1e-2
backbone_lr_mult, layer_decay = 1.0, 1.0
warmup_iters = 12_800
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
        with_class_token="$encoder.has_class_token",
        center_pad=True,
    ),
    decode_head=dict(
        type="DepthBinsHead",
        in_channels="$encoder.embed_dim",
        num_layers=1,
        num_bins=256,
        min_depth="$min_depth",
        max_depth="$max_depth",
        with_class_token="$encoder.has_class_token",
        upsample=4,
        init_cfg=None,  # the last layer begins as torch's
        losses=[dict(type="ScaleInvariantLogLoss", warm_up_steps=100)],
    ),
    test_cfg=dict(mode="whole", flip=True, pad="centre", padding="stretched"),
)
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr="$lr", betas=(0.9, 0.999), weight_decay="$weight_decay"),
    clip_grad=dict(max_norm=35.0),
    constructor="EncoderLayerDecay",
    paramwise_cfg=dict(
        layer_decay="$layer_decay",
        decay_norm_and_bias=True,
        custom_keys={"backbone.": dict(lr_mult="$backbone_lr_mult")},
    ),
)
param_scheduler = [
    dict(
        type="WarmedCosineLR",
        warmup="$warmup_iters",
        first=1e-3,
        lowest=1e-8,
        by_epoch=False,
        begin=0,
        end="$max_iters",
    ),
    dict(type="OneCycleMomentum", by_epoch=False, begin=0, end="$max_iters"),
]
