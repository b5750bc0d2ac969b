"""The script for Slurm, run under programs that stand in for Slurm's: it trains, stops, goes on."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("mmengine")

from pe_dense.run.batch_script import STOP_FILE, training_script
from pe_dense.run.checkpoint import load_checkpoint_safely, newest_checkpoint

ROOT = Path(__file__).resolve().parents[2]
CONFIG = "configs/alignment/spatial_align_t16_mini.py"
# As many copies of a command as nodes are asked for, all on this machine.
SRUN = """#!/bin/bash
echo "srun $*" >> "$CALLS"
count=1
while [[ $1 == --* ]]; do
    [[ $1 == --ntasks=* ]] && count=${1#--ntasks=}
    shift
done
for ((i = 0; i < count; i++)); do "$@" & done
code=0
for job in $(jobs -p); do wait "$job" || code=$?; done
exit "$code"
"""
SCONTROL = """#!/bin/bash
echo "scontrol $*" >> "$CALLS"
if [ "$1" = show ]; then printf 'localhost\\nlocalhost\\n'; fi
"""


@pytest.fixture
def slurm(tmp_path: Path) -> dict[str, str]:
    """The environment of a job, with the stand-ins first on the PATH."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, text in (("srun", SRUN), ("scontrol", SCONTROL)):
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    home = tmp_path / "home"  # where the job was submitted
    (home / ".venv/bin").mkdir(parents=True)
    python = home / ".venv/bin/python"
    python.write_text(f'#!/bin/bash\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    for name in ("tools", "configs"):
        (home / name).symlink_to(ROOT / name)
    return {
        **os.environ,
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "CALLS": str(tmp_path / "calls"),
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "SLURM_SUBMIT_DIR": str(home),
        "SLURM_JOB_ID": str(os.getpid()),
        "SLURM_JOB_NODELIST": "node[1-2]",
    }


def printed(*arguments: object) -> subprocess.CompletedProcess:
    command = [sys.executable, str(ROOT / "tools/train.py"), *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )


def sound_shell(text: str, file: Path) -> None:
    file.write_text(text)
    subprocess.run(["bash", "-n", str(file)], check=True)
    if shutil.which("shellcheck"):
        subprocess.run(["shellcheck", str(file)], check=True)


def test_a_job_of_two_nodes_stops_when_asked_and_goes_on(
    slurm: dict[str, str], mini_root: Path, tmp_path: Path
) -> None:
    work_dir = tmp_path / "a run"
    options = [
        f"data_root={mini_root / 'coco'}", "probes=[]", "crop_size=(64,64)", "total_batch=4",
        "batch_size=2", "total_steps=400", "warmup_steps=2", "checkpoint_interval=400",
        "probe_interval=400", "teachers.0.encoder_options={'depth':2}", "teachers.0.layer=1",
    ]  # fmt: skip
    done = printed(
        CONFIG, "--work-dir", work_dir, "--print-sbatch", 2, 1, "--cfg-options", *options
    )
    assert done.returncode == 0, done.stderr
    script = tmp_path / "job.sh"
    sound_shell(done.stdout, script)
    log = tmp_path / "log"
    with log.open("w") as file:
        job = subprocess.Popen(
            ["bash", str(script)], env=slurm, stdout=file, stderr=file, start_new_session=True
        )
    try:
        deadline = time.monotonic() + 400
        while "Iter(train)" not in log.read_text():  # it trains
            assert job.poll() is None, log.read_text()[-4000:]
            assert time.monotonic() < deadline
            time.sleep(0.2)
        assert not list(work_dir.glob("*.pth"))
        job.send_signal(signal.SIGUSR1)  # as Slurm sends it to the script
        assert job.wait(300) == 0, log.read_text()[-4000:]
    finally:
        if job.poll() is None:
            os.killpg(job.pid, signal.SIGKILL)
    calls = Path(slurm["CALLS"]).read_text()
    assert "--nnodes 2 --nproc-per-node 1 --rdzv-backend c10d --rdzv-endpoint localhost:" in calls
    assert f"scontrol requeue {slurm['SLURM_JOB_ID']}" in calls
    stopped_at = newest_checkpoint(work_dir)
    assert stopped_at is not None and stopped_at.name != "iter_400.pth"
    step = load_checkpoint_safely(str(stopped_at))["meta"]["iter"]
    assert f"stopped after step {step}" in log.read_text()
    # Started again, the same script goes on from there.
    resumed = subprocess.Popen(
        ["bash", str(script)],
        env={**slurm, "SLURM_RESTART_COUNT": "1"},
        stdout=log.open("w"),
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 400
        while f"resumed epoch: 0, iter: {step}" not in log.read_text():
            assert resumed.poll() is None, log.read_text()[-4000:]
            assert time.monotonic() < deadline
            time.sleep(0.2)
    finally:
        os.killpg(resumed.pid, signal.SIGKILL)
        resumed.wait()


def test_a_failed_training_fails_the_job_and_is_not_queued_again(
    slurm: dict[str, str], tmp_path: Path
) -> None:
    text = training_script(["tools/train.py", "none.py"], 1, 1, tmp_path / "run")
    sound_shell(text, tmp_path / "job.sh")
    done = subprocess.run(
        ["bash", str(tmp_path / "job.sh")], env=slurm, capture_output=True, text=True, check=False
    )
    assert done.returncode != 0 and "config none.py does not exist" in done.stderr
    assert "requeue" not in Path(slurm["CALLS"]).read_text()


def test_names_are_quoted_and_the_file_of_the_request_is_in_the_work_dir(tmp_path: Path) -> None:
    text = training_script(["tools/train.py", "a b.py", "--resume"], 2, 8, Path("w/a b"), 3)
    sound_shell(text, tmp_path / "job.sh")
    assert f"export {STOP_FILE}='w/a b/stop_requested'" in text
    assert "tools/train.py --launcher pytorch --resume 'a b.py' &" in text
    assert "--cpus-per-task=32" in text and "#SBATCH --signal=B:USR1@" in text


@pytest.mark.parametrize(
    "name",
    [
        "a\ntouch pwned\n#", "a\r\ntouch pwned", "50 %j", "it's \"$(touch pwned)\"", "-rf",
        "`touch pwned`", "..", "a #b", "\N{SNOWMAN}", "a\\",
    ],
)  # fmt: skip
def test_no_name_of_a_work_dir_runs_or_ends_an_option(
    name: str, slurm: dict[str, str], tmp_path: Path
) -> None:
    home = Path(slurm["SLURM_SUBMIT_DIR"])
    (home / ".venv/bin/python").write_text('#!/bin/bash\necho "trains $*"\n')
    text = training_script(["tools/train.py", "none.py"], 1, 1, Path(name))
    script = tmp_path / "job.sh"
    sound_shell(text, script)
    head = text.split("set -euo pipefail")[0].splitlines()
    assert all(re.fullmatch(r"#.*", line) for line in head)
    options = [line for line in head if line.startswith("#SBATCH")]
    assert len(options) == 10
    assert all(re.fullmatch(r"#SBATCH --[a-z-]+(=[\w.+=:@/%-]+)?", line) for line in options)
    assert sum(line.count("%") for line in options) == 1
    done = subprocess.run(["bash", str(script)], env=slurm, capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr == "" and "none.py" in done.stdout
    assert not list(home.rglob("pwned")) and not Path("pwned").exists()


@pytest.mark.parametrize("words", [["--cfg-options", "log_interval=2", "--", CONFIG], [CONFIG]])
def test_the_command_of_the_job_is_one_that_trains(words: list[str]) -> None:
    done = printed("--print-sbatch", 1, 2, *words)
    assert done.returncode == 0, done.stderr
    (line,) = re.findall(r"tools/train.py (.*) &", done.stdout)
    assert line.split() == ["--launcher", "pytorch", "--resume", *words]


def test_an_option_has_one_name() -> None:
    done = printed(CONFIG, "--print-sb", 1, 2)  # would be printed into the job, which prints again
    assert done.returncode == 2 and "--print-sb" in done.stderr


@pytest.mark.parametrize(
    ("config", "size", "words"),
    [
        (CONFIG, (0, 8), "at least one node"),
        (CONFIG, (3, 1), "total_batch=16 of .* cannot be shared evenly by 3 processes"),
        ("configs/tracking/davis2017_v1.py", (1, 1), "trains nothing"),
    ],
)
def test_jobs_that_could_not_train_are_not_printed(config, size, words) -> None:
    done = printed(config, "--print-sbatch", *size)
    assert done.returncode == 2 and done.stdout == ""
    assert re.search(words, done.stderr)
