"""Run a long command with its output in a log, and say now and then how far it is."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path


def duration(seconds: float) -> str:
    """Seconds as people say them: `45 s`, `3 min 20 s`."""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


class Progress:
    """How far one stage is, read from the lines that ninja prints (`[12/78] c++ ...`).

    Args:
        title: What is being done, e.g. "compiling mmcv".
        clock: Seconds, monotonic.
    """

    STEP = re.compile(r"^\s*\[(\d+)/(\d+)\]\s")

    def __init__(self, title: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.title = title
        self.clock = clock
        self.started = clock()
        self.first_step = self.started
        self.done = self.total = 0

    def feed(self, line: str) -> None:
        """Take one line of output into account."""
        if "Running command Building wheel" in line:
            self.first_step = self.clock()
        step = self.STEP.match(line)
        if step:
            self.done, self.total = int(step[1]), int(step[2])

    def __str__(self) -> str:
        now = self.clock()
        text = f"      {self.title}: {duration(now - self.started)}"
        if self.total:
            percent = 100 * self.done // self.total
            text += f", {self.done} of {self.total} files ({percent} %)"
        if 3 <= self.done < self.total:
            left = (now - self.first_step) / self.done * (self.total - self.done)
            text += f", about {max(1, round(left / 60))} min left"
        return text


def run_logged(
    command: list[str],
    log: Path,
    env: Mapping[str, str],
    title: str,
    keep_open: tuple[int, ...] = (),
) -> int:
    """Run a command with its output in a log file, and say every 30 s how far it is.

    Args:
        command: Program and arguments.
        log: The output is appended here, as it comes.
        env: The environment of the program.
        title: What is being done, for the progress line.
        keep_open: File descriptors that the program inherits.

    Returns:
        The exit status.
    """
    progress = Progress(title)
    on_terminal = sys.stdout.isatty()
    # The program writes to the log itself: if this process dies, it goes on undisturbed.
    with log.open("ab") as sink, log.open("rb") as source:
        sink.write(f"$ {' '.join(command)}\n".encode())
        sink.flush()
        source.seek(0, 2)
        process = subprocess.Popen(
            command,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
            pass_fds=keep_open,
        )
        spoken = time.monotonic()
        while process.poll() is None:
            time.sleep(0.1)
            for line in source.readlines():
                progress.feed(line.decode(errors="replace"))
            if time.monotonic() - spoken >= (1 if on_terminal else 30):
                spoken = time.monotonic()
                line = f"\r{progress}\x1b[K" if on_terminal else f"{progress}\n"
                print(line, end="", flush=True)
    if on_terminal:
        print("\r\x1b[K", end="", flush=True)
    return process.returncode
