"""Two processes end together, or keep the exit code of an error."""

import subprocess
import sys
from pathlib import Path

import pytest

TOOL = """
import atexit, sys
import torch.distributed as dist
from pe_dense import command_line

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
        assert "error: nothing to score; name a checkpoint" in done.stderr
        assert "exitcode  : 2" in done.stderr
