"""KITTI depth by linear bins on the last layer of a frozen encoder, as DINOv2 measures it.

Paper:    DINOv2 (arXiv:2304.07193, section 7.4, column "lin. 1"): the last layer, no final norm,
          class token concatenated, bilinear x4, 256 even bins, mirrored copy averaged.
Data:     KITTI, Eigen split: python tools/prepare_data.py kitti DIR
Command:  torchrun --nproc-per-node 8 tools/train.py configs/depth/kitti_linear1_dinov2.py \\
              --launcher pytorch
          python tools/test.py configs/depth/kitti_linear1_dinov2.py \\
              work_dirs/kitti_linear1_dinov2
Cost:     8 GPUs x 2 images, 38,400 iterations; hours not measured.
Expected: RMSE 3.10 / 2.90 / 2.78 / 2.62 for DINOv2 S / B / L / g (reported, DINOv2 paper). PE: none
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
    id="kitti-linear1-dinov2",
    version=1,
    task="depth",
    dataset="kitti-eigen",
    split="test",
    metric="rmse",
    higher_is_better=False,
)

layers = [-1]
default_hooks = dict(checkpoint=dict(interval="$val_interval", by_epoch=False))
log_processor = dict(by_epoch=False)
