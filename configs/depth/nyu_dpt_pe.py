"""NYUv2 depth by a DPT head on one layer of a frozen encoder, as PE measures it.

Paper:    PE (arXiv:2504.13181, appendix B.3.3): DPT head on one layer, width scaled with the
          encoder, 20 epochs, the best of all epochs on the test set (paper-compat selection: such a
          score is optimistic). Both last and best layer are published: --cfg-options layer=40.
Data:     NYUv2 in the layout of BTS: python tools/prepare_data.py nyu DIR
Command:  python tools/train.py configs/depth/nyu_dpt_pe.py
          python tools/test.py configs/depth/nyu_dpt_pe.py \\
              work_dirs/nyu_dpt_pe/best_depth_rmse_iter_N.pth   (the one file of that name)
Cost:     one GPU, 20 epochs of 24,231 pairs, batch 16; hours not measured.
Expected: RMSE of the last / best layer: 0.275 / 0.262 (layer index 45) for PE Spatial G/14, 0.309 /
          0.249 (38) for PE Core G/14, 0.290 / 0.279 for DINOv2 g/14 (reported, PE paper, table 13).
Choices:  Loss, learning rate, batch, image size and padding are not published; those of DINOv2's
          DPT recipe are used, in one process, and its head, which regresses. Its width is half of
          the encoder's. The layer is reassembled four times. "Lowest validation loss" is the lowest
          RMSE here.
"""

_base_ = [
    "../_base_/runtime.py",
    "../_base_/depth.py",
    "../_base_/depth_dinov2.py",
    "../_base_/datasets/nyu.py",
]
protocol = dict(
    id="nyu-dpt-pe-last-layer",
    version=1,
    task="depth",
    dataset="nyu",
    split="test",
    metric="rmse",
    higher_is_better=False,
    selection="test-best (paper-compat)",
)

encoder = "pe_spatial_g14_448"
layer = -1
layers = ["$layer"]
batch_size = 16
processes = 1
max_iters, val_interval = 30_280, 1_514
warmup_iters = 1_514
model = dict(
    decode_head=dict(
        _delete_=True,
        type="DPTDepthHead",
        in_channels="$encoder.embed_dim",
        channels="$encoder.half_width",
        num_layers=1,
        min_depth="$min_depth",
        max_depth="$max_depth",
        readout="$encoder.dpt_readout",
        losses=[dict(type="ScaleInvariantLogLoss", warm_up_steps=100)],
    ),
)
default_hooks = dict(
    checkpoint=dict(interval="$val_interval", by_epoch=False, save_best="depth/rmse", rule="less")
)
log_processor = dict(by_epoch=False)
