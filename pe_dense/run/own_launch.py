"""Several processes of one tool on this machine: what `--gpus N` starts, without torchrun.

They get what torchrun gives its own (RANK, LOCAL_RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT) and
`--launcher pytorch`, so that a run is the same. It differs at the end: torchrun leaves with exit
code 1 and a traceback of its own whatever was wrong, and no process can change that; here one
sentence is told once, and the exit code is that of the process that failed first.

Nothing here imports torch.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from pe_dense.results.provenance import by_command

ERRORS = "PE_DENSE_ERRORS"  # folder in which a process leaves what it would have told
STARTED_AS = "PE_DENSE_STARTED_AS"  # JSON of the command that started the processes
_GRACE = 10.0  # seconds in which the others may end by themselves
_OLD = 60.0  # seconds after which a note is one of another run
INTERRUPTED = 130


def launch(argv: Sequence[str], count: int) -> int:
    """Start processes and wait for all; the exit code.

    Args:
        argv: As `sys.argv`, with `--gpus N` still in it.
        count: How many there are, at least 2.

    Raises:
        ValueError: With what they told, each sentence once.
    """
    words = command(argv)
    with tempfile.TemporaryDirectory(prefix="pe_dense-") as folder:
        shared = {
            **os.environ, ERRORS: folder, STARTED_AS: json.dumps([*argv]),
            "WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count), "GROUP_WORLD_SIZE": "1",
            "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()),
        }  # fmt: skip
        shared.setdefault("OMP_NUM_THREADS", "1")
        processes = [
            subprocess.Popen(words, env={**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)})
            for rank in range(count)
        ]
        code = _wait(processes)
        told = [file.read_text(encoding="utf-8") for file in sorted(Path(folder).iterdir())]
    if told:
        raise ValueError("; ".join(dict.fromkeys(told)))
    if code > 128 and code != INTERRUPTED:
        name = signal.Signals(code - 128).name
        sys.stderr.write(f"error: a process was ended by {name}; is there memory for {count}?\n")
    return code


def command(argv: Sequence[str]) -> list[str]:
    """What one process runs: this command without `--gpus N`, with `--launcher pytorch`.

    Example:
        >>> command(["pe-dense train", "c.py", "--gpus", "2", "--amp"])[1:]
        ['-m', 'pe_dense', 'train', 'c.py', '--amp', '--launcher', 'pytorch']
    """
    words = iter(argv[1:])
    kept = []
    for word in words:
        if word == "--gpus":
            next(words)
        elif not word.startswith("--gpus="):
            kept.append(word)
    # Beside a checkout `pe-dense` needs the module; a script is a file.
    tool = ["-m", "pe_dense", argv[0].split()[1]] if by_command(argv) else [argv[0]]
    return [sys.executable, *tool, *kept, "--launcher", "pytorch"]


def free_port() -> int:
    """A port of this machine that nothing listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait(processes: Sequence[subprocess.Popen[bytes]]) -> int:
    """The exit code of the first that fails, which ends the others; 0 if none does."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        while True:
            codes = [process.poll() for process in processes]
            failed = next((code for code in codes if code), None)
            if failed is not None:
                _end(processes)
                return failed if failed > 0 else 128 - failed
            if None not in codes:
                return 0
            time.sleep(0.1)
    except KeyboardInterrupt:  # the terminal told all of them
        return INTERRUPTED
    finally:
        _end(processes)
        signal.signal(signal.SIGTERM, before)


def _end(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """Wait a moment for all that run, then end them."""
    until = time.monotonic() + _GRACE
    for end in (None, subprocess.Popen.terminate, subprocess.Popen.kill):
        for process in processes:
            if process.poll() is None:
                if end is not None:
                    end(process)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(max(0.1, until - time.monotonic()) if end is None else _GRACE)


# ---- what a process of several tells ---------------------------------------------------------


def is_told(text: str, environ: Any = os.environ) -> bool:
    """Whether another process of this run tells a sentence, so that this one does not.

    Under `launch` all leave it for the process that started them. Under torchrun the first on this
    machine tells it; torchrun repeats it at its end, from the file that it names for that.
    """
    if folder := environ.get(ERRORS):
        Path(folder, environ.get("RANK", "0")).write_text(text, encoding="utf-8")
        return True
    if file := environ.get("TORCHELASTIC_ERROR_FILE"):
        about = {"py_callstack": text, "timestamp": str(int(time.time()))}
        content = {"message": {"message": text, "extraInfo": about}}
        with contextlib.suppress(OSError):
            Path(file).write_text(json.dumps(content), encoding="utf-8")
    job = [environ.get(name) for name in ("TORCHELASTIC_RUN_ID", "SLURM_JOB_ID", "SLURM_STEP_ID")]
    if not any(job):
        return False
    name = "-".join(["pe_dense", *filter(None, job), str(os.getppid())]).replace(os.sep, "_")
    claim = Path(tempfile.gettempdir(), name)
    try:
        claim.open("x").close()
    except FileExistsError:
        is_old = time.time() - claim.stat().st_mtime > _OLD
        claim.touch()
        return not is_old  # numbers of processes come again
    except OSError:
        return False
    return False


def started_as(argv: Sequence[str]) -> list[str]:
    """The command that a person typed, where this process is one of several of it."""
    return json.loads(os.environ.get(STARTED_AS, "null")) or [*argv]
