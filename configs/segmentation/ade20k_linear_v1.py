"""ADE20K by linear probes of every layer of a frozen encoder: this project's default.

Paper:    none; the protocol of this project. Frozen encoder, batch norm and a linear layer on one
          layer; layer and learning rate chosen on held-out training images, never on the reported
          split; three seeds; 95 % intervals.
Held out: 2,021 of 20,210 training images, one by one in the order of a hash. The list names no
          sequences; whether some images show one scene is not known.
Data:     ADE20K (SceneParse150): python tools/prepare_data.py ade20k DIR
Command:  python tools/train.py configs/segmentation/ade20k_linear_v1.py \\
              --encoder pe_spatial_b16_512
          python tools/test.py configs/segmentation/ade20k_linear_v1.py \\
              work_dirs/ade20k_linear_v1-pe_spatial_b16_512
Cost:     one GPU, batch 16, 35 epochs (40,000 iterations); hours not measured.
Expected: not measured yet. Near: 44.4 for PE Spatial B/16 by PE's own protocol (arXiv:2504.13181).
"""

_base_ = [
    "../_base_/runtime.py",
    "../_base_/probing.py",
    "../_base_/segmentation_probing.py",
    "../_base_/datasets/ade20k.py",
]
protocol = dict(
    id="ade20k-linear",
    version=1,
    task="segmentation",
    dataset="ade20k",
    split="val",
    metric="mIoU",
    higher_is_better=True,
)

encoder = "pe_spatial_b16_512"
weights = "released"
holdout_group = "image"
short_side = "$encoder.side_of_32_tokens"
max_epochs = 35
