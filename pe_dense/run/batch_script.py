"""A training as a job of Slurm: one script for any number of nodes, which goes on until it is done.

Slurm says shortly before the time is over that it will be (`--signal`); the script passes that on
through a file, because torchrun would end its processes at a signal in the middle of a step. The
training sees the file after a step, writes a checkpoint and ends, and the job queues itself again.
A node that fails requeues the job, too; either way the run goes on from its newest checkpoint.
"""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from pe_dense.results.provenance import by_command, typed

STOP_FILE = "PE_DENSE_STOP_FILE"  # in the environment: the file that asks a training to end
WARNING = 600  # seconds before the end of the job at which a checkpoint is asked for
PYTHON = ".venv/bin/python"


def training_script(
    argv: Sequence[str], nodes: int, gpus: int, work_dir: Path, workers: int = 0
) -> str:
    """A bash script for `sbatch` that trains on several nodes, resumed as often as it takes.

    Options of `sbatch` (`--time`, `--partition`, `--account`) have precedence over those in it.

    Args:
        argv: The command without launcher: 'tools/train.py', the config and its options.
        nodes: Machines.
        gpus: GPUs of each, and processes.
        work_dir: Of the run; must be the same folder on all nodes.
        workers: Loading workers of a process, for the number of cores that is asked for.

    Raises:
        ValueError: If there is no node or no GPU.
    """
    if nodes < 1 or gpus < 1:
        raise ValueError(f"--print-sbatch {nodes} {gpus}: at least one node with one GPU is needed")
    # First, since a person's words may end with options that go on, or with '--'.
    words = [argv[0], "--launcher", "pytorch", "--resume"]
    words += [word for word in argv[1:] if word != "--resume"]
    python = PYTHON
    if by_command(argv):  # an installed package has no environment beside it
        python, words = shlex.quote(sys.executable), ["--no-python", *typed(words)]
    stop = shlex.quote((work_dir / "stop_requested").as_posix())
    cores = gpus * (workers + 1)
    name = job_name(work_dir)
    return f"""#!/bin/bash
#SBATCH --job-name={name}
#SBATCH --nodes={nodes}
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node={gpus}
#SBATCH --cpus-per-task={cores}
#SBATCH --time=24:00:00
#SBATCH --signal=B:USR1@{WARNING}
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=work_dirs/slurm-{name}-%j.log
# Partition, account and time: sbatch --partition=... --account=... --time=... THIS_FILE
# The folder work_dirs must be there when the job starts, and all nodes must see it.
set -euo pipefail
cd "${{SLURM_SUBMIT_DIR:?submit this script with sbatch}}"

export {STOP_FILE}={stop}
rm -f -- "${STOP_FILE}"
asked=0
trap 'asked=1; mkdir -p -- "$(dirname -- "${STOP_FILE}")"; touch -- "${STOP_FILE}"' USR1

# All nodes meet at the first of them; each start of the job is a meeting of its own.
mapfile -t hosts < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
port=$((20000 + SLURM_JOB_ID % 20000))
meeting="$SLURM_JOB_ID-${{SLURM_RESTART_COUNT:-0}}"

srun --nodes={nodes} --ntasks={nodes} --ntasks-per-node=1 --cpus-per-task={cores} \\
    --kill-on-bad-exit=1 \\
    {python} -m torch.distributed.run --nnodes {nodes} --nproc-per-node {gpus} \\
    --rdzv-backend c10d --rdzv-endpoint "${{hosts[0]}}:$port" --rdzv-id "$meeting" \\
    {shlex.join(words)} &
step=$!

code=0
wait "$step" || code=$?
if [ "$asked" -eq 1 ]; then
    # The signal ended that wait, not the training, which ends after its next step. Where it does
    # not in time (a run by epochs ends with one), it goes on from its last checkpoint.
    (sleep {WARNING - 60}; scontrol requeue "$SLURM_JOB_ID") &
    late=$!
    wait "$step" || true
    kill "$late" 2>/dev/null || true
    scontrol requeue "$SLURM_JOB_ID"
    exit 0
fi
exit "$code"
"""


def job_name(work_dir: Path) -> str:
    """Name of a job and its log, of what neither Slurm nor the shell takes for anything else.

    Lines of options for Slurm are comments of the shell, where quotes hide nothing: a line break in
    a name would end one, and what follows would run.

    Example:
        >>> job_name(Path("work_dirs/50 %j of it's"))
        '50_j_of_it_s'
    """
    return re.sub(r"[^A-Za-z0-9.+=_-]+", "_", work_dir.resolve().name) or "train"
