"""DAVIS 2017 as DINOv3 evaluates it, size M: 60 patches short side, setting chosen on train.

Paper:    DINOv3 (arXiv:2508.10104, section 6.1, table 5 and appendix D): 840 / 960 px for patch
          14 / 16, the other side rounded up to a multiple of the patch; bilinear to the native
          size, then the best label. Step by step: docs/protocols/davis_dinov3.md.
Data:     DAVIS 2017, 480p, as it is unpacked: https://davischallenge.org/davis2017/code.html
Command:  python tools/test.py configs/tracking/davis2017_dinov3_medium.py \\
              --encoder pe_spatial_s16_512
Cost:     not measured yet; 18 settings on 60 train videos, one on 30 val videos.
Expected: J&F 79.7 (DINOv3-7B), 73.6 (DINOv2 g), 74.5 (PE spatial G) (DINOv3, table 5).
          Not reproduced here yet.
Choices:  The output rule is the paper's. The released notebook has another one, each pixel takes
          its token's labels, each label is stretched to 0..1, then the best label: that is
          davis2017_dinov3_notebook. The paper's 18 settings are not listed; the ones here change
          one value of the notebook at a time, among the values the paper names, which makes 18.
          Colours are normalised by the encoder's own mean and deviation.
"""

_base_ = ["./davis2017_dinov3_small.py"]
protocol = dict(id="davis-dinov3-m")

short_side = 60
