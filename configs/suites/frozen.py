"""The frozen suite: what the features of an encoder are worth as they are.

Data:     BCCD as COCO JSON, its folder given by --data bccd=DIR.
Command:  python tools/benchmark.py --suite frozen --encoders pe_spatial_b16_512 dinov2_b14
Cost:     about 10 min per encoder and seed on a GPU.
"""

suite = dict(
    weights="released",
    seeds=3,
    runs=[dict(config="configs/detection/dino_frozen_bccd.py", minutes=10)],
)
