"""NYUv2 depth by linear probes of every layer of a frozen encoder: this project's default.

Paper:    none; the protocol of this project. Frozen encoder, batch norm and a linear layer on one
          layer; layer and learning rate chosen on held-out training images, never on the reported
          split; three seeds; 95 % intervals.
Held out: 2,424 of 24,231 training images (10.0 %), 36 of 249 whole scenes: kitchen_0029a, b and
          c are one. The reported split has scenes of its own, too.
Data:     NYUv2 in the layout of BTS: python tools/prepare_data.py nyu DIR
Command:  python tools/train.py configs/depth/nyu_linear_v1.py \\
              --encoder pe_spatial_b16_512
          python tools/test.py configs/depth/nyu_linear_v1.py \\
              work_dirs/nyu_linear_v1-pe_spatial_b16_512
Cost:     one GPU, batch 16, 28 epochs (38,000 iterations); hours not measured.
Expected: not measured yet. Near: RMSE 0.362 for PE Spatial G/14 by DINOv3's protocol.
"""

_base_ = [
    "../_base_/runtime.py",
    "../_base_/probing.py",
    "../_base_/depth_probing.py",
    "../_base_/datasets/nyu.py",
]
protocol = dict(
    id="nyu-linear",
    version=1,
    task="depth",
    dataset="nyu",
    split="test",
    metric="rmse",
    higher_is_better=False,
)

encoder = "pe_spatial_b16_512"
weights = "released"
holdout_group = "sequence"
max_epochs = 28
