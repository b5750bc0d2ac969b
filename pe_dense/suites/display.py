"""What a person sees of a benchmark: the plan as a table, then its progress, live."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Group
from rich.table import Table
from rich.text import Text

from pe_dense.results.store import record_path
from pe_dense.suites.jobs import (
    DONE,
    ELSEWHERE,
    FAILED,
    RECORDED,
    TESTING,
    TRAINING,
    WAITING,
    Board,
    Progress,
)
from pe_dense.suites.plan import PlannedJob

STYLES = {WAITING: "dim", DONE: "green", RECORDED: "green", FAILED: "bold red", ELSEWHERE: "yellow"}


def duration(seconds: float) -> str:
    """'45 s', '12 min', '3 h 20 min'.

    Example:
        >>> duration(45), duration(750), duration(12000)
        ('45 s', '12 min', '3 h 20 min')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = int(seconds // 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"


def plan_table(plan: Sequence[PlannedJob], slots: int) -> Group:
    """The plan before anything runs."""
    table = _table("Estimate", "Basis")
    for planned in plan:
        if planned.record is None:
            cells = "to do", duration(planned.seconds), planned.basis
        else:
            cells = RECORDED, "", str(record_path(planned.record))
        style = "dim" if planned.record else ""
        table.add_row(*_names(planned), *cells, style=style)
    todo = [planned.seconds for planned in plan if planned.record is None]
    total = max(sum(todo) / max(1, min(slots, len(todo))), max(todo, default=0.0))
    text = f"{len(todo)} of {len(plan)} runs to do, about {duration(total)}"
    return Group(table, Text(f"{text} with {slots} at a time." if slots > 1 else f"{text}."))


def board_table(board: Board) -> Group:
    """The state of everything."""
    table = _table("Time", "Where it is")
    for progress in board.jobs:
        spent = progress.seconds
        if spent is None and progress.started is not None:
            spent = time.monotonic() - progress.started
        style = STYLES.get(progress.state, "bold")
        where = Text(progress.error or _where(progress))
        cells = Text(progress.state, style=style), duration(spent) if spent else "", where
        table.add_row(*_names(progress.planned), *cells)
    ended = sum(p.state in (DONE, RECORDED) for p in board.jobs)
    failed = sum(p.state == FAILED for p in board.jobs)
    text = f"{ended} of {len(board.jobs)} done"
    text += f", {failed} failed" if failed else ""
    left = board.remaining_s()
    return Group(table, Text(text + (f"; about {duration(left)} left" if left else "") + "."))


class LineReporter:
    """Progress for a log file: one line when a job changes its state, and one every minute.

    Args:
        write: Prints a line.
        every_s: Seconds between two lines of a job that goes on.
    """

    def __init__(self, write: Callable[[str], None], every_s: float = 60.0) -> None:
        self._write, self._every_s = write, every_s
        self._last: dict[Path, tuple[str, float]] = {}

    def __call__(self, board: Board) -> None:
        """Look at the board; what `run_jobs` calls."""
        for progress in board.jobs:
            job, now = progress.planned.job, time.monotonic()
            state, then = self._last.get(job.work_dir, (WAITING, now))
            running = progress.state in (TRAINING, TESTING)
            if progress.state == state and not (running and now - then >= self._every_s):
                continue
            self._last[job.work_dir] = progress.state, now
            detail = progress.error or _where(progress)
            left = f" (about {duration(board.remaining_s())} left in all)" if running else ""
            name = job.name
            self._write(f"{name}: {progress.state}" + (f", {detail}" if detail else "") + left)


def _where(progress: Progress) -> str:
    eta = f", {duration(progress.eta_s)} left" if progress.eta_s else ""
    return progress.step + eta


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("Encoder", "Protocol", "Seed", "State", *columns):
        table.add_column(name, justify="right" if name == "Seed" else "left")
    return table


def _names(planned: PlannedJob) -> tuple[str, str, str]:
    job = planned.job
    return job.tower, f"{job.protocol}-v{job.version}", str(job.seed)
