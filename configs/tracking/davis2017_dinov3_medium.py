"""DAVIS 2017 as DINOv3 evaluates it, size M: 60 patches short side, setting chosen on train.

Paper:    DINOv3 (arXiv:2508.10104, section 6.1 and table 5): 840 / 960 px for patch 14 /
          16, the other side rounded up to a multiple of the patch. Its 18 settings
          are not listed; the ones here change one value of its notebook at a time, among the
          values it names, which makes 18.
Data:     DAVIS 2017, 480p, as it is unpacked: https://davischallenge.org/davis2017/code.html
Command:  python tools/test.py configs/tracking/davis2017_dinov3_medium.py \\
              --encoder pe_spatial_s16_512 --weights released
Cost:     not measured yet; 18 settings on 60 train videos, one on 30 val videos.
Expected: J&F 79.7 (DINOv3-7B), 73.6 (DINOv2 g), 74.5 (PE spatial G) (DINOv3, table 5).
          Not reproduced here yet.
"""

_base_ = ["./davis2017_dinov3_small.py"]
protocol = dict(id="davis-dinov3-m")

short_side = 60
