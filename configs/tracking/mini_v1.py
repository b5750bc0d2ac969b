"""Clips of the mini world: layer and setting chosen on train, reported once on val.

Paper:    propagation as DINO and DINOv3 (arXiv:2104.14294, arXiv:2508.10104), as davis2017_v1.
Data:     python tools/prepare_data.py mini
Command:  python tools/test.py configs/tracking/mini_v1.py --weights released
Cost:     about 5 min on 2 busy CPU cores.
Expected: J&F 0.121 with random weights (layer 10, setting 3); no trained encoder measured yet.
"""

_base_ = [
    "../_base_/runtime.py",
    "../_base_/tracking.py",
    "../_base_/propagation_grid.py",
    "../_base_/datasets/mini_videos.py",
]
protocol = dict(
    id="mini-vos",
    version=1,
    task="tracking",
    dataset="mini",
    split="val",
    metric="J&F",
    higher_is_better=True,
)

encoder = "pe_spatial_t16_512"
weights = "random"
test_dataloader = dict(dataset=dict(selection=dict(split_file="ImageSets/2017/train.txt")))
short_side = 16
report = "selected"
default_hooks = dict(logger=dict(interval=1))  # one iteration is one video
