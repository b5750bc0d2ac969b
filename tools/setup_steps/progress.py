"""Run a long command with its output in a log, and say now and then how far it is."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path

SAY_EVERY_S = 30


def hms(seconds: float) -> str:
    """Hours, minutes, seconds: `0:03:20`."""
    return str(timedelta(seconds=int(seconds)))


def run_logged(
    command: list[str],
    log: Path,
    env: Mapping[str, str],
    title: str,
    *keep_open: int,
    how_far: Callable[[str, float], str] = lambda output, seconds: "",
) -> tuple[int, str]:
    """Run a command with its output appended to `log`; return its exit status and the output.

    Every 30 s, on a terminal every second, a line says `title`, the time, and what `how_far` makes
    of the output and the seconds so far. The program inherits the files `keep_open`.
    """
    on_terminal = sys.stdout.isatty()
    # The program writes to the log itself: if this process dies, it goes on undisturbed.
    with log.open("a+", errors="replace") as file:
        print(f"$ {' '.join(command)}", file=file, flush=True)
        begin, started = file.tell(), time.monotonic()
        streams = dict(stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT)
        process = subprocess.Popen(command, env=env, pass_fds=keep_open, **streams)
        while True:
            try:
                process.wait(1 if on_terminal else SAY_EVERY_S)
            except subprocess.TimeoutExpired:
                file.seek(begin)
                seconds = time.monotonic() - started
                line = f"      {title}: {hms(seconds)}{how_far(file.read(), seconds)}"
                print(f"\r{line}\x1b[K" if on_terminal else f"{line}\n", end="", flush=True)
            else:
                print("\r\x1b[K" if on_terminal else "", end="", flush=True)
                file.seek(begin)
                return process.returncode, file.read()
