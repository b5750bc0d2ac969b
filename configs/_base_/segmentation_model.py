"""A segmentor on a plain encoder, without its head."""

REQUIRED_segmentation_model = (
    "encoder", "weights", "layers", "frozen", "crop_size", "model.decode_head",
)  # fmt: skip
test_mode = "whole"
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
        out_indices="$layers",
        frozen="$frozen",
        norm=False,
    ),
    test_cfg=dict(mode="$test_mode"),
)
