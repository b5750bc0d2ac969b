"""Clips of mini world 2, with a moving camera: all 12 layers of PE Spatial T/16 and 6 settings.

Paper:    layer by layer as PE (arXiv:2504.13181, table 36), as mini_layers.py: the best one is
          chosen on the reported clips, so it is optimistic.
Data:     python tools/prepare_data.py mini2
Command:  python tools/test.py configs/tracking/mini2_layers.py --weights released
Cost:     22 s on one CPU core.
Expected: J&F 0.443 [0.233, 0.690] with random weights (layer 11); first mask copied 0.087.
"""

_base_ = ["./mini_layers.py"]
protocol = dict(id="mini2-vos-layers", dataset="mini2")

data_root = "data/mini2/davis"
