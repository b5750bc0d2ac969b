"""Clips of mini world 2, with a moving camera: layer and setting chosen on train, reported on val.

Paper:    propagation as DINO and DINOv3 (arXiv:2104.14294, arXiv:2508.10104), as mini_v1.py.
Data:     python tools/prepare_data.py mini2
Command:  python tools/test.py configs/tracking/mini2_v1.py --weights released
Cost:     about 5 min on 2 busy CPU cores.
Expected: not measured yet; first mask copied 0.087.
"""

_base_ = ["./mini_v1.py"]
protocol = dict(id="mini2-vos", dataset="mini2")

data_root = "data/mini2/davis"
