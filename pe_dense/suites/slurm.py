"""The plan as a Slurm array script: one array task a job."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from pe_dense.suites.plan import PlannedJob

SLACK = 2.0  # asked-for time over estimated time


def array_script(plan: Sequence[PlannedJob], records: Path, gpus: int = 1) -> str:
    """A bash script for `sbatch` that runs every job of the plan that is not recorded yet.

    The index of a job is its place among those; submitting the script again skips nothing by
    itself, but every job goes on where it stopped, and a job that is recorded already fails at
    once. Time asked for: twice the estimate, at least 10 minutes.

    Args:
        plan: The plan.
        records: Root of the records.
        gpus: GPUs asked for by a job.

    Raises:
        ValueError: If nothing is left to run.
    """
    todo = [planned for planned in plan if planned.record is None]
    if not todo:
        raise ValueError("everything is recorded already, so there is nothing to submit")
    minutes = max(10, round(SLACK * max(planned.seconds for planned in todo) / 60))
    lines = [
        "#!/bin/bash",
        "#SBATCH --job-name=pe_dense",
        f"#SBATCH --array=0-{len(todo) - 1}",
        f"#SBATCH --time={minutes // 60:02d}:{minutes % 60:02d}:00",
        *([f"#SBATCH --gpus={gpus}"] if gpus else []),
        "#SBATCH --output=work_dirs/slurm-%A_%a.log",
        "set -euo pipefail",
        'cd "${SLURM_SUBMIT_DIR:?submit this script with sbatch}"',
        "case ${SLURM_ARRAY_TASK_ID:?} in",
    ]
    for i, planned in enumerate(todo):
        job = planned.job
        lines += [
            f"{i})  # {job.name}",
            *(f"  {_shell(c)}" for c in (job.train_command(), job.test_command(records)) if c),
            "  ;;",
        ]
    return "\n".join([*lines, "esac", ""])


def _shell(command: Sequence[str]) -> str:
    """A checkout has its environment beside it; an installed package is where it is."""
    in_checkout = command[1] != "-m"
    return shlex.join([".venv/bin/python" if in_checkout else command[0], *command[1:]])
