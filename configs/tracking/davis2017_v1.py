"""DAVIS 2017: layer and setting chosen on train, reported once on val. The default.

Paper:    propagation as DINO and DINOv3 (arXiv:2104.14294, arXiv:2508.10104); chosen on train as in
          DINOv3, together with the layer, which PE shows to matter (arXiv:2504.13181, table 36).
Data:     DAVIS 2017, 480p, as it is unpacked: https://davischallenge.org/davis2017/code.html
Command:  python tools/test.py configs/tracking/davis2017_v1.py \\
              --encoder pe_spatial_s16_512
Cost:     not measured yet; one encoder pass over 60 train and 30 val videos.
Expected: not measured yet; no paper has this protocol.
"""

_base_ = [
    "../_base_/runtime.py",
    "../_base_/tracking.py",
    "../_base_/propagation_grid.py",
    "../_base_/datasets/davis2017.py",
]
protocol = dict(
    id="davis2017",
    version=1,
    task="tracking",
    dataset="davis2017",
    split="val",
    metric="J&F",
    higher_is_better=True,
)

encoder = "pe_spatial_s16_512"
weights = "released"
test_dataloader = dict(dataset=dict(selection=dict(split_file="ImageSets/2017/train.txt")))
short_side = 30
report = "selected"
default_hooks = dict(logger=dict(interval=1))  # one iteration is one video
