"""Runs the jobs of a plan as child processes, one to a GPU, and keeps what became of each.

A job is tools/train.py and then tools/test.py, with their output in <work_dir>/benchmark.log.
What happened stands in <work_dir>/status.json, failures included, with their error. A job whose
process is still alive, of this benchmark or another, holds a lock on its folder: nobody else
starts it.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import IO, Any, NoReturn

from pe_dense.files import atomic_write_text, fcntl
from pe_dense.results.provenance import utc_now
from pe_dense.run.error_text import told
from pe_dense.suites.plan import Job, PlannedJob

WAITING, TRAINING, TESTING = "waiting", "training", "scoring"
DONE, FAILED, RECORDED, ELSEWHERE = "done", "failed", "recorded", "runs elsewhere"
RECORDED_STATES = (DONE, RECORDED)  # in all others there is no record
KEPT_LINES = 30

_STEP = re.compile(
    r"(?P<kind>Epoch|Iter)\((?P<phase>train|val|test)\)\s*"
    r"(?:\[\s*(?P<epoch>\d+)\])?\s*\[\s*(?P<step>\d+)/(?P<steps>\d+)\]"
)
_ETA = re.compile(r"eta: (?:(\d+) days?, )?(\d+):(\d\d):(\d\d)")


@dataclass
class Progress:
    """Where a job is.

    Attributes:
        planned: The job, with its estimate.
        state: One of the names above.
        step: What the log says: 'epoch 3, 40/100'.
        eta_s: Seconds left of this phase, as the log says; None where it does not.
        started: `time.monotonic()` of the start, None before.
        seconds: Wall time once it has ended.
        error: Why it failed, one line.
    """

    planned: PlannedJob
    state: str = WAITING
    step: str = ""
    eta_s: float | None = None
    started: float | None = None
    seconds: float | None = None
    error: str = ""

    def remaining_s(self) -> float:
        """Estimated seconds until the job ends."""
        if self.state in (DONE, FAILED, RECORDED, ELSEWHERE):
            return 0.0
        if self.eta_s is not None:
            return self.eta_s
        spent = 0.0 if self.started is None else time.monotonic() - self.started
        return max(self.planned.seconds - spent, 0.0)


@dataclass
class Board:
    """The progress of all jobs; worker threads write, the display reads."""

    jobs: list[Progress]
    slots: int = 1
    lock: threading.Lock = field(default_factory=threading.Lock)

    def remaining_s(self) -> float:
        """Estimated seconds until all jobs have ended: the work left, spread over the slots."""
        left = [job.remaining_s() for job in self.jobs]
        return max(sum(left) / self.slots, max(left, default=0.0))


def visible_gpus() -> list[str]:
    """What to write into CUDA_VISIBLE_DEVICES for each GPU of this machine; [] without one."""
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    named = [part.strip() for part in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")]
    return [part for part in named if part][:count] or [str(i) for i in range(count)]


def parse_step(line: str) -> tuple[str, float | None] | None:
    """Phase and seconds left from a log line of MMEngine, or None if the line is another.

    Example:
        >>> parse_step("Epoch(train)  [5][ 50/200]  lr: 8e-05  eta: 0:02:13  time: 0.5")
        ('epoch 5, 50/200', 133.0)
    """
    step = _STEP.search(line)
    if step is None:
        return None
    eta = _ETA.search(line)
    seconds = None
    if eta is not None:
        days, hours, minutes, rest = (int(part or 0) for part in eta.groups())
        span = timedelta(days=days, hours=hours, minutes=minutes, seconds=rest)
        seconds = span.total_seconds()
    place = f"{step['step']}/{step['steps']}"
    if step["phase"] != "train":
        return f"{step['phase']} {place}", None
    return (f"epoch {step['epoch']}, {place}" if step["epoch"] else place), seconds


def run_jobs(
    plan: Sequence[PlannedJob],
    records: Path,
    gpus: Sequence[str] = (),
    parallel: int | None = None,
    show: Callable[[Board], None] = lambda board: None,
    refresh_s: float = 0.5,
    faults: Mapping[Path, str] | None = None,
) -> Board:
    """Run what is not recorded yet; a failure does not stop the others.

    Args:
        plan: Jobs, in the order in which they start.
        records: Root of the records.
        gpus: Values for CUDA_VISIBLE_DEVICES, one job at a time on each; empty: on the CPU.
        parallel: Jobs at a time, instead of one per GPU or one on the CPU.
        show: Called about every `refresh_s` seconds with the state of everything.
        refresh_s: Seconds between two calls of `show`.
        faults: Work dir of a job -> why it cannot run, where that is known; it has failed.

    Returns:
        The board when all have ended. On KeyboardInterrupt, SIGTERM and SIGHUP the children are
        stopped first.

    Raises:
        ValueError: On Windows, which has no locks that a child inherits, and no process groups.
    """
    if fcntl is None:
        raise ValueError(
            "tools/benchmark.py does not run on Windows itself; call it in WSL, or tools/train.py "
            "and tools/test.py for each run"
        )
    board = Board([Progress(p, RECORDED if p.record else WAITING) for p in plan])
    for progress in board.jobs:
        fault = (faults or {}).get(progress.planned.job.work_dir)
        if progress.state == WAITING and fault is not None:
            progress.state, progress.error = FAILED, fault
    queue = deque(progress for progress in board.jobs if progress.state == WAITING)
    slots = [str(gpu) for gpu in gpus] or [""]
    if parallel is not None:
        slots = [slots[i % len(slots)] for i in range(parallel)]
    board.slots = max(1, min(len(slots), len(queue)))
    stop = threading.Event()
    children: list[subprocess.Popen] = []

    def work(gpu: str) -> None:
        while not stop.is_set():
            try:
                progress = queue.popleft()
            except IndexError:
                return
            run_job(progress, records, gpu if gpus else None, board.lock, children, stop)

    threads = [threading.Thread(target=work, args=(gpu,), daemon=True) for gpu in slots]
    for thread in threads:
        thread.start()
    before = {number: signal.signal(number, _leave) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        while any(thread.is_alive() for thread in threads):
            show(board)
            for thread in threads:
                thread.join(refresh_s / len(threads))
    except BaseException:
        stop.set()
        with board.lock:
            end(children)
        for thread in threads:
            thread.join(1)
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    show(board)
    return board


def _leave(number: int, frame: object) -> NoReturn:
    raise SystemExit(128 + number)


def end(children: Sequence[subprocess.Popen], patience_s: float = 10.0) -> None:
    """Stop children with all that they started: asked first, killed after `patience_s` seconds."""
    deadline = time.monotonic() + patience_s
    for number in (signal.SIGTERM, signal.SIGKILL):
        for child in children:
            if child.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(child.pid, number)
        while any(child.poll() is None for child in children) and time.monotonic() < deadline:
            time.sleep(0.05)


def run_job(
    progress: Progress,
    records: Path,
    gpu: str | None,
    lock: threading.Lock,
    children: list[subprocess.Popen],
    stop: threading.Event,
) -> None:
    """Train and score one job; the outcome goes to `progress` and to its status file.

    A job that cannot run, because its folder cannot be written or its status file is damaged, is
    a failed one, with the reason; whatever happens here, the jobs behind it have their turn.
    """
    try:
        _run_phases(progress, records, gpu, lock, children, stop)
    except Exception as error:
        text = told(error, ()) or f"{type(error).__name__}: {error}"
        progress.state, progress.error = FAILED, " ".join(text.split())


def _run_phases(
    progress: Progress,
    records: Path,
    gpu: str | None,
    lock: threading.Lock,
    children: list[subprocess.Popen],
    stop: threading.Event,
) -> None:
    job = progress.planned.job
    read_attempts(job)  # before hours are spent on what cannot be noted
    job.work_dir.mkdir(parents=True, exist_ok=True)
    with (job.work_dir / ".lock").open("w") as holder:
        try:
            fcntl.flock(holder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            progress.state = ELSEWHERE
            return
        environment = dict(os.environ)
        if gpu is not None:
            environment["CUDA_VISIBLE_DEVICES"] = gpu
        progress.started, begun = time.monotonic(), utc_now()
        phases = [(TRAINING, job.train_command()), (TESTING, job.test_command(records))]
        phases = [(state, command) for state, command in phases if command]
        with (job.work_dir / "benchmark.log").open("a") as log:
            for state, command in phases:
                progress.state, progress.step, progress.eta_s = state, "", None
                last, code = _run(command, environment, progress, log, holder, lock, children, stop)
                if stop.is_set():
                    progress.state = WAITING
                    return
                if code != 0:
                    progress.error = error_of(last, code)
                    break
        progress.seconds = time.monotonic() - progress.started
        progress.state = FAILED if progress.error else DONE
        progress.step, progress.eta_s = "", None
        write_status(job, progress, begun, list(last) if progress.error else [])


def _run(
    command: Sequence[str],
    environment: dict[str, str],
    progress: Progress,
    log: IO[str],
    holder: IO[str],
    lock: threading.Lock,
    children: list[subprocess.Popen],
    stop: threading.Event,
) -> tuple[deque[str], int]:
    """Run one command; follow its output. Its last lines and exit code."""
    last: deque[str] = deque(maxlen=KEPT_LINES)
    with lock:
        if stop.is_set():
            return last, -1
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env=environment,
            start_new_session=True,  # a signal reaches its loading workers too
            pass_fds=(holder.fileno(),),  # the lock lives as long as the child
        )
        children.append(child)
    assert child.stdout is not None
    for line in child.stdout:
        log.write(line)
        log.flush()
        if line.strip():
            last.append(line.rstrip())
        step = parse_step(line)
        if step is not None:
            progress.step = step[0]
            progress.eta_s = step[1] if progress.state == TRAINING else None
    return last, child.wait()


def error_of(last: Sequence[str], code: int) -> str:
    """The line that says best why a command failed."""
    for line in reversed(last):
        if line.startswith("error: "):
            return line.removeprefix("error: ")
    for line in reversed(last):
        if re.match(r"[\w.]*(Error|Exception|Interrupt)\b", line):
            return line
    if code < 0:
        return f"killed by {signal.Signals(-code).name}" + (f" after: {last[-1]}" if last else "")
    return f"exit code {code}" + (f": {last[-1]}" if last else "")


def write_status(job: Job, progress: Progress, begun: str, last: Sequence[str]) -> None:
    """Add an attempt to the job's status file; earlier attempts stay."""
    attempt = {
        "state": progress.state,
        "begun": begun,
        "seconds": round(progress.seconds or 0.0, 1),
        "error": progress.error,
        "last_lines": list(last),
    }
    attempts = [*read_attempts(job), attempt]
    content = {"job": job.name, "train": job.train_command()[1:], "attempts": attempts}
    atomic_write_text(job.work_dir / "status.json", json.dumps(content, indent=2) + "\n")


def read_attempts(job: Job) -> list[dict[str, Any]]:
    """All attempts at a job so far, the oldest first.

    Raises:
        ValueError: If the status file cannot be read.
    """
    path = job.work_dir / "status.json"
    if not path.is_file():
        return []
    try:
        attempts = json.loads(path.read_text())["attempts"]
    except (ValueError, KeyError, TypeError, RecursionError):
        attempts = None
    if not isinstance(attempts, list) or not all(isinstance(one, dict) for one in attempts):
        raise ValueError(f"{path} is not a status file; remove it")
    return attempts
