"""The mini suite: detection on generated data, from random weights. What `make demo` runs.

Data:     python tools/prepare_data.py mini
Command:  python tools/benchmark.py --suite mini --encoders pe_spatial_t16_512 pe_core_t16_384
Cost:     about 3 min per encoder on 2 CPU cores.
"""

suite = dict(
    weights="random",
    seeds=1,
    runs=[dict(config="configs/detection/atss_pe_t16_mini.py", minutes=3)],
)
