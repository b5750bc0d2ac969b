"""Clips of the mini world: all 12 layers of PE Spatial T/16 and 6 settings, from one pass.

Paper:    layer by layer as PE (arXiv:2504.13181, table 36): the best one is chosen on the reported
          clips, so it is optimistic.
Data:     python tools/prepare_data.py mini
Command:  python tools/test.py configs/tracking/mini_layers.py --weights released
Cost:     14 s on one CPU core; one layer and setting takes 6 s.
Expected: J&F 0.123 with random weights (layer 0); no trained encoder measured yet.
"""

_base_ = [
    "../_base_/runtime.py",
    "../_base_/tracking.py",
    "../_base_/propagation_grid.py",
    "../_base_/datasets/mini_videos.py",
]
protocol = dict(
    id="mini-vos-layers",
    version=1,
    task="tracking",
    dataset="mini",
    split="val",
    metric="J&F",
    higher_is_better=True,
)

encoder = "pe_spatial_t16_512"
weights = "random"
short_side = 16
listed_depth = 12
report = "best"
default_hooks = dict(logger=dict(interval=1))  # one iteration is one video
