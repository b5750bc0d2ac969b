"""Segmentation by the names of classes: no training, every read-out and layer in one pass.

Read-out, layer and, where there is a background, its threshold are chosen on held-out images of the
training set, a tenth of them; the reported split is scored once. Windows have the tower's own size
and a step of half of it; the short side of an image is one and a half of it, as 336 and 224 px of
SCLIP (arXiv:2312.01597). model.names says what classes are called in prompts: class -> list.
"""

REQUIRED_segmentation_text = (
    "encoder", "weights", "classes", "templates", "readouts", "layers", "background",
    "thresholds", "train_dataloader", "test_dataloader",
)  # fmt: skip
custom_imports = dict(
    imports=[
        "pe_dense.run.resume",
        "pe_dense.zero_shot.image_text_backbone",
        "pe_dense.segmentation",
    ],
    allow_failed_imports=False,
)
default_scope = "mmseg"
training_free = True
holdout_share = 0.1
short_side = "$encoder.side_of_1_5_windows"
window = ("$encoder.native_side", "$encoder.native_side")
test_mode = "slide"
out_dir = None  # a folder gets a table and a picture of all read-outs and layers
num_workers = 2
model = dict(
    type="TextSegmentor",
    backbone=dict(type="ImageTextBackbone", encoder="$encoder", weights="$weights"),
    classes="$classes",
    templates="$templates",
    readouts="$readouts",
    layers="$layers",
    background="$background",
    thresholds="$thresholds",
    scale=100.0,
    test_cfg=dict(mode="$test_mode", crop_size="$window", stride=0.5),
    data_preprocessor=dict(
        type="SegDataPreProcessor",
        mean="$encoder.mean_255",
        std="$encoder.std_255",
        bgr_to_rgb=True,
        pad_val=0,
        seg_pad_val=255,
        size="$window",
        test_cfg=dict(size_divisor=1),
    ),
)
test_evaluator = dict(type="ReadoutMeanIoU", out_dir="$out_dir")
test_cfg = dict(type="TestLoop")
