"""Clips of the mini world: layer and setting chosen on train, reported once on val.

Paper:    propagation as DINO and DINOv3 (arXiv:2104.14294, arXiv:2508.10104), as davis2017_v1.
Data:     python tools/prepare_data.py mini
Command:  python tools/test.py configs/tracking/mini_v1.py --weights released
Cost:     about 5 min on 2 busy CPU cores.
Expected: J&F 0.121 with random weights (layer 10, setting 3); no trained encoder measured yet.
"""

_base_ = ["../_base_/runtime.py", "../_base_/tracking.py"]
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
data_root = "data/mini/davis"
resolution, style = "480p", "davis"
split_file = "ImageSets/2017/val.txt"
test_dataloader = dict(dataset=dict(selection=dict(split_file="ImageSets/2017/train.txt")))
norm = False
layers = "all"
settings = [
    dict(last_frames=n, radius=12, neighbourhood="circle", topk=k, temperature=t)
    for n in (7, 15)
    for k, t in ((5, 0.1), (5, 0.2), (10, 0.1))
]
size_rule, short_side = "dinov3", 16
upsample, stretch = "image", False
report = "selected"
default_hooks = dict(logger=dict(interval=1))  # one iteration is one video
