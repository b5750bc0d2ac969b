"""NYUv2 depth by linear bins on four layers of a frozen encoder, as DINOv2 measures it.

Paper:    DINOv2 (arXiv:2304.07193, section 7.4, column "lin. 4"): four layers, no final norm, class
          token concatenated, bilinear x4, 256 even bins, mirrored copy averaged.
Data:     NYUv2 in the layout of BTS: python tools/prepare_data.py nyu DIR
Command:  torchrun --nproc-per-node 8 tools/train.py configs/depth/nyu_linear4_dinov2.py \\
              --launcher pytorch
          python tools/test.py configs/depth/nyu_linear4_dinov2.py \\
              work_dirs/nyu_linear4_dinov2
Cost:     8 GPUs x 2 images, 38,400 iterations; hours not measured.
Expected: RMSE 0.417 / 0.362 / 0.333 / 0.298 for DINOv2 S / B / L / g (reported, DINOv2 paper). PE:
          none published under this protocol.
Choices:  As ../_base_/depth_dinov2.py says.
"""

_base_ = [
    "../_base_/runtime.py",
    "../_base_/depth.py",
    "../_base_/depth_dinov2.py",
    "../_base_/datasets/nyu.py",
]
protocol = dict(
    id="nyu-linear4-dinov2",
    version=1,
    task="depth",
    dataset="nyu",
    split="test",
    metric="rmse",
    higher_is_better=False,
)

layers = "$encoder.four_layers"
model = dict(decode_head=dict(num_layers=4))
default_hooks = dict(checkpoint=dict(interval="$val_interval", by_epoch=False))
log_processor = dict(by_epoch=False)
