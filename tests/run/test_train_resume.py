"""Training and evaluation as a user runs them: killed, resumed, and on two processes.

Every run here is the mini recipe at toy size, on real tools in real processes.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from runs import train

from pe_dense.run.command_line import parse_options

ROOT = Path(__file__).resolve().parents[2]
CONFIG = "configs/detection/dino_pe_t16_mini.py"
NUM_EPOCHS = 3


@pytest.fixture(scope="module")
def options(mini_root: Path) -> list[str]:
    return [
        "--cfg-options",
        f"data_root={mini_root / 'coco'}",
        f"max_epochs={NUM_EPOCHS}",
        f"val_interval={NUM_EPOCHS}",
        "train_scales=[(96,96),(128,128)]",
        "image_scale=(128,128)",
        "num_queries=20",
        "lr=1e-3",
    ]


def tool(name: str, *arguments: str, torchrun: int = 0) -> list[str]:
    launch = [sys.executable]
    if torchrun:
        launch += ["-m", "torch.distributed.run", "--standalone"]  # a free port
        launch += [f"--nproc-per-node={torchrun}"]
    return [*launch, str(ROOT / "tools" / f"{name}.py"), *map(str, arguments)]


def environment() -> dict[str, str]:
    return {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "PYTHONPATH": str(ROOT),
    }


def run(command: list[str]) -> str:
    done = subprocess.run(
        command, cwd=ROOT, env=environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout


def scores(work_dir: Path, options: list[str], records: Path, torchrun: int = 0) -> dict:
    extra = ["--launcher", "pytorch"] if torchrun else []
    run(tool("test", CONFIG, work_dir, "--records", records, *extra, *options, torchrun=torchrun))
    (file,) = records.rglob("*.json")
    return json.loads(file.read_text())


@pytest.fixture(scope="module")
def uninterrupted(
    tmp_path_factory: pytest.TempPathFactory, options: list[str]
) -> tuple[Path, dict]:
    work_dir = tmp_path_factory.mktemp("whole") / "run"
    run(tool("train", CONFIG, "--work-dir", work_dir, *options))
    return work_dir, scores(work_dir, options, work_dir / "records")


def test_killed_and_resumed_run_ends_with_the_same_weights_and_scores(
    uninterrupted: tuple[Path, dict], options: list[str], tmp_path: Path
) -> None:
    import torch

    whole_dir, whole = uninterrupted
    work_dir = tmp_path / "run"
    command = tool("train", CONFIG, "--work-dir", work_dir, "--resume", *options)
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    # Kill after the first finished epoch, in the middle of a later one.
    deadline = time.monotonic() + 300
    while not (work_dir / "last_checkpoint").is_file():
        assert process.poll() is None, "training ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (work_dir / f"epoch_{NUM_EPOCHS}.pth").exists()

    run(command)
    resumed = scores(work_dir, options, tmp_path / "records")
    assert resumed["scores"] == whole["scores"]
    last = f"epoch_{NUM_EPOCHS}.pth"
    expected = torch.load(whole_dir / last, weights_only=False)["state_dict"]
    state = torch.load(work_dir / last, weights_only=False)["state_dict"]
    assert expected.keys() == state.keys()
    assert all(torch.equal(expected[key], state[key]) for key in expected)


def test_two_process_evaluation_equals_one_process(
    uninterrupted: tuple[Path, dict], options: list[str], tmp_path: Path
) -> None:
    work_dir, whole = uninterrupted
    two = scores(work_dir, options, tmp_path / "records", torchrun=2)
    assert two["scores"] == pytest.approx(whole["scores"], abs=1e-9)
    assert two["dataset"]["num_items"] == whole["dataset"]["num_items"]


def test_two_process_training_runs(options: list[str], tmp_path: Path) -> None:
    work_dir = tmp_path / "run"
    short = [o for o in options if not o.startswith(("max_epochs", "val_interval"))]
    short += ["max_epochs=1", "val_interval=1"]
    run(tool("train", CONFIG, "--work-dir", work_dir, "--launcher", "pytorch", *short, torchrun=2))
    record = scores(work_dir, short, tmp_path / "records")
    assert 0.0 <= record["scores"]["AP"] <= 1.0


def test_a_second_run_never_overwrites_the_first(
    uninterrupted: tuple[Path, dict], options: list[str]
) -> None:
    work_dir, _ = uninterrupted
    before = sorted((f.name, f.stat().st_mtime_ns) for f in work_dir.glob("*.pth"))
    done = subprocess.run(
        tool("train", CONFIG, "--work-dir", work_dir, *options),
        cwd=ROOT, env=environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "--resume" in done.stderr and "Traceback" not in done.stderr
    assert sorted((f.name, f.stat().st_mtime_ns) for f in work_dir.glob("*.pth")) == before


def test_a_run_is_not_continued_under_other_settings(
    uninterrupted: tuple[Path, dict], options: list[str]
) -> None:
    work_dir, _ = uninterrupted
    other = ["lr=5e-3" if option.startswith("lr=") else option for option in options]
    with pytest.raises(ValueError, match="holds a run with other settings.*tools/train.py"):
        train(
            str(ROOT / CONFIG),
            options=parse_options(other[1:]),
            work_dir=work_dir,
            resume=True,
        )


def test_record_carries_what_a_reader_needs(uninterrupted: tuple[Path, dict]) -> None:
    record = uninterrupted[1]
    assert record["origin"] == "measured" and record["seed"] == 0
    assert record["encoder"]["weights"] == record["encoder"]["weights_sha256"] == "random"
    assert record["protocol"]["id"].startswith("mini-detection-scratch.mod-")
    assert "tools/train.py" in record["command"] and "tools/test.py" in record["command"]
    assert record["cost"]["train_s"] > 0 and len(record["checkpoint_sha256"]) == 64
