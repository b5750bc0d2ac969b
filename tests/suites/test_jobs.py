"""The runner of a benchmark, on jobs that are small Python programs."""

from __future__ import annotations

import dataclasses
import fcntl
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from pe_dense.suites import display, jobs
from pe_dense.suites.plan import Job, PlannedJob


class FakeJob(Job):
    """A job whose two commands are Python programs; `options` holds them."""

    def train_command(self) -> list[str]:
        return [sys.executable, "-c", dict(self.options)["train"]]

    def test_command(self, records: Path) -> list[str]:
        return [sys.executable, "-c", dict(self.options)["test"]]


def planned(folder: Path, train: str = "", test: str = "", record=None, seconds=1.0) -> PlannedJob:
    job = FakeJob(
        config="c.py",
        encoder="e",
        weights="random",
        seed=0,
        options=(("train", train), ("test", test)),
        amp=False,
        task="detection",
        dataset="mini",
        protocol=folder.name,
        version=1,
        config_sha256="0" * 64,
        work_dir=folder,
        minutes=0,
    )
    return PlannedJob(job, record, seconds, "suite file")


def states(board: jobs.Board) -> list[str]:
    return [progress.state for progress in board.jobs]


@pytest.mark.parametrize(
    ("line", "step"),
    [
        ("Epoch(train) [12][100/100]  lr: 1e-4  eta: 0:02:13  time: 1", ("epoch 12, 100/100", 133)),
        ("Iter(train) [ 50/4000]  eta: 1 day, 2:00:00  loss: 1", ("50/4000", 93600)),
        ("Iter(train) [ 50/4000]  eta: 3 days, 0:00:01", ("50/4000", 259201)),
        ("Epoch(val)  [1][10/25]    eta: 0:00:01", ("val 10/25", None)),
        ("Epoch(test) [10/25]    eta: 0:00:01", ("test 10/25", None)),
        ("Saving checkpoint at 4 epochs", None),
        ("", None),
    ],
)
def test_progress_lines(line, step):
    assert jobs.parse_step(f"11/21 03:22:55 - mmengine - INFO - {line}") == step


def test_all_ends_are_told_apart(tmp_path):
    error = "import sys; print('x' * 10); print('error: no data; make it', file=sys.stderr)"
    at_3 = "print('at 3', flush=True)"
    plan = [
        planned(tmp_path / "good", "print(1)", "print(2)"),
        planned(tmp_path / "user", f"{error}; sys.exit(2)", "print('never')"),
        planned(tmp_path / "bug", "print(1)", "raise KeyError('shape')"),
        planned(tmp_path / "killed", f"import os; {at_3}; os.kill(os.getpid(), 9)"),
        planned(tmp_path / "there", record="a record"),
    ]
    board = jobs.run_jobs(plan, tmp_path / "records", refresh_s=0.01)
    assert states(board) == ["done", "failed", "failed", "failed", "recorded"]
    assert [progress.error for progress in board.jobs] == [
        "", "no data; make it", "KeyError: 'shape'", "killed by SIGKILL after: at 3", "",
    ]  # fmt: skip
    assert (tmp_path / "good" / "benchmark.log").read_text() == "1\n2\n"
    assert "never" not in (tmp_path / "user" / "benchmark.log").read_text()
    assert not (tmp_path / "there").exists()


def test_attempts_are_kept(tmp_path):
    jobs.run_jobs([planned(tmp_path / "a", "raise ValueError('first')")], tmp_path, refresh_s=0.01)
    plan = [planned(tmp_path / "a", "print(1)", "print(2)")]
    jobs.run_jobs(plan, tmp_path, refresh_s=0.01)
    attempts = jobs.read_attempts(plan[0].job)
    assert [attempt["state"] for attempt in attempts] == ["failed", "done"]
    assert attempts[0]["error"] == "ValueError: first"
    assert attempts[0]["last_lines"][-1] == "ValueError: first"


@pytest.mark.parametrize("text", ["{", "[]", '{"attempts": 3}', '{"attempts": [1]}', "[" * 10_000])
def test_a_broken_status_file_is_named(tmp_path, text):
    plan = planned(tmp_path / "a")
    plan.job.work_dir.mkdir()
    (plan.job.work_dir / "status.json").write_text(text)
    with pytest.raises(ValueError, match=r"status\.json is not a status file; remove it"):
        jobs.read_attempts(plan.job)


