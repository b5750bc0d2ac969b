"""Segmentation and depth as a user runs them: two processes score exactly what one does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
RUNS = {
    "segmentation": [
        "data_root={root}/ade", "max_epochs=1", "val_interval=1", "image_scale=(128,128)",
        "crop_size=(128,128)", "warmup_iters=1",
    ],
    "depth": [
        "data_root={root}/nyu", "max_iters=3", "val_interval=3", "crop_size=(112,112)",
        "warmup_iters=1",
    ],
}  # fmt: skip


def run(tool: str, *arguments: object, processes: int = 1) -> None:
    command = [sys.executable]
    if processes > 1:
        command += ["-m", "torch.distributed.run", "--standalone"]  # a free port
        command += [f"--nproc-per-node={processes}"]
    command += [str(ROOT / "tools" / f"{tool}.py"), *map(str, arguments)]
    changes = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, **changes},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]


@pytest.mark.parametrize("task", RUNS)
def test_two_processes_score_exactly_what_one_does(
    task: str, mini_root: Path, tmp_path: Path
) -> None:
    config = f"configs/{task}/linear_pe_t16_mini.py"
    options = ["--cfg-options", *(text.format(root=mini_root) for text in RUNS[task])]
    work_dir = tmp_path / "run"
    run("train", config, "--work-dir", work_dir, *options)
    found = []
    for processes in (1, 2):
        records = tmp_path / f"records{processes}"
        launcher = ["--launcher", "pytorch"] if processes > 1 else []
        run(
            "test", config, work_dir, "--records", records, *launcher, *options,
            processes=processes,
        )  # fmt: skip
        (file,) = records.rglob("*.json")
        record = json.loads(file.read_text())
        found.append((record["scores"], record["ci95"], record["evidence"]["sha256"]))
    assert found[0] == found[1]
