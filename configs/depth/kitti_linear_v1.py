"""KITTI depth by linear probes of every layer of a frozen encoder: this project's default.

Paper:    none; the protocol of this project. Frozen encoder, batch norm and a linear layer on one
          layer; layer and learning rate chosen on held-out training images, never on the reported
          split; three seeds; 95 % intervals.
Held out: 2,313 of 23,158 training images (9.99 %), 11 of 33 whole drives, none longer than a
          quarter of that: so none of nine with 693 to 5,167 frames. The reported split has drives
          of its own, too.
Data:     KITTI, Eigen split: python tools/prepare_data.py kitti DIR
Command:  python tools/train.py configs/depth/kitti_linear_v1.py \\
              --encoder pe_spatial_b16_512
          python tools/test.py configs/depth/kitti_linear_v1.py \\
              work_dirs/kitti_linear_v1-pe_spatial_b16_512
Cost:     one GPU, batch 16, 28 epochs (36,000 iterations); hours not measured.
Expected: not measured yet. Near: RMSE 3.082 for PE Spatial G/14 by DINOv3's protocol.
"""

_base_ = [
    "../_base_/runtime.py",
    "../_base_/probing.py",
    "../_base_/depth_probing.py",
    "../_base_/datasets/kitti.py",
]
protocol = dict(
    id="kitti-linear",
    version=1,
    task="depth",
    dataset="kitti-eigen",
    split="test",
    metric="rmse",
    higher_is_better=False,
)

encoder = "pe_spatial_b16_512"
weights = "released"
holdout_group = "sequence"
max_epochs = 28
