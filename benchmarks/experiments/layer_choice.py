"""What layers=best sees on real data: every block, and four blocks side by side, by ridge probes.

    python benchmarks/experiments/layer_choice.py TASK DATA_ROOT --encoder NAME --weights FILE

TASK is segmentation or depth, of configs/TASK/linear_custom.py. Nothing is trained; scores are
those of training images that were left out (pe_dense/probing/layer_choice.py). Rows are printed as
layer_choice.csv has them: the score of each block with its 95 % interval, that of the four blocks
at even steps side by side, and the paired difference of the chosen block from the last and from
the four. For mIoU more is better, for rmse less.
"""

from __future__ import annotations

import argparse
import csv
import importlib
import sys
from pathlib import Path

import torch
from mmengine.registry import init_default_scope

from pe_dense.probing import layer_choice
from pe_dense.probing.block_ridge import METRIC, best_of, probe_block
from pe_dense.results.statistics import interval, paired_difference
from pe_dense.run.config import four_layers, load_config


def main() -> None:
    """Look once, probe, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("task", choices=("segmentation", "depth"))
    parser.add_argument("data_root", type=Path)
    parser.add_argument("--encoder", required=True)
    parser.add_argument("--weights", required=True)
    args = parser.parse_args()
    config = Path(__file__).resolve().parents[2] / f"configs/{args.task}/linear_custom.py"
    options = {"data_root": str(args.data_root), "planned_for": "cpu"}
    cfg, _ = load_config(config, args.encoder, args.weights, options)
    for module in cfg.custom_imports.imports:
        importlib.import_module(module)
    init_default_scope(cfg.default_scope)
    tokens_LTC, cells = layer_choice.look(cfg)
    metric, depth = METRIC[cells.kind], len(tokens_LTC)
    found = [probe_block(tokens_TC, cells) for tokens_TC in tokens_LTC]
    best = best_of(range(depth), lambda block: found[block], cells.kind)
    side_by_side = torch.cat([tokens_LTC[block] for block in four_layers(depth)], 1)
    four = probe_block(side_by_side, cells)
    rows = []
    for name, evidence in [*enumerate(found), ("four", four)]:
        bounds = interval(evidence, metric)
        score = evidence.metrics(None, [metric])[metric]
        rows.append((f"{name}", score, bounds.low, bounds.high))
    for name, other in (("last", found[-1]), ("four", four)):
        gain = paired_difference(found[best], other, metric)
        rows.append((f"{best} - {name}", gain.difference, gain.low, gain.high))
    writer = csv.writer(sys.stdout, lineterminator="\n")
    for name, *numbers in rows:
        writer.writerow([args.data_root.name, metric, name, *(f"{x:.4f}" for x in numbers)])


if __name__ == "__main__":
    main()
