"""ATSS on PE Spatial T/16 for mini world 2, from random weights.

Data:     python tools/prepare_data.py mini2
Command:  python tools/train.py configs/detection/atss_pe_t16_mini2.py
          python tools/test.py configs/detection/atss_pe_t16_mini2.py work_dirs/atss_pe_t16_mini2
Cost:     3 min on 2 CPU cores.
"""

_base_ = ["./atss_pe_t16_mini.py"]
protocol = dict(
    id="mini2-detection",
    dataset="mini2",
    # The world of seed 0 in its default size; any other is another protocol.
    annotations_sha256="e817d53fcaa91c4024e2766d5a9405b1d5e021497aab4a39557fdfb86f51de3d",
)

data_root = "data/mini2/coco"
classes = ["disc", "box", "triangle", "star", "ring", "cross", "heart", "moon", "arrow"]
num_classes = 9
