"""Linear head on a frozen encoder: model, AdamW, warm-up and linear decay.

Source: the linear evaluation of DINOv2 (arXiv:2304.07193) on mmseg: batch norm over all processes
and a 1x1 convolution; AdamW with betas 0.9 and 0.999 and weight decay on every parameter of the
head; 1,500 iterations of warm-up from 1e-6 of the learning rate, which decays linearly to 0, as
mmcv 1.x computes both. Sides that are no multiple of the patch are padded around the image or
window, and the padded map is stretched over it, as there: a shift of less than half a patch.

Maps of several layers are concatenated. Windows of test_mode 'slide' are crop_size, test_stride is
in pixels or a share of them; test_divisor: sides are padded at the right and bottom to multiples.
"""

REQUIRED_segmentation_linear = (
    "encoder", "weights", "layers", "num_layers", "num_classes", "norm", "dropout_ratio",
    "resize_features", "crop_size", "test_mode", "test_stride", "test_divisor", "lr",
    "weight_decay", "max_iters",
)  # fmt: skip
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
        test_cfg=dict(size_divisor="$test_divisor"),
    ),
    backbone=dict(
        type="DenseBackbone",
        encoder="$encoder",
        weights="$weights",
        out_indices="$layers",
        frozen=True,
        norm="$norm",
        center_pad=True,
    ),
    decode_head=dict(
        type="LinearSegHead",
        in_channels="$encoder.embed_dim",
        num_layers="$num_layers",
        num_classes="$num_classes",
        dropout_ratio="$dropout_ratio",
        resize_features="$resize_features",
    ),
    test_cfg=dict(mode="$test_mode", crop_size="$crop_size", stride="$test_stride"),
)
sync_bn = "torch"
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr="$lr", betas=(0.9, 0.999), weight_decay="$weight_decay"),
    constructor="EncoderLayerDecay",
    paramwise_cfg=dict(layer_decay=1.0, decay_norm_and_bias=True),
)
param_scheduler = [
    dict(
        type="WarmupPolyLR",
        power=1.0,
        warmup=1500,
        line_from=1e-6,
        by_epoch=False,
        begin=0,
        end="$max_iters",
    ),
]
