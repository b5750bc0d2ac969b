"""ATSS on PE Spatial T/16 for mini world 2, from random weights.

Data:     python tools/prepare_data.py mini2
Command:  python tools/train.py configs/detection/atss_pe_t16_mini2.py
          python tools/test.py configs/detection/atss_pe_t16_mini2.py work_dirs/atss_pe_t16_mini2
Cost:     3 min on 2 CPU cores.
Expected: not measured yet; the mean layout of the training boxes has an AP of 0.000.
"""

_base_ = ["./atss_pe_t16_mini.py"]
protocol = dict(
    id="mini2-detection",
    dataset="mini2",
    # The world of seed 0 in its default size; any other is another protocol.
    annotations_sha256="d1362add2876ab39247fc76a4323c7f9e74d3ec94ef406c806a39c3cf734e68c",
)

data_root = "data/mini2/coco"
classes = ["disc", "box", "triangle", "star", "ring", "cross", "heart", "moon", "arrow"]
num_classes = 9
