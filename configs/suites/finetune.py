"""The fine-tuning suite: what an encoder is worth as a starting point.

Data:     BCCD as COCO JSON, its folder given by --data bccd=DIR.
Command:  python tools/benchmark.py --suite finetune --encoders pe_spatial_b16_512
Cost:     about 15 min per encoder and seed on a GPU.
"""

suite = dict(
    weights="released",
    seeds=3,
    runs=[dict(config="configs/detection/dino_finetune_bccd.py", minutes=15)],
)
