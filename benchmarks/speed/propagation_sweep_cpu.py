"""A sweep of label propagation over layers and settings against a single run, on a CPU.

    OMP_NUM_THREADS=1 python benchmarks/speed/propagation_sweep_cpu.py --repeats 3

Both read configs/tracking/mini_layers.py (12 layers x 6 settings of PE Spatial T/16) on the
reported clips of the mini world, from files to scores, with random weights. 'single' is the last
layer under the first setting. They take turns in one process, and the ratio is sweep over single.
Target: at most 2. Both count processor time of all threads as well as the clock: on a busy
machine the first is the steadier one. Needs `python tools/prepare_data.py mini`.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time

from measure import FOLDER, ROOT, command_line, hardware, versions, write_rows
from mmengine.registry import DATASETS, MODELS, init_default_scope
from torch import nn

from pe_dense.run.config import load_config

CONFIG = ROOT / "configs/tracking/mini_layers.py"


def run_s(model: nn.Module, videos: list[dict]) -> tuple[float, float]:
    """Seconds of the clock and of the processor."""
    clock, processor = time.perf_counter(), time.process_time()
    for video in videos:
        model.propagate(video)
    return time.perf_counter() - clock, time.process_time() - processor


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--clips", type=int, help="so many only")
    parser.add_argument("--threads", type=int, default=1, help="of the model")
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    cfg, _ = load_config(str(CONFIG), None, "random", {"data_root": str(ROOT / "data/mini/davis")})
    init_default_scope("mmengine")
    single = copy.deepcopy(cfg.model)
    single.update(layers=[-1], settings=cfg.model.settings[:1])
    models = {
        name: MODELS.build({**model, "threads": args.threads})
        for name, model in (("single", single), ("sweep", cfg.model))
    }
    data = DATASETS.build(cfg.test_dataloader.dataset)
    videos = [data.get_data_info(i) for i in range(len(data))][: args.clips]
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in models}
    for model in models.values():
        run_s(model, videos[:1])
    for _ in range(args.repeats):
        for name, model in models.items():
            times[name].append(run_s(model, videos))
    medians = {
        name: [statistics.median(column) for column in zip(*rows, strict=True)]
        for name, rows in times.items()
    }
    row = {
        "clips": len(videos),
        "layers": len(models["sweep"].layers),
        "settings": len(models["sweep"].settings),
        "threads": args.threads,
        **{f"{name}_s": round(found[0], 2) for name, found in medians.items()},
        **{f"{name}_processor_s": round(found[1], 2) for name, found in medians.items()},
        "ratio": round(medians["sweep"][0] / medians["single"][0], 2),
        "processor_ratio": round(medians["sweep"][1] / medians["single"][1], 2),
        "repeats": args.repeats,
        "hardware": hardware(),
        "versions": versions("numpy", "opencv-python"),
        "command": command_line(),
    }
    print(*(f"{key}={value}" for key, value in list(row.items())[:11]), flush=True)
    write_rows(FOLDER / "propagation_sweep_cpu.csv", [row], ("clips", "threads"))


if __name__ == "__main__":
    main()
