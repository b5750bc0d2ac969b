"""Forks of a process that has joined a group wait until other threads have left the interpreter."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("mmengine")

PROGRAM = """
import os, time
import torch.distributed as dist
from pe_dense.run import quiet_fork
quiet_fork.fork_when_quiet()
quiet_fork.fork_when_quiet()
waits = []
quiet_fork.time.sleep = waits.append
def fork():
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
fork()
assert waits == [], "without a group nothing waits"
dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
fork()
assert waits == ([quiet_fork.SECONDS] if quiet_fork.NEEDED else []), waits
"""


def test_forks_wait_once_in_a_group(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=tmp_path, capture_output=True, text=True, timeout=120,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
