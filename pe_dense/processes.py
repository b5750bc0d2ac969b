"""How one of several training processes ends."""

from __future__ import annotations

import atexit
import os
import sys
from typing import NoReturn

import torch.distributed as dist


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
