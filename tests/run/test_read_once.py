"""Two processes on one annotation file: the first reads it, whoever needs what is in it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

pytest.importorskip("mmdet")

ROOT = Path(__file__).resolve().parents[2]
CONFIG = "configs/detection/atss_pe_t16_mini.py"
# Notes every annotation file that is opened for its content (hashing is not), and the question of
# the check of data that it was opened for; then is the tool that follows.
COUNTED = """
import os, runpy, sys, traceback
log = sys.argv[1] + os.environ["RANK"]
def note(event, arguments):
    if event != "open" or not str(arguments[0]).endswith((".json", "gt.txt")):
        return
    callers = [frame.name for frame in traceback.extract_stack(limit=12)]
    if "file_sha256" in callers:
        return
    asked = [name for name in callers if name.startswith("_find_") and name != "_find_out"]
    line = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(line, f"{(asked + ['-'])[0]} {arguments[0]}\\n".encode())
    os.close(line)
sys.addaudithook(note)
sys.argv = sys.argv[2:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def two_processes(log: Path, *command: object) -> list[list[tuple[str, str]]]:
    """For each process: (question of the check or '-', name of the annotation file) it opened."""
    script = log.with_suffix(".py")
    script.write_text(COUNTED)
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    changes = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [*start, str(script), str(log), *map(str, command)],
        cwd=ROOT, env={**os.environ, **changes}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    files = [Path(f"{log}{rank}") for rank in (0, 1)]
    found = [file.read_text().splitlines() if file.exists() else [] for file in files]
    pairs = [[line.split(" ", 1) for line in lines] for lines in found]
    return [[(ask, Path(at).name) for ask, at in lines if "/annotations/" in at] for lines in pairs]


def assert_each_once(first: list[tuple[str, str]], second: list[tuple[str, str]]) -> None:
    """The first process reads; a question of the check is answered by whoever comes first."""
    assert [pair for pair in second if pair[0] == "-"] == []
    asked = Counter(pair for pair in first + second if pair[0] != "-")
    assert set(asked.values()) <= {1}, asked


@pytest.mark.slow
def test_annotations_are_read_by_the_first_process(mini_root: Path, tmp_path: Path) -> None:
    data = tmp_path / "coco"  # its own: what another test asked of the shared one is remembered
    shutil.copytree(mini_root / "coco", data, ignore=shutil.ignore_patterns(".pe_dense"))
    options = [
        "--cfg-options", f"data_root={data}", "max_epochs=1", "val_interval=1",
        "image_scale=(64,64)", "train_scales=[(64,64)]",
    ]  # fmt: skip
    run = tmp_path / "run"
    train = ["tools/train.py", CONFIG, "--work-dir", run, "--launcher", "pytorch", *options]
    first, second = two_processes(tmp_path / "train", *train)
    assert {("-", "train.json"), ("-", "val.json")} <= set(first)
    assert any(ask != "-" for ask, _ in first + second)
    assert_each_once(first, second)
    test = ["tools/test.py", CONFIG, run, "--records", tmp_path, "--launcher", "pytorch", *options]
    first, second = two_processes(tmp_path / "test", *test)
    assert ("-", "val.json") in first
    assert_each_once(first, second)
    (record,) = tmp_path.rglob("*.seed0.json")
    assert json.loads(record.read_text())["dataset"]["sha256"]


ERROR = """
import os, sys, torch.distributed as dist
from pe_dense.openmmlab.read_once import of_first_process
from pe_dense.run.launch import leave_together
dist.init_process_group("gloo")
class Unsendable(ValueError):
    def __init__(self, a, b): super().__init__(f"{a}{b}")
def load():
    assert dist.get_rank() == 0, "only the first may read"
    if sys.argv[1] == "works": return {"a": [1, 2]}
    raise (Unsendable("one ", "sentence") if sys.argv[1] == "odd" else OSError("one sentence"))
try:
    said = of_first_process(load)
except (ValueError, OSError) as error:
    said = f"{type(error).__name__} {error}"
# One write per line: both processes have one pipe, and print may write the line break by itself.
os.write(1, f"rank {dist.get_rank()}: {said}\\n".encode())
leave_together()
"""


@pytest.mark.parametrize(
    ("how", "expected"),
    [("works", "{'a': [1, 2]}"), ("fails", "OSError one sentence"), ("odd", "one sentence")],
)
def test_all_processes_get_the_answer_or_the_error(tmp_path: Path, how: str, expected: str) -> None:
    (tmp_path / "tool.py").write_text(ERROR)
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run(
        [*start, str(tmp_path / "tool.py"), how], cwd=tmp_path, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}, timeout=200,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for rank in (0, 1):
        (line,) = [line for line in done.stdout.splitlines() if line.startswith(f"rank {rank}: ")]
        assert expected in line
