"""The same total batch on one process and on two: the same weights, started, killed and resumed.

In float64 (but for a few inner sums), so that another order of sums stays far below what one
differing crop, mask, dropped path or learning rate would change: a step moves weights by 1e-3.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("mmengine")

import torch

from pe_dense.run.checkpoint import load_checkpoint_safely
from pe_dense.run.config import load_template

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / "configs/alignment/spatial_align_t16_mini.py"
STEPS = 4
FLOAT64 = """
import torch
from mmengine.model import ImgDataPreprocessor

torch.set_default_dtype(torch.float64)
of_float32 = ImgDataPreprocessor.forward


def forward(self, data, training=False):
    out = of_float32(self, data, training)
    return {**out, "inputs": out["inputs"].double()}


ImgDataPreprocessor.forward = forward
"""


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory, mini_root: Path):
    """A function that gives the command of a run, and one that reads its last checkpoint."""
    folder = tmp_path_factory.mktemp("float64")
    (folder / "in_float64.py").write_text(FLOAT64)
    imports = [*load_template(CONFIG).custom_imports.imports, "in_float64"]
    text = f'_base_ = ["{CONFIG}"]\ncustom_imports = dict(imports={imports})\n'
    (folder / "ddp.py").write_text(text)
    (folder / "fsdp.py").write_text(text + "sharding = dict()\n")
    options = {
        "data_root": mini_root / "coco", "probes": "[]", "crop_size": "(64,64)", "total_batch": 8,
        "total_steps": STEPS, "warmup_steps": 2, "checkpoint_interval": 1, "probe_interval": 4,
        "drop_path_rate": 0.4, "teachers.0.encoder_options": "{'depth':2}", "teachers.0.layer": 1,
        "num_workers": 1,
    }  # fmt: skip

    def command(work_dir: Path, processes: int, kind: str, *more: str) -> dict:
        own = [f"{key}={value}" for key, value in options.items()]
        words = [str(ROOT / "tools/train.py"), str(folder / f"{kind}.py"), "--work-dir", work_dir]
        launch = [sys.executable]
        if processes > 1:  # as the README and the configs' headers have it
            launch = [str(Path(sys.executable).with_name("torchrun")), "--nnodes", "1"]
            launch += ["--nproc-per-node", str(processes), "--rdzv-backend", "c10d"]
            launch += ["--rdzv-endpoint", "localhost:0", "--rdzv-id", "pe_dense"]
            words += ["--launcher", "pytorch"]
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "CUDA_VISIBLE_DEVICES": "",
            "PYTHONPATH": f"{ROOT}{os.pathsep}{folder}",
        }
        arguments = [*launch, *map(str, words), *more, "--cfg-options", *own]
        return dict(args=arguments, env=environment, cwd=ROOT)

    return command


def batch_size(size: int) -> str:
    return f"batch_size={size}"


def run(call: dict, *more: str) -> str:
    call = {**call, "args": [*call["args"], *more]}
    done = subprocess.run(**call, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout + done.stderr


def last(work_dir: Path) -> dict:
    return load_checkpoint_safely(str(work_dir / f"iter_{STEPS}.pth"))


@pytest.fixture(scope="module")
def one(start, tmp_path_factory: pytest.TempPathFactory) -> dict:
    """One process, two batches of four a step."""
    work_dir = tmp_path_factory.mktemp("one") / "run"
    run(start(work_dir, 1, "ddp"), batch_size(4))
    return last(work_dir)


def require_equal(one: dict, two: dict) -> None:
    assert one["state_dict"].keys() == two["state_dict"].keys()
    for key, value in one["state_dict"].items():
        assert value.dtype == torch.float64
        torch.testing.assert_close(two["state_dict"][key], value, rtol=0, atol=1e-7, msg=key)
    for number, moments in one["optimizer"]["state"].items():
        for key, value in moments.items():
            found = two["optimizer"]["state"][number][key]
            torch.testing.assert_close(found, value, rtol=1e-5, atol=1e-6)
    rates = [c["param_schedulers"][-1]["_last_value"] for c in (one, two)]
    assert rates[0] == rates[1]


def test_the_runs_compared_do_move(one: dict) -> None:
    gains = [v for k, v in one["state_dict"].items() if k.endswith("ln_1.weight")]
    assert all((gain - 1).abs().max() > 1e-3 for gain in gains) and gains  # they start at 1


def test_two_processes_have_the_weights_of_one(start, one: dict, tmp_path: Path) -> None:
    said = run(start(tmp_path / "run", 2, "ddp"), batch_size(4))
    assert "8 images a step: 2 processes x 4 images" in said
    require_equal(one, last(tmp_path / "run"))


@pytest.mark.parametrize("kind", ["ddp", "fsdp"])
def test_killed_on_two_processes_and_gone_on_with_one(
    start, one: dict, tmp_path: Path, kind: str
) -> None:
    work_dir = tmp_path / "run"
    call = start(work_dir, 2, kind)
    call["args"] += [batch_size(2)]  # 2 processes x 2 images x 2 accumulated
    quiet = dict(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    process = subprocess.Popen(**call, **quiet)
    try:
        deadline = time.monotonic() + 300
        while not list(work_dir.glob("iter_*.pth")):
            assert process.poll() is None, "training ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        os.killpg(process.pid, signal.SIGKILL)  # torchrun and its two processes
        process.wait()
    assert not (work_dir / f"iter_{STEPS}.pth").exists()
    said = run(start(work_dir, 1, kind, "--resume"), batch_size(8))
    assert "8 images a step: 1 process x 8 images" in said
    require_equal(one, last(work_dir))
    facts = last(work_dir)["meta"]["pe_dense"]
    assert facts["total_batch"] == 8


def test_another_total_cannot_go_on(start, one: dict, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    torch.save(one, tmp_path / "run" / "iter_2.pth")
    call = start(tmp_path / "run", 1, "ddp", "--resume")
    call["args"] = [word.replace("total_batch=8", "total_batch=16") for word in call["args"]]
    done = subprocess.run(**call, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "holds a run of 8 images a step, and this one would have 16" in done.stderr
