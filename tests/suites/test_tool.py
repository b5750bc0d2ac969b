"""tools/benchmark.py as a person calls it: plans, scripts, and what is wrong, before any run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ENCODER = "pe_spatial_t16_512"


def run(*arguments, records):
    command = [sys.executable, "tools/benchmark.py", *arguments, "--records", str(records)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_a_dry_run_prints_the_plan_and_runs_nothing(tmp_path):
    done = run("--suite", "mini", "--encoders", ENCODER, "--dry-run", records=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "mini-detection-v1" in done.stdout and "1 of 1 runs to do, about" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_published_results_are_not_run_again():
    done = run("--suite", "mini", "--encoders", ENCODER, "--dry-run", records="benchmarks/records")
    assert "recorded" in done.stdout and "0 of 1 runs to do" in done.stdout


def test_a_slurm_script_is_written(tmp_path):
    script = tmp_path / "jobs.sh"
    done = run(
        "--suite", "mini", "--encoders", ENCODER, "--slurm", str(script), records=tmp_path / "r"
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "sbatch" in done.stdout and "--array=0-0" in script.read_text()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--suite", "maxi", "--encoders", ENCODER], "known suites: "),
        (["--suite", "mini", "--encoders", "pe_spatial_t16_51"], ENCODER),
        (["--suite", "mini", "--encoders", ENCODER, "--tasks", "depht"], "depht"),
        (["--suite", "mini", "--encoders", ENCODER, "--seeds", "0"], "--seeds 0"),
        (["--suite", "mini", "--encoders", ENCODER, "--data", "mini=nowhere"], "nowhere"),
        (["--suite", "mini", "--encoders", ENCODER, "--data", "coco=x"], "--data coco"),
        (["--suite", "mini"], "--encoders"),
    ],
)
def test_errors_are_one_sentence(tmp_path, arguments, words):
    done = run(*arguments, records=tmp_path)
    assert done.returncode == 2 and words in done.stderr
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1


def test_a_failed_run_is_kept_and_the_exit_code_says_so(tmp_path):
    """The data are right but the weights are not: found by tools/train.py, in the job."""
    weights = tmp_path / "w.pt"
    weights.write_bytes(b"no weights")
    world = tmp_path / "mini"
    make = [sys.executable, "tools/prepare_data.py", "mini", "--out", str(world), "--train", "6"]
    make += ["--val", "2", "--clips", "2", "--frames", "3"]
    made = subprocess.run(make, cwd=ROOT, capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    done = run(
        "--suite", "mini", "--encoders", f"{ENCODER}={weights}", "--work-dir", str(tmp_path / "w"),
        "--data", f"mini={world / 'coco'}", records=tmp_path / "records",
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert "failed: " in done.stdout and "w.pt" in done.stdout
    (status,) = (tmp_path / "w").rglob("status.json")
    assert '"state": "failed"' in status.read_text()
    assert (tmp_path / "LEADERBOARD.md").is_file()
