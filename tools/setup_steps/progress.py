"""Run a long command with its output in a log, and say now and then how far it is."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

NINJA_STEP = re.compile(r"^\s*\[(\d+)/(\d+)\]\s", re.MULTILINE)  # [12/78] c++ ...

SAY_EVERY_S = 30


def duration(seconds: float) -> str:
    """Seconds as people say them: `45 s`, `3 min 20 s`."""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def progress_line(title: str, seconds: float, output: str) -> str:
    """How far a command is, from its time and, while ninja compiles, from what it printed."""
    text = f"      {title}: {duration(seconds)}"
    if steps := NINJA_STEP.findall(output):
        done, total = map(int, steps[-1])
        text += f", {done} of {total} files ({100 * done // total} %)"
        if 3 <= done < total:
            text += f", about {max(1, round(seconds / done * (total - done) / 60))} min left"
    return text


def run_logged(
    command: list[str], log: Path, env: Mapping[str, str], title: str, *keep_open: int
) -> tuple[int, str]:
    """Run a command with its output in a log file, and say every 30 s how far it is.

    Args:
        command: Program and arguments.
        log: The output is appended here, as it comes.
        env: The environment of the program.
        title: What is being done, for the progress line.
        *keep_open: File descriptors that the program inherits.

    Returns:
        Exit status and output.
    """
    on_terminal = sys.stdout.isatty()
    # The program writes to the log itself: if this process dies, it goes on undisturbed.
    with log.open("a+", errors="replace") as file:
        print(f"$ {' '.join(command)}", file=file, flush=True)
        begin, started = file.tell(), time.monotonic()

        def output() -> str:
            file.seek(begin)
            return file.read()

        process = subprocess.Popen(
            command,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            pass_fds=keep_open,
        )
        while True:
            try:
                process.wait(1 if on_terminal else SAY_EVERY_S)
                break
            except subprocess.TimeoutExpired:
                line = progress_line(title, time.monotonic() - started, output())
                print(f"\r{line}\x1b[K" if on_terminal else f"{line}\n", end="", flush=True)
        if on_terminal:
            print("\r\x1b[K", end="", flush=True)
        return process.returncode, output()
