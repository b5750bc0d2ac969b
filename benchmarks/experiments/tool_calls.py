"""Call this repository's tools from an experiment, and say what that cost."""

from __future__ import annotations

import os
import resource
import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def call(command: Sequence[str], output: Path | None = None, root: Path = ROOT) -> float:
    """Run a command in the repository; its processor minutes.

    Args:
        command: Program and arguments; the program is Python.
        output: File for what it prints, as it comes; None: kept for the error alone.
        root: The repository, or a clone of it.

    Raises:
        ValueError: If it fails, with the end of what it printed.
    """
    print("$", shlex.join(["python", *command[1:]]), flush=True)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = {**os.environ, "PYTHONPATH": str(root)}
    file = output or Path(os.devnull)
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w+", errors="replace") as log:
        done = subprocess.run(
            command, cwd=root, env=environment, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if output is None else log, stderr=subprocess.STDOUT,
            text=True, check=False,
        )  # fmt: skip
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        printed = done.stdout if output is None else output.read_text(errors="replace")
        raise ValueError(f"{shlex.join(command)} failed: {printed[-1500:]}")
    return (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / 60
