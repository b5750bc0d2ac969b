"""YouTube-VOS 2019: layer and setting chosen on 80 % of train, reported on the other 20 %.

Paper:    DINOv3 (arXiv:2508.10104, section 6.1) also splits train 80/20, at random; which videos is
          not known, so neither number compares to it exactly, nor to the official servers.
Data:     train set of YouTube-VOS 2019: https://youtube-vos.org/dataset/vos/
Command:  python tools/test.py configs/tracking/youtubevos_v1.py \\
              --encoder pe_spatial_s16_512
Cost:     not measured yet.
Expected: S 74.1, M 80.2, L 80.7 for DINOv3-7B, 68.5, 67.5, 55.6 for PE spatial G (DINOv3, table 5),
          on another split. Not reproduced here yet.

The videos with the lowest sha256 of their names are the 20 %. Objects that appear later are given
with their first mask and scored in the annotated frames after it.
"""

_base_ = ["./mose_v1.py"]
protocol = dict(id="youtube-vos", dataset="youtube-vos")

data_root = "data/youtubevos2019"
dataset = "youtubevos2019"  # part of the protocol, unlike the folder
