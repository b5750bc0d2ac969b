"""Two processes end together, or keep the exit code of an error."""

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from pe_dense.run.launch import command_with_launcher

TOOL = """
import atexit, sys
import torch.distributed as dist
from pe_dense.run import command_line

def main():
    dist.init_process_group("gloo")
    rank = dist.get_rank()
    dist.barrier()
    if sys.argv[1] == "fails":
        raise ValueError("nothing to score; name a checkpoint")
    atexit.register(lambda: open(f"left{rank}", "w").close())
    print(f"process {rank} is done")  # stays in the buffer until the end

command_line.run(main)
"""


@pytest.mark.parametrize("outcome", ["works", "fails"])
def test_processes_end(outcome: str, tmp_path: Path) -> None:
    (tmp_path / "tool.py").write_text(TOOL)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run(
        [*launch, "tool.py", outcome], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    left = sorted(path.name for path in tmp_path.glob("left*"))
    if outcome == "works":
        assert done.returncode == 0, done.stderr
        assert left == ["left0", "left1"]
        assert all(f"process {rank} is done" in done.stdout for rank in (0, 1))
    else:
        assert done.returncode != 0
        assert done.stderr.count("error: nothing to score; name a checkpoint") == 1
        # torchrun's own traceback and exit code 1 stay; its last lines have the sentence again.
        assert "nothing to score" in done.stderr.rpartition("Root Cause")[2]
        assert "exitcode  : 2" in done.stderr


ARGV = ["tools/train.py", "configs/a b.py", "--launcher", "pytorch"]


@pytest.mark.parametrize(
    ("launcher", "environment", "start"),
    [
        ("none", {"WORLD_SIZE": "8"}, "python tools"),
        ("pytorch", {"LOCAL_WORLD_SIZE": "8"}, "torchrun --nproc-per-node 8 tools"),
        (
            "pytorch",
            {"LOCAL_WORLD_SIZE": "4", "GROUP_WORLD_SIZE": "2"},
            "torchrun --nproc-per-node 4 --nnodes 2 --rdzv-backend c10d "
            '--rdzv-endpoint "$MASTER_ADDR:29500" --rdzv-id pe_dense tools',
        ),
        (
            "pytorch",
            {"LOCAL_WORLD_SIZE": "2"},
            "torchrun --nproc-per-node 2 --nnodes 4 --rdzv-backend c10d "
            '--rdzv-endpoint "$MASTER_ADDR:29500" --rdzv-id pe_dense tools',
        ),
        ("slurm", {"SLURM_JOB_NUM_NODES": "2"}, "srun --nodes 2 --ntasks 8 python tools"),
        ("slurm", {"SLURM_NNODES": "1"}, "srun --ntasks 8 python tools"),
    ],
)
def test_the_command_has_its_machines(launcher, environment, start, monkeypatch):
    known = ("LOCAL_WORLD_SIZE", "GROUP_WORLD_SIZE", "SLURM_JOB_NUM_NODES", "SLURM_NNODES")
    for name in known:
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    command = command_with_launcher(ARGV, launcher, 8)
    assert command == f"{start}/train.py 'configs/a b.py' --launcher pytorch"
    shlex.split(command)
