"""NYUv2 depth by a DPT head on four layers of a frozen encoder, as DINOv2 measures it.

Paper:    DINOv2 (arXiv:2304.07193, section 7.4, column "DPT"); DPT (arXiv:2103.13413) with 256
          channels and readout "project", which regresses depth.
Data:     NYUv2 in the layout of BTS: python tools/prepare_data.py nyu DIR
Command:  torchrun --nproc-per-node 8 tools/train.py configs/depth/nyu_dpt_dinov2.py \\
              --launcher pytorch
          python tools/test.py configs/depth/nyu_dpt_dinov2.py \\
              work_dirs/nyu_dpt_dinov2
Cost:     8 GPUs x 2 images, 38,400 iterations; hours not measured.
Expected: RMSE 0.356 / 0.317 / 0.293 / 0.279 for DINOv2 S / B / L / g (reported, DINOv2 paper). PE:
          none published under this protocol.
Released: dinov2_*_nyu_dpt_head.pth are scored with nyu_dpt_dinov2_eval.py.
Choices:  As ../_base_/depth_dinov2.py says; without a class token readout "ignore".
"""

_base_ = [
    "../_base_/runtime.py",
    "../_base_/depth.py",
    "../_base_/depth_dinov2.py",
    "../_base_/datasets/nyu.py",
]
protocol = dict(
    id="nyu-dpt-dinov2",
    version=1,
    task="depth",
    dataset="nyu",
    split="test",
    metric="rmse",
    higher_is_better=False,
)

layers = "$encoder.four_layers"
model = dict(
    decode_head=dict(
        _delete_=True,
        type="DPTDepthHead",
        in_channels="$encoder.embed_dim",
        num_layers=4,
        min_depth="$min_depth",
        max_depth="$max_depth",
        readout="$encoder.dpt_readout",
        losses=[dict(type="ScaleInvariantLogLoss", warm_up_steps=100)],
    ),
)
default_hooks = dict(checkpoint=dict(interval="$val_interval", by_epoch=False))
log_processor = dict(by_epoch=False)
