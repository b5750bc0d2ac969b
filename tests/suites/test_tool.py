"""tools/benchmark.py as a person calls it: plans, scripts, and what is wrong, before any run."""

from __future__ import annotations

import fcntl
import json
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pe_dense.results.record_history import content_sha256

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


def test_a_plan_in_a_log_has_whole_names(tmp_path):
    done = run(
        "--suite", "zero_shot", "--encoders", "pe_core_b16_224", "--dry-run", records=tmp_path
    )
    assert done.returncode == 0, done.stderr
    for name in ("imagenet", "imagenet-v2", "imagenet-a", "imagenet-r", "objectnet"):
        assert f" {name}-zero-shot-v1 " in done.stdout


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


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A small mini world."""
    folder = tmp_path_factory.mktemp("world") / "mini"
    make = [sys.executable, "tools/prepare_data.py", "mini", "--out", str(folder), "--train", "6"]
    make += ["--val", "2", "--clips", "2", "--frames", "3"]
    made = subprocess.run(make, cwd=ROOT, capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    return folder / "coco"


def run_mini(world, tmp_path, *encoders, work_dir="w"):
    return run(
        "--suite", "mini", "--encoders", *encoders, "--work-dir", str(tmp_path / work_dir),
        "--data", f"mini={world}", records=tmp_path / "records",
    )  # fmt: skip


def test_a_failed_run_is_kept_and_the_exit_code_says_so(world, tmp_path):
    """The data are right but the weights are not: found by tools/train.py, in the job."""
    weights = tmp_path / "w.pt"
    weights.write_bytes(b"no weights")
    done = run_mini(world, tmp_path, f"{ENCODER}={weights}")
    assert done.returncode == 1, done.stderr
    assert "failed: " in done.stdout and "w.pt" in done.stdout
    (status,) = (tmp_path / "w").rglob("status.json")
    assert '"state": "failed"' in status.read_text()
    assert (tmp_path / "LEADERBOARD.md").is_file()


def test_jobs_that_cannot_run_are_told_and_so_says_the_exit_code(world, tmp_path):
    """A folder that cannot be made, a damaged status file, and one that another process holds."""
    jobs = {name: tmp_path / "w" / "mini" / name for name in ("pe_core_t16_384", ENCODER)}
    jobs["pe_core_t16_384"].parent.mkdir(parents=True)
    jobs["pe_core_t16_384"].write_text("in the way")
    folder = jobs[ENCODER] / "random" / "mini-detection-v1.seed0"
    folder.mkdir(parents=True)
    (folder / "status.json").write_text("{")
    done = run_mini(world, tmp_path, *jobs)
    assert done.returncode == 1, done.stderr
    failed = [line for line in done.stdout.splitlines() if line.startswith("failed: ")]
    assert len(failed) == 2
    assert "pe_core_t16_384" in failed[0] and "is not a folder, or lies below a file" in failed[0]
    assert "status.json is not a status file; remove it" in failed[1]

    (folder / "status.json").unlink()
    with (folder / ".lock").open("w") as holder:
        fcntl.flock(holder, fcntl.LOCK_EX)
        done = run_mini(world, tmp_path, ENCODER)
    assert done.returncode == 1, done.stderr
    assert "not done: " in done.stdout and "another process holds" in done.stdout


def test_a_damaged_record_stops_nothing(tmp_path):
    (tmp_path / "broken.json").write_text("{")
    done = run("--suite", "mini", "--encoders", ENCODER, "--dry-run", records=tmp_path)
    assert done.returncode == 0 and "1 of 1 runs to do" in done.stdout
    assert done.stderr.startswith("left out: ") and "broken.json" in done.stderr


def test_a_record_that_a_check_refuses_is_not_recorded(tmp_path):
    """Its file is there, and no table shows it."""
    folder = tmp_path / "records" / ENCODER / "random"
    shutil.copytree(ROOT / "benchmarks/records" / ENCODER / "random", folder)
    arguments = "--suite", "mini", "--encoders", ENCODER
    assert run(*arguments, records=tmp_path / "records").returncode == 0
    path = folder / "mini-detection-v1.seed0.json"
    data = json.loads(path.read_text())
    data["scores"]["AP"] += 0.01
    path.write_text(json.dumps(data | {"content_sha256": content_sha256(data)}))
    done = run(*arguments, records=tmp_path / "records")
    assert done.returncode == 1, done.stderr
    assert (
        f"not shown: {ENCODER} (random) mini-detection-v1 seed 0: a check refuses {path}"
        in done.stdout
    )
    assert "but the evidence gives" in done.stderr


def test_nothing_is_trained_whose_record_has_no_place(world, tmp_path):
    path = tmp_path / "records" / ENCODER / "random/mini-detection-v1.seed0.json"
    path.parent.mkdir(parents=True)
    path.write_text("{")
    done = run_mini(world, tmp_path, ENCODER)
    assert done.returncode == 1, done.stderr
    assert f"{path} cannot be read as the record of this run; restore it" in done.stdout
    assert not list((tmp_path / "w").rglob("*.pth")) and path.read_text() == "{"


@pytest.mark.parametrize("tool", ["benchmark", "test"])
def test_own_runs_do_not_write_into_the_published_records(tool):
    command = [sys.executable, f"tools/{tool}.py", "--help"]
    text = subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout
    text = " ".join(text.split())
    assert "root of records (work_dirs/records); benchmarks/records publishes the result" in text
    ignored = subprocess.run(["git", "check-ignore", "-q", "work_dirs/records/x.json"], cwd=ROOT)
    assert ignored.returncode == 0


def test_the_hint_at_stopping_goes_on(world, tmp_path):
    """Stop a training in the middle, type what is told, and the training has gone on."""
    suite = tmp_path / "long.py"
    config = "configs/detection/atss_pe_t16_mini.py"
    options = "options=dict(max_epochs=12, val_interval=12)"
    suite.write_text(
        f"suite = dict(weights='random', seeds=1, runs=[dict(config='{config}', {options})])"
    )
    command = [
        "python", "tools/benchmark.py", "--suite", str(suite), "--encoders", ENCODER,
        "--work-dir", str(tmp_path / "w"), "--data", f"mini={world}",
        "--records", str(tmp_path / "records"),
    ]  # fmt: skip
    first = subprocess.Popen(
        [sys.executable, *command[1:]], cwd=ROOT, stderr=subprocess.PIPE, text=True,
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
    end = time.monotonic() + 300
    while not list((tmp_path / "w").rglob("epoch_1.pth")):
        assert first.poll() is None and time.monotonic() < end
        time.sleep(0.05)
    first.send_signal(signal.SIGTERM)
    _, told = first.communicate(timeout=60)
    assert first.returncode == 128 + signal.SIGTERM
    assert told.splitlines()[-1] == f"stopped; go on with: {shlex.join(command)}"
    (log,) = (tmp_path / "w").rglob("benchmark.log")
    before = log.read_text()
    words = shlex.split(told.splitlines()[-1].partition(": ")[2])
    again = subprocess.run([sys.executable, *words[1:]], cwd=ROOT, capture_output=True, text=True)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "refused: " not in again.stderr  # what a run records passes every check
    assert len(list((tmp_path / "records").rglob("*.npz"))) == 1
    after = log.read_text().removeprefix(before)
    assert "resumed epoch" in after or "Load checkpoint from" in after
    assert "Epoch(train)  [1]" not in after and "Epoch(train) [12]" in after
