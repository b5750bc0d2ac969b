"""Depth as DINOv2 trains it: depth.py with one-cycle momentum.

Source: DINOv2's released depth configs (facebookresearch/dinov2, momentum_config "OneCycle") and
mmcv 1.x, OneCycleMomentumUpdater: beta1 falls from 0.95 to 0.85 over the first 0.3 of the training
and rises back to 0.95, both along half a cosine.
"""

_base_ = ["./depth.py"]
param_scheduler = [
    dict(type="LinearLR", start_factor=1e-3, by_epoch=False, begin=0, end="$warmup_iters"),
    dict(type="CosineAnnealingLR", eta_min=0.0, by_epoch=False, begin=0, end="$max_iters"),
    dict(type="OneCycleMomentum", by_epoch=False, begin=0, end="$max_iters"),
]
