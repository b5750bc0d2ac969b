"""Linear segmentation probes of all 12 layers of PE Spatial T/16, on mini world 2.

Paper:    as segmentation_pe_t16_mini.py, on a world in which position says little.
Data:     python tools/prepare_data.py mini2
Command:  python tools/train.py configs/probing/segmentation_pe_t16_mini2.py --weights released
          python tools/test.py configs/probing/segmentation_pe_t16_mini2.py \\
              work_dirs/segmentation_pe_t16_mini2-released
Cost:     10 min of training and 2 min of scoring on 2 CPU cores, for all heads and three seeds.
Expected: not measured yet; the best predictor without the picture has mIoU 0.022.
"""

_base_ = ["./segmentation_pe_t16_mini.py"]
protocol = dict(id="mini2-segmentation-probe", dataset="mini2")

data_root = "data/mini2/ade"
classes = [
    "sky", "wall", "ground", "path",
    "disc", "box", "triangle", "star", "ring", "cross", "heart", "moon", "arrow",
]  # fmt: skip
num_classes = 13
