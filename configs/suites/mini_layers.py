"""The layers suite on generated data: every layer, segmentation, depth and tracking.

Data:     python tools/prepare_data.py mini
Command:  python tools/benchmark.py --suite mini_layers --encoders pe_spatial_t16_512=released
Cost:     about half an hour per encoder on 2 CPU cores.

Draws work_dirs/mini_layers/layers.{png,svg} and a table.
"""

suite = dict(
    weights="random",
    seeds=1,
    layer_curves=True,
    runs=[
        dict(config="configs/probing/segmentation_pe_t16_mini.py", minutes=15),
        dict(config="configs/probing/depth_pe_t16_mini.py", minutes=15),
        dict(config="configs/tracking/mini_layers.py", minutes=2),
    ],
)
