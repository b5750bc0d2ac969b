"""The layers suite: how good every layer of a frozen encoder is, for each dense task.

Data:     ADE20K, NYUv2, DAVIS 2017 and COCO, their folders given by --data ade20k=DIR nyu=DIR ...
Command:  python tools/benchmark.py --suite layers --encoders pe_spatial_b16_512 pe_core_b16_224
Cost:     hours per encoder on a GPU; frozen detection trains once for each of six layers.

Draws work_dirs/layers/layers.{png,svg} and a table, in the manner of PE's layer figure.
"""

suite = dict(
    weights="released",
    seeds=1,
    layer_curves=True,
    runs=[
        dict(config="configs/segmentation/ade20k_linear_v1.py", minutes=600),
        dict(config="configs/depth/nyu_linear_v1.py", minutes=600),
        dict(config="configs/tracking/davis2017_layers_pe.py", minutes=60),
        dict(config="configs/detection/frozen_vitdet_coco_15ep.py", layers=6, minutes=1200),
    ],
)
