"""PASCAL VOC 2012 by linear probes of every layer of a frozen encoder: this project's default.

Paper:    none; the protocol of this project. Frozen encoder, batch norm and a linear layer on one
          layer; layer and learning rate chosen on held-out training images, never on the reported
          split; three seeds; 95 % intervals.
Held out: 1,058 of 10,582 training images, one by one in the order of a hash. The list names no
          sequences; whether some images show one scene is not known.
Data:     VOC 2012 with the labels of SBD: python tools/prepare_data.py voc DIR --aug SBD_DIR
Command:  python tools/train.py configs/segmentation/voc2012_linear_v1.py \\
              --encoder pe_spatial_b16_512
          python tools/test.py configs/segmentation/voc2012_linear_v1.py \\
              work_dirs/voc2012_linear_v1-pe_spatial_b16_512
Cost:     one GPU, batch 16, 40 epochs (24,000 iterations); hours not measured.
Expected: not measured yet. Near: 82.7 for PE Spatial G/14 by DINOv3's protocol (arXiv:2508.10104).
"""

_base_ = [
    "../_base_/runtime.py",
    "../_base_/probing.py",
    "../_base_/segmentation_probing.py",
    "../_base_/datasets/voc2012.py",
]
protocol = dict(
    id="voc2012-linear",
    version=1,
    task="segmentation",
    dataset="voc2012",
    split="val",
    metric="mIoU",
    higher_is_better=True,
)

encoder = "pe_spatial_b16_512"
weights = "released"
holdout_group = "image"
short_side = "$encoder.side_of_32_tokens"
max_epochs = 40
