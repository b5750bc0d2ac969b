"""Linear head on a PE Spatial T/16 trained from random weights: segmentation of mini world 2.

Paper:    linear head as DINOv2 (arXiv:2304.07193) on PE Spatial (arXiv:2504.13181), as
          linear_pe_t16_mini.py, on a world in which position says little.
Data:     python tools/prepare_data.py mini2
Command:  python tools/train.py configs/segmentation/linear_pe_t16_mini2.py
          python tools/test.py configs/segmentation/linear_pe_t16_mini2.py \\
              work_dirs/linear_pe_t16_mini2
Cost:     about 3 min on 2 quiet CPU cores.
Expected: mIoU 0.070 [0.060, 0.080], of things 0.000; without the picture 0.022.
"""

_base_ = ["./linear_pe_t16_mini.py"]
protocol = dict(id="mini2-segmentation", dataset="mini2")

data_root = "data/mini2/ade"
classes = [
    "sky", "wall", "ground", "path",
    "disc", "box", "triangle", "star", "ring", "cross", "heart", "moon", "arrow",
]  # fmt: skip
num_classes = 13
