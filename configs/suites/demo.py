"""The demo's suite: what frozen features are worth on mini world 2, in two tasks. `make demo`.

Random weights of a ViT of DINOv2's shape are a weak control: timm draws LayerScales of 1e-5, which
leave a token little more than its own patch.

Data:     python tools/prepare_data.py mini2
Command:  python tools/benchmark.py --suite demo --encoders NAME=FILE NAME=random
Cost:     about 2 min per encoder on 2 CPU cores with a ViT-S/14.
"""

suite = dict(
    weights="random",
    seeds=1,
    runs=[
        dict(config="configs/segmentation/linear_frozen_mini2.py", minutes=1.5),
        dict(config="configs/tracking/mini2_one_layer.py", minutes=1),
    ],
)
