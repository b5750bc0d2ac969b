"""ByteTrack (arXiv:2110.06864) on the detector of mini world 2.

Data:     python tools/prepare_data.py mini2
Command:  python tools/train.py configs/detection/atss_pe_t16_mini2.py
          python tools/test.py configs/tracking/bytetrack_pe_t16_mini2.py \\
              work_dirs/atss_pe_t16_mini2
Cost:     10 s on one CPU core.
Expected: not measured yet; static boxes of the other sequences have a HOTA of 0.084.
"""

_base_ = ["./bytetrack_pe_t16_mini.py"]
protocol = dict(id="mini2-mot-bytetrack", dataset="mini2-mot")

data_root = "data/mini2/mot/test"
num_classes = 9
