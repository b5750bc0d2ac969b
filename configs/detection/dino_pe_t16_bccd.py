"""DINO on PE Spatial T/16 for blood cells (BCCD, 205 training images), from random weights.

Paper:    DINO (arXiv:2203.03605) on PE Spatial (arXiv:2504.13181).
Data:     BCCD as COCO JSON, 640x480, classes RBC, WBC, Platelets; data_root is any folder with
          images/ and annotations/{train,val}.json.
Command:  python tools/train.py configs/detection/dino_pe_t16_bccd.py --cfg-options data_root=DIR
          python tools/test.py configs/detection/dino_pe_t16_bccd.py work_dirs/dino_pe_t16_bccd \\
              --cfg-options data_root=DIR
Cost:     about 30 min on 2 CPU cores (1 GB of memory), a few minutes on a GPU.
Expected: AP 0.517, AP50 0.799 on val (benchmarks/records; one seed, so allow +-0.02).
"""

_base_ = [
    "../_base_/runtime.py",
    "../_base_/coco_small.py",
    "../_base_/dino_small.py",
    "../_base_/datasets/bccd.py",
]
protocol = dict(
    id="bccd-detection-scratch",
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
# From random weights the encoder wants a smaller step than the new layers, the same for every
# block; from released weights use backbone_lr_mult=1.0 layer_decay=0.8 lr=1e-4.
backbone_lr_mult, layer_decay = 0.25, 1.0
val_interval = 8
