"""NYUv2 depth by batch norm and linear bins on the last layer, as EUPE measures it.

Paper:    EUPE (arXiv:2603.22387, table 1; facebookresearch/EUPE @ f6cdf04). Its evaluation is
          DINOv3's code with two other numbers: weight decay 1e-3 for 1e-4, and 16 images in one
          process for 2 in each of 8.
Data:     NYUv2 in the layout of BTS: python tools/prepare_data.py nyu DIR
Command:  python tools/train.py configs/depth/nyu_linear_eupe.py
          python tools/test.py configs/depth/nyu_linear_eupe.py work_dirs/nyu_linear_eupe
Cost:     1 GPU x 16 images, 38,400 iterations; hours not measured.
Expected: RMSE 0.391 for EUPE B/16, 0.389 for PE Spatial B/16 (reported, EUPE paper, table 1). Three
          of its baselines are DINOv3's numbers, digit for digit, although the decay differs.
Choices:  Those of nyu_linear_dinov3.py: images are normalised with the encoder's own mean and
          deviation; encoders without a final norm give their last block as it is; images are turned
          by OpenCV, which rounds to whole grey levels; epochs follow each other without the
          incomplete batch that is dropped there. Step by step: docs/protocols/nyu_linear_eupe.md.
"""

_base_ = ["./nyu_linear_dinov3.py"]
protocol = dict(id="nyu-linear-eupe")

encoder = "eupe_b16"
batch_size = 16
processes = 1
weight_decay = 1e-3
