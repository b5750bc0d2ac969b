"""Scores a checkpoint, or an encoder where nothing is trained, and writes its record.

python tools/test.py work_dirs/dino_pe_t16_bccd
python tools/test.py CHECKPOINT --cfg-options data_root=ELSEWHERE
python tools/test.py CONFIG CHECKPOINT
torchrun --nproc-per-node 8 tools/test.py CHECKPOINT --launcher pytorch
python tools/test.py configs/tracking/davis2017_v1.py --encoder pe_spatial_b16_512

CHECKPOINT is a file, or a work dir whose newest checkpoint is meant. It knows its config and the
options of its training; --cfg-options go on top. CONFIG is for another way of scoring, or for a
checkpoint of an earlier version. Configs that train nothing take no checkpoint. See the record with
python tools/leaderboard.py show --records work_dirs/records.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from pe_dense.results.store import DEFAULT_ROOT, OWN_ROOT
from pe_dense.run import command_line


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = command_line.Parser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    command_line.add_run_arguments(parser)
    command_line.add_run_options(parser)
    parser.add_argument(
        "--weights",
        help="without a checkpoint: 'random', 'released', a file or hf://repo[@revision][:file]",
    )
    parser.add_argument("--seed", type=int, help="without a checkpoint: replaces the config's seed")
    parser.add_argument(
        "--amp", action="store_true", help="without a checkpoint: encoder in bfloat16"
    )
    parser.add_argument(
        "--records",
        default=OWN_ROOT,
        help=f"root of records (%(default)s); {DEFAULT_ROOT} publishes the result",
    )
    parser.add_argument("--no-record", action="store_true", help="only print the scores")
    parser.add_argument(
        "--supersede", action="store_true", help="replace the record of an earlier evaluation"
    )
    return parser.parse_args()


def main() -> int | None:
    """Evaluate, print, record."""
    args = parse_args()
    if (code := command_line.launched(args)) is not None:
        return code
    from pe_dense.report.run_report import report_evaluation  # heavy: torch
    from pe_dense.run.evaluation import evaluate
    from pe_dense.run.launch import command_with_launcher, processes
    from pe_dense.run.opened_run import config_and_checkpoint
    from pe_dense.run.request import RunRequest  # heavy: OpenMMLab

    config, checkpoint = config_and_checkpoint(args.run)
    evaluate(
        RunRequest(
            config=config,
            encoder=args.encoder,
            weights=args.weights,
            options=command_line.parse_options(args.cfg_options),
            work_dir=Path(args.work_dir) if args.work_dir else None,
            launcher=args.launcher,
            seed=args.seed,
            amp=args.amp,
            argv=sys.argv,
            accept=args.accept,
            speed=command_line.speed_options(args),
        ),
        checkpoint=checkpoint,
        records=None if args.no_record else Path(args.records),
        supersede=args.supersede,
        afterwards=lambda done: report_evaluation(
            done, command_with_launcher(sys.argv, args.launcher, processes(args.launcher))
        ),
    )
    return None


if __name__ == "__main__":
    command_line.run(main)
