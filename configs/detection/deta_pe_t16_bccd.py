"""DETA on PE Spatial T/16 for blood cells (BCCD, 205 training images), from random weights.

Paper:    DETA (arXiv:2212.06137) on PE Spatial (arXiv:2504.13181).
Data:     as in dino_pe_t16_bccd.py.
Command:  python tools/train.py configs/detection/deta_pe_t16_bccd.py --cfg-options data_root=DIR
          python tools/test.py configs/detection/deta_pe_t16_bccd.py work_dirs/deta_pe_t16_bccd \\
              --cfg-options data_root=DIR
Cost:     51 min on 2 CPU cores that ran other programs too (1 GB of memory), a few minutes on a
          GPU.
Expected: AP 0.567, AP50 0.869 on val (benchmarks/records; one seed, so allow +-0.02). The DINO of
          dino_pe_t16_bccd.py reaches 0.517 and 0.799 in the same number of steps.
"""

_base_ = [
    "../_base_/runtime.py",
    "../_base_/coco_small.py",
    "../_base_/deta_small.py",
    "../_base_/datasets/bccd.py",
]
protocol = dict(
    id="bccd-detection-scratch-deta",
    version=1,
    task="detection",
    dataset="bccd",
    split="val",
    metric="AP",
    higher_is_better=True,
    # Another val.json is another protocol; the numbers published here are for this one.
    annotations_sha256="5e32c539c7101a0d0c3f674863dc624df3b44017f632a234def9747d3ec9cd9a",
)

encoder = "pe_spatial_t16_512"
weights = "random"
max_epochs = 32
batch_size = 2
lr = 4e-4
backbone_lr_mult, layer_decay = 0.25, 1.0
val_interval = 8
