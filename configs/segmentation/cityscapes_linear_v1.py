"""Cityscapes by linear probes of every layer of a frozen encoder: this project's default.

Paper:    none; the protocol of this project. Frozen encoder, batch norm and a linear layer on one
          layer; layer and learning rate chosen on held-out training images, never on the reported
          split; three seeds; 95 % intervals.
Held out: 279 of 2,975 training images (9.4 %), three whole cities, as val has cities of its own:
          Darmstadt, Krefeld and Ulm, which show all 19 classes. Picked one by one, nearly every
          image would have the frame before or after it in training.
Data:     Cityscapes with labelTrainIds: python tools/prepare_data.py cityscapes DIR --train-ids
Command:  python tools/train.py configs/segmentation/cityscapes_linear_v1.py \\
              --encoder pe_spatial_b16_512
          python tools/test.py configs/segmentation/cityscapes_linear_v1.py \\
              work_dirs/cityscapes_linear_v1-pe_spatial_b16_512
Cost:     one GPU, batch 16, 120 epochs (20,000 iterations); hours not measured.
Expected: not measured yet. Near: 73.2 for PE Spatial G/14 by DINOv3's protocol (arXiv:2508.10104).
"""

_base_ = [
    "../_base_/runtime.py",
    "../_base_/probing.py",
    "../_base_/segmentation_probing.py",
    "../_base_/datasets/cityscapes.py",
]
protocol = dict(
    id="cityscapes-linear",
    version=1,
    task="segmentation",
    dataset="cityscapes",
    split="val",
    metric="mIoU",
    higher_is_better=True,
)

encoder = "pe_spatial_b16_512"
weights = "released"
holdout_group = "sequence"
short_side = "$encoder.side_of_64_tokens"  # at 32, a pole is thinner than a patch
max_epochs = 120
