"""DETA on PE Spatial T/16 for the mini world, from random weights.

Paper:    DETA (arXiv:2212.06137) on PE Spatial (arXiv:2504.13181).
Data:     python tools/prepare_data.py mini
Command:  python tools/train.py configs/detection/deta_pe_t16_mini.py
          python tools/test.py configs/detection/deta_pe_t16_mini.py work_dirs/deta_pe_t16_mini
Cost:     5 min on 2 CPU cores.
Expected: AP 0.008, AP50 0.030: too short for DETA from random weights.
"""

_base_ = [
    "../_base_/runtime.py",
    "../_base_/coco_small.py",
    "../_base_/deta_small.py",
    "../_base_/datasets/mini_detection.py",
]
protocol = dict(
    id="mini-detection-deta",
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
model = dict(backbone=dict(out_indices=["$block"]))
max_epochs = 7
batch_size = 4
lr = 8e-4
backbone_lr_mult, layer_decay = 1.0, 1.0
val_interval = 7