def test_a_job_that_cannot_run_has_failed_and_the_queue_goes_on(tmp_path):
    """A folder that is a file, and a status file that is none: nothing of the job is started."""
    (tmp_path / "a").write_text("in the way")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "status.json").write_text("[")
    started = f"open({str(tmp_path / 'started')!r}, 'a')"
    plan = [planned(tmp_path / name, started, started) for name in "ab"]
    board = jobs.run_jobs([*plan, planned(tmp_path / "c")], tmp_path, refresh_s=0.01)
    assert states(board) == [jobs.FAILED, jobs.FAILED, jobs.DONE]
    assert str(tmp_path / "a") in board.jobs[0].error
    assert "status.json is not a status file; remove it" in board.jobs[1].error
    assert not (tmp_path / "started").exists()


def test_a_mistake_of_this_code_is_one_failed_job(tmp_path, monkeypatch):
    """A thread that dies would leave all jobs behind it waiting for ever."""
    real = jobs.write_status

    def write_status(job, *rest):
        if job.protocol == "a":
            raise KeyError("oops")
        real(job, *rest)

    monkeypatch.setattr(jobs, "write_status", write_status)
    board = jobs.run_jobs([planned(tmp_path / n) for n in "ab"], tmp_path, refresh_s=0.01)
    assert states(board) == [jobs.FAILED, jobs.DONE]
    assert board.jobs[0].error == "KeyError: 'oops'"


def test_a_fault_known_before_is_a_failed_job(tmp_path):
    started = f"open({str(tmp_path / 'started')!r}, 'a')"
    plan = [planned(tmp_path / "a", started), planned(tmp_path / "b")]
    faults = {tmp_path / "a": "no such data"}
    board = jobs.run_jobs(plan, tmp_path, refresh_s=0.01, faults=faults)
    assert states(board) == [jobs.FAILED, jobs.DONE]
    assert board.jobs[0].error == "no such data" and not (tmp_path / "started").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("deaf", [False, True], ids=["", "deaf to SIGTERM"])
def test_a_signal_ends_the_children_with_it(tmp_path, number, deaf, monkeypatch):
    """As `kill` and a closed terminal send it; a child that does not listen is killed."""
    inherited = signal.signal(number, signal.SIG_DFL)  # nohup would have it ignored
    patience_s = 0.3 if deaf else 10.0
    monkeypatch.setattr(jobs.end, "__defaults__", (patience_s,))
    train = (
        "import os, signal, time\n"
        f"signal.signal(signal.SIGTERM, signal.SIG_IGN) if {deaf} else None\n"
        f"open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))\n"
        "time.sleep(60)"
    )

    def send() -> None:
        wait_for(lambda: (tmp_path / "pid").is_file() and (tmp_path / "pid").read_text())
        os.kill(os.getpid(), number)

    threading.Thread(target=send).start()
    with pytest.raises(SystemExit) as caught:
        jobs.run_jobs([planned(tmp_path / "a", train)], tmp_path, refresh_s=0.01)
    assert caught.value.code == 128 + number
    pid = int((tmp_path / "pid").read_text())
    wait_for(lambda: not Path(f"/proc/{pid}").exists() or "Z" in state_of(pid))
    assert signal.signal(number, inherited) is signal.SIG_DFL


