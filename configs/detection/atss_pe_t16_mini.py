"""ATSS on PE Spatial T/16 for the mini world, from random weights: what `make demo` trains.

Data:     python tools/prepare_data.py mini
Command:  python tools/train.py configs/detection/atss_pe_t16_mini.py
          python tools/test.py configs/detection/atss_pe_t16_mini.py work_dirs/atss_pe_t16_mini
Cost:     3 min on 2 CPU cores.

A dense detector, because a set-based one (dino_pe_t16_mini.py) has learnt nothing yet after the
few hundred steps that fit into a demo. Only the first two blocks are used: the deep ones of an
encoder with random weights need far longer to become useful.
"""

_base_ = [
    "../_base_/runtime.py",
    "../_base_/coco_small.py",
    "../_base_/atss_small.py",
    "../_base_/datasets/mini_detection.py",
]
protocol = dict(
    id="mini-detection",
    version=1,
    task="detection",
    dataset="mini",
    split="val",
    metric="AP",
    higher_is_better=True,
    # The world of seed 0 in its default size; any other is another protocol.
    annotations_sha256="447be409ac2e34bc72610e2e774a9cc3123af30330ba9e0a774618baf57e2133",
)

encoder = "pe_spatial_t16_512"
weights = "random"
block = 1
max_epochs = 7
batch_size = 4
lr = 1e-3
backbone_lr_mult, layer_decay = 1.0, 1.0
val_interval = 7
optim_wrapper = dict(clip_grad=dict(max_norm=10.0))
