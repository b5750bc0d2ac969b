r"""Trains any config: detection, segmentation, depth, probing or alignment.

python tools/train.py configs/detection/dino_pe_t16_bccd.py --cfg-options data_root=DIR
python tools/train.py CONFIG --gpus 8
python tools/train.py CONFIG --print-sbatch 8 8 > job.sh && sbatch job.sh

On several machines, each of them runs (HOST is the first one):
torchrun --nnodes 8 --nproc-per-node 8 --rdzv-backend c10d --rdzv-endpoint HOST:29500 \
    --rdzv-id NAME tools/train.py CONFIG --launcher pytorch

A run that was stopped or killed goes on with --resume and ends as if it had not been, also on
another number of processes where the images of a step are as many.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from pe_dense.run import command_line


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = command_line.Parser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", help="config file, one recipe each; Python that is run")
    command_line.add_run_options(parser)
    parser.add_argument(
        "--weights", help="encoder weights: random, released, a path or hf://repo[@revision][:file]"
    )
    parser.add_argument(
        "--resume", action="store_true", help="go on from the newest checkpoint, if there is one"
    )
    parser.add_argument("--amp", action="store_true", help="run the encoder in bfloat16")
    parser.add_argument(
        "--print-sbatch",
        nargs=2,
        type=int,
        metavar=("NODES", "GPUS"),
        help="print a Slurm script that trains on so many nodes with so many GPUs each, and stop",
    )
    parser.add_argument("--seed", type=int, help="seed of the run (default: the config's)")
    return parser.parse_args()


def main() -> int | None:
    """Resolve the config, check everything that can be checked, train."""
    args = parse_args()
    if (code := command_line.launched(args)) is not None:
        return code
    from pe_dense.run.request import RunRequest  # heavy: OpenMMLab
    from pe_dense.run.training import batch_script, train  # heavy: torch

    request = RunRequest(
        config=args.config,
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
    )
    if args.print_sbatch:
        print(batch_script(request, *args.print_sbatch), end="")
    else:
        runner = train(request, resume=args.resume)
        from pe_dense.report.run_report import report_training
        from pe_dense.run.launch import command_with_launcher, processes

        count = processes(args.launcher)
        report_training(runner, command_with_launcher(sys.argv, args.launcher, count))
    return None


if __name__ == "__main__":
    command_line.run(main, goes_on=True, option="--resume")
