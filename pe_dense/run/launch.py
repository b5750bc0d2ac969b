"""Processes of one run: how many there are, their device, their command, and how they end."""

from __future__ import annotations

import atexit
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import torch
import torch.distributed as dist
from mmengine.config import Config

from pe_dense.openmmlab.devices import require_cuda_for, use_device_of_machine
from pe_dense.results.provenance import by_command, command_line
from pe_dense.run.quiet_fork import fork_when_quiet


def processes(launcher: str) -> int:
    """Number of processes of this run.

    Raises:
        ValueError: If the launcher's environment is missing.
    """
    names = {"none": None, "pytorch": "WORLD_SIZE", "slurm": "SLURM_NTASKS"}
    name = names[launcher]
    if name is None:
        return 1
    if name not in os.environ:
        start = {"pytorch": "torchrun --nproc-per-node N", "slurm": "srun"}[launcher]
        own = ", or with --gpus N in its place" if launcher == "pytorch" else ""
        raise ValueError(
            f"--launcher {launcher} needs {name} in the environment; start with: {start} "
            f"... --launcher {launcher}{own}"
        )
    return int(os.environ[name])


def is_first_process() -> bool:
    """Whether this process is the one that prints and tidies up, before any group exists."""
    return int(os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0"))) == 0


def command_with_launcher(argv: Sequence[str], launcher: str, world_size: int) -> str:
    """The command line, with torchrun or srun in front where it was used.

    Of a run on several machines it has their number, and stands for all of them: each runs it with
    the address of the first in MASTER_ADDR, where they meet.
    """
    command = command_line(list(argv))
    if launcher == "none":
        return command
    if launcher == "slurm":
        nodes = int(os.environ.get("SLURM_JOB_NUM_NODES", os.environ.get("SLURM_NNODES", "1")))
        start = f"srun --nodes {nodes} " if nodes > 1 else "srun "
        return f"{start}--ntasks {world_size} {command}"
    on_node = int(os.environ.get("LOCAL_WORLD_SIZE", world_size))
    nodes = int(os.environ.get("GROUP_WORLD_SIZE", max(1, world_size // on_node)))
    start = f"torchrun --nproc-per-node {on_node} "
    if nodes > 1:
        start += f"--nnodes {nodes} --rdzv-backend c10d "
        start += '--rdzv-endpoint "$MASTER_ADDR:29500" --rdzv-id pe_dense '
    if by_command(argv):
        return f"{start}--no-python {command}"
    return start + command.removeprefix("python ")


def require_gpu_for_float16(cfg: Config, config: str | Path) -> None:
    """Refuse MMEngine's float16 training where there is no GPU.

    Raises:
        ValueError: If the optimiser scales float16 gradients and there is no GPU.
    """
    if cfg.optim_wrapper.type == "AmpOptimWrapper" and not torch.cuda.is_available():
        raise ValueError(
            f"config {config} trains in float16, which needs a GPU, and there is none; train on "
            "one, or inherit from the config and set optim_wrapper.type='OptimWrapper' without "
            "its dtype for float32"
        )


def use_device(cfg: Config) -> None:
    """Choose device and communication backend; without a GPU, join the process group here.

    MMEngine's own set-up of processes and of the model wrapper asks for a GPU.
    """
    device = use_device_of_machine()
    cuda = device == "cuda"
    if cfg.launcher != "none":
        require_cuda_for("a run of several processes", "leave --launcher out")
        here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        if cuda and here > torch.cuda.device_count():
            raise ValueError(
                f"{here} processes were started on a machine with {torch.cuda.device_count()} "
                f"GPUs; start {torch.cuda.device_count()}"
            )
        fork_when_quiet()
    cfg.env_cfg.dist_cfg.backend = "nccl" if cuda else "gloo"
    if cuda or cfg.launcher == "none":
        return
    if "model_wrapper_cfg" not in cfg:  # MMEngine's default wrapper names a GPU
        cfg.model_wrapper_cfg = dict(
            type="MMDistributedDataParallel",
            device_ids=None,
            broadcast_buffers=False,
            find_unused_parameters=cfg.get("find_unused_parameters", False),
        )
    environment = os.environ
    if cfg.launcher == "slurm":
        nodes = environment["SLURM_NODELIST"]
        command = ["scontrol", "show", "hostname", nodes]
        hosts = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        environment.setdefault("MASTER_ADDR", hosts.split()[0])
        environment.setdefault("MASTER_PORT", "29500")
        environment["RANK"] = environment["SLURM_PROCID"]
        environment["WORLD_SIZE"] = environment["SLURM_NTASKS"]
        environment["LOCAL_RANK"] = environment["SLURM_LOCALID"]
    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group("gloo")


def leave_together() -> NoReturn:
    """Wait for the other processes, close the group and end this one with exit code 0.

    The interpreter is not taken down piece by piece: threads of a process group that still want its
    lock then (one in about thirty sharded runs) make C++ end the process with SIGABRT, and the
    launcher reports a finished run as failed. Functions registered with `atexit` run as always.
    """
    dist.barrier()
    dist.destroy_process_group()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