def state_of(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_jobs_share_the_gpus(tmp_path):
    program = "import os, time; print(os.environ['CUDA_VISIBLE_DEVICES']); time.sleep(0.3)"
    plan = [planned(tmp_path / str(i), program, "pass") for i in range(4)]
    start = time.monotonic()
    board = jobs.run_jobs(plan, tmp_path, gpus=["0", "7"], refresh_s=0.01)
    assert states(board) == ["done"] * 4
    used = [(tmp_path / str(i) / "benchmark.log").read_text().strip() for i in range(4)]
    assert sorted(used) == ["0", "0", "7", "7"]
    assert time.monotonic() - start < 30


def test_what_runs_elsewhere_is_left_alone(tmp_path):
    plan = [planned(tmp_path / "a", "print(1)", "print(2)")]
    plan[0].job.work_dir.mkdir()
    with (plan[0].job.work_dir / ".lock").open("w") as holder:
        fcntl.flock(holder, fcntl.LOCK_EX)
        assert states(jobs.run_jobs(plan, tmp_path, refresh_s=0.01)) == ["runs elsewhere"]
    assert states(jobs.run_jobs(plan, tmp_path, refresh_s=0.01)) == ["done"]


def test_an_orphan_keeps_its_folder(tmp_path):
    """The lock outlives a killed benchmark as long as its child runs."""
    program = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
    plan = [planned(tmp_path / "a", program)]
    parent = os.fork()
    if parent == 0:
        jobs.run_jobs(plan, tmp_path, refresh_s=0.01)
        os._exit(0)
    log = tmp_path / "a" / "benchmark.log"
    wait_for(lambda: log.is_file() and log.read_text().endswith("\n"))
    os.kill(parent, signal.SIGKILL)
    os.waitpid(parent, 0)
    try:
        assert states(jobs.run_jobs(plan, tmp_path, refresh_s=0.01)) == ["runs elsewhere"]
    finally:
        os.kill(int(log.read_text()), signal.SIGKILL)


def test_an_interrupt_stops_the_children(tmp_path):
    program = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
    plan = [planned(tmp_path / "a", program), planned(tmp_path / "b", program)]
    log = tmp_path / "a" / "benchmark.log"

    def interrupt(board):
        if log.is_file() and log.read_text().strip():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        jobs.run_jobs(plan, tmp_path, show=interrupt, refresh_s=0.01)
    pid = int(log.read_text())
    wait_for(lambda: not Path(f"/proc/{pid}").exists())
    assert not (tmp_path / "b").exists()
    assert jobs.read_attempts(plan[0].job) == []


def test_remaining_time():
    def progress(state, seconds, eta=None):
        return jobs.Progress(planned(Path("x"), seconds=seconds), state, eta_s=eta)

    all_jobs = [progress("done", 100), progress("training", 50, eta=20), progress("waiting", 60)]
    assert jobs.Board(all_jobs, slots=1).remaining_s() == 80
    assert jobs.Board(all_jobs, slots=2).remaining_s() == 60
    assert jobs.Board([], slots=1).remaining_s() == 0


def test_a_log_has_a_line_for_every_change(tmp_path):
    lines: list[str] = []
    plan = [
        planned(tmp_path / "a", "import time; time.sleep(0.3)", "import time; time.sleep(0.3)"),
        planned(tmp_path / "b", "import time; time.sleep(0.3); raise ValueError('no')"),
    ]
    jobs.run_jobs(plan, tmp_path, show=display.LineReporter(lines.append), refresh_s=0.01)
    assert [line.partition(" (about")[0] for line in lines] == [
        "e (random) a-v1 seed 0: training",
        "e (random) a-v1 seed 0: scoring",
        "e (random) a-v1 seed 0: done",
        "e (random) b-v1 seed 0: training",
        "e (random) b-v1 seed 0: failed, ValueError: no",
    ]


def test_two_weights_of_one_encoder_are_two_lines_each(tmp_path):
    first = planned(tmp_path / "one" / "a", "import time; time.sleep(0.3)")
    second = planned(tmp_path / "two" / "a", "import time; time.sleep(0.3)")
    other = dataclasses.replace(second.job, weights="released")
    plan = [first, dataclasses.replace(second, job=other)]
    lines: list[str] = []
    show = display.LineReporter(lines.append)
    jobs.run_jobs(plan, tmp_path, parallel=2, show=show, refresh_s=0.01)
    said = [line.partition(" (about")[0] for line in lines]
    assert len(said) == len(set(said))
    assert {"e (random) a-v1 seed 0: done", "e a-v1 seed 0: done"} <= set(said)


def test_last_words():
    assert jobs.error_of(["a", "b"], 3) == "exit code 3: b"
    assert jobs.error_of([], -11) == "killed by SIGSEGV"
    assert jobs.error_of(["error: one", "Error: two"], 2) == "one"


def test_status_is_json_with_the_command(tmp_path):
    plan = [planned(tmp_path / "a", "print(1)", "print(2)")]
    jobs.run_jobs(plan, tmp_path, refresh_s=0.01)
    content = json.loads((tmp_path / "a" / "status.json").read_text())
    assert content["train"] == ["-c", "print(1)"]
    assert content["job"] == "e (random) a-v1 seed 0"


def wait_for(condition, timeout=20.0):
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, "timed out"
        threading.Event().wait(0.02)
