"""Clips of mini world 2 by the last layer: what a user gets who asks an encoder for its output.

Beside mini2_one_layer.py it shows what aligning an encoder did to its end: nothing is trained here
and nothing is chosen.

Paper:    propagation as DINO and DINOv3 (arXiv:2104.14294, arXiv:2508.10104); the last block as the
          place to which alignment brings features: PE (arXiv:2504.13181).
Data:     python tools/prepare_data.py mini2
Command:  python tools/test.py configs/tracking/mini2_last_layer.py --weights released
Cost:     about a minute on 2 CPU cores with a ViT-S/14.
Expected: a ViT-S/14 (docs/encoders.md): J&F 45.2 [38.4, 53.3] pretrained, 34.9 [23.3, 45.8]
          random; aligned on photos 67.3 [58.7, 76.5] (docs/real_encoder.md); 9.0 for the first
          mask copied.
"""

_base_ = ["./mini2_one_layer.py"]
protocol = dict(id="mini2-vos-last-layer")

layers = [-1]
