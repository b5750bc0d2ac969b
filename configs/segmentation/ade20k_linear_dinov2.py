"""ADE20K by a linear head on the frozen last layer, as DINOv2 measures it.

Paper:    DINOv2 (arXiv:2304.07193, section 7.4, column "lin."), on mmseg 0.27. Short side 512 x
          0.5-2, crop 512, slide 512 by 341; for a patch of 14 each is padded around to 518 inside.
          The last model is scored, not the best on val.
Data:     ADE20K (SceneParse150): python tools/prepare_data.py ade20k DIR
Command:  torchrun --nproc-per-node 8 tools/train.py \\
              configs/segmentation/ade20k_linear_dinov2.py --launcher pytorch
          python tools/test.py configs/segmentation/ade20k_linear_dinov2.py \\
              work_dirs/ade20k_linear_dinov2
Cost:     8 GPUs x 2 images, 40,000 iterations; hours not measured.
Expected: mIoU 47.7 for DINOv2 L/14, 49.0 for g/14 (reported, DINOv2 paper). PE L/14: none
          published under this protocol.
Choices:  The released settings lie where they cannot be read; they are taken from copies
          (BrianPulfer/robustness-tokens, configs/eval/segmentation/original_confs: the folder's
          files for S, B, L and g; those beside it were changed to 518). Mean and std are the
          encoder's own. Encoders without a final norm (all of PE but Core) give their last block
          as it is. Epochs follow each other without the incomplete batch that is dropped there.
          Areas are summed in whole numbers. Step by step: docs/protocols/segmentation_dinov2.md.
"""

_base_ = [
    "../_base_/runtime.py",
    "../_base_/segmentation_data.py",
    "../_base_/segmentation_linear.py",
    "../_base_/datasets/ade20k.py",
]
protocol = dict(
    id="ade20k-linear-dinov2",
    version=1,
    task="segmentation",
    dataset="ade20k",
    split="val",
    metric="mIoU",
    higher_is_better=True,
)

encoder = "pe_spatial_l14_448"
weights = "released"
layers, num_layers = [-1], 1
norm = "$encoder.has_final_norm"
dropout_ratio = 0.0
resize_features = None
crop_size = (512, 512)
train_scale, ratio_range = (99_999_999, 512), (0.5, 2.0)
test_scale = (99_999_999, 512)
test_mode, test_stride, test_divisor = "slide", (341, 341), 1
batch_size = 2
processes = 8
max_iters, val_interval = 40_000, 10_000
lr, weight_decay = 1e-3, 1e-4
default_hooks = dict(
    logger=dict(interval=50),
    checkpoint=dict(interval="$val_interval", by_epoch=False),
)
log_processor = dict(window_size=50, by_epoch=False)
