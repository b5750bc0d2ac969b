"""KITTI depth by linear bins on four layers of a frozen encoder, as DINOv2 measures it.

Paper:    DINOv2 (arXiv:2304.07193, section 7.4, column "lin. 4"): four layers, no final norm, class
          token concatenated, bilinear x4, 256 even bins, mirrored copy averaged.
Data:     KITTI, Eigen split: python tools/prepare_data.py kitti DIR
Command:  torchrun --nproc-per-node 8 tools/train.py configs/depth/kitti_linear4_dinov2.py \\
              --launcher pytorch
          python tools/test.py configs/depth/kitti_linear4_dinov2.py \\
              work_dirs/kitti_linear4_dinov2
Cost:     8 GPUs x 2 images, 38,400 iterations; hours not measured.
Expected: RMSE 2.86 / 2.59 / 2.50 / 2.35 for DINOv2 S / B / L / g (reported, DINOv2 paper). PE: none
          published under this protocol.
Choices:  As ../_base_/depth_dinov2.py says.
"""

_base_ = [
    "../_base_/runtime.py",
    "../_base_/depth.py",
    "../_base_/depth_dinov2.py",
    "../_base_/datasets/kitti.py",
]
protocol = dict(
    id="kitti-linear4-dinov2",
    version=1,
    task="depth",
    dataset="kitti-eigen",
    split="test",
    metric="rmse",
    higher_is_better=False,
)

layers = "$encoder.four_layers"
model = dict(decode_head=dict(num_layers=4))
default_hooks = dict(checkpoint=dict(interval="$val_interval", by_epoch=False))
log_processor = dict(by_epoch=False)
