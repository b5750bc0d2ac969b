"""Linear depth bins on a PE Spatial T/16 trained from random weights: depth of mini world 2.

Paper:    linear head as DINOv2 (arXiv:2304.07193) on PE Spatial (arXiv:2504.13181), as
          linear_pe_t16_mini.py, on a world in which position says little.
Data:     python tools/prepare_data.py mini2
Command:  python tools/train.py configs/depth/linear_pe_t16_mini2.py
          python tools/test.py configs/depth/linear_pe_t16_mini2.py \\
              work_dirs/linear_pe_t16_mini2
Cost:     about 3 min on 2 quiet CPU cores.
Expected: not measured yet; the mean map of the training depth has an RMSE of 1.45 m.
"""

_base_ = ["./linear_pe_t16_mini.py"]
protocol = dict(id="mini2-depth", dataset="mini2")

data_root = "data/mini2/nyu"
