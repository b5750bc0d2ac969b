"""What other systems lack is guarded: the package without fcntl, fork, and Linux's own calls."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pe_dense import files
from pe_dense.data import forked_workers
from pe_dense.data.checks.many_files import FEW, each_group
from pe_dense.data.one_at_a_time import one_at_a_time
from pe_dense.suites import jobs

REPO = Path(__file__).resolve().parents[1]
# Modules that Windows lacks are not there for this package; libraries have their own guards.
AS_ON_WINDOWS = """
import builtins, importlib, os, pkgutil, signal, sys
whole = builtins.__import__

def without_posix(name, globals=None, locals=None, fromlist=(), level=0):
    asked = (globals or {}).get("__name__", "")
    if asked.split(".")[0] == "pe_dense" and name in ("fcntl", "resource", "pwd", "grp", "termios"):
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)
    return whole(name, globals, locals, fromlist, level)

builtins.__import__ = without_posix
for name in ("sched_getaffinity", "killpg"):
    delattr(os, name)
del signal.SIGHUP
import pe_dense
tried = 0
for found in pkgutil.walk_packages(pe_dense.__path__, "pe_dense."):
    try:
        importlib.import_module(found.name)
        tried += 1
    except ModuleNotFoundError as error:
        assert error.name.split(".")[0] in sys.argv[1:], error
from pe_dense import files
assert files.fcntl is None
print("IMPORTED", tried)
"""
OPTIONAL = ("detectron2", "triton", "timm", "transformers", "trackeval", "lap", "h5py", "av")


@pytest.mark.slow
def test_every_module_is_imported_without_what_windows_lacks() -> None:
    pytest.importorskip("mmdet")
    done = subprocess.run(
        [sys.executable, "-c", AS_ON_WINDOWS, *OPTIONAL],
        cwd=REPO, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(REPO)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout.split()[-1]) > 250


@pytest.fixture
def without_locks(monkeypatch):
    """The package as where `import fcntl` failed."""
    for module in (files, jobs, sys.modules["pe_dense.data.one_at_a_time"]):
        monkeypatch.setattr(module, "fcntl", None)


def test_one_works_at_a_time_without_locks(without_locks, tmp_path) -> None:
    said = []
    with one_at_a_time(tmp_path / "lock", lambda: said.append(1)):
        assert (tmp_path / "lock.claim").exists()  # others wait for it
    assert not said and not (tmp_path / "lock.claim").exists()


def test_a_suite_is_refused_without_process_groups(without_locks, tmp_path) -> None:
    with pytest.raises(ValueError, match="does not run on Windows itself; call it in WSL"):
        jobs.run_jobs([], tmp_path)


def test_work_on_many_files_needs_no_fork(monkeypatch) -> None:
    monkeypatch.setattr(multiprocessing, "get_all_start_methods", lambda: ["spawn"])
    assert forked_workers.max_workers() == 1
    numbers = list(range(FEW + 1))
    ticks = []
    parts = each_group(lambda part: sum(part), numbers, lambda done, total: ticks.append(done))
    assert sum(parts) == sum(numbers)  # a lambda cannot be sent to another process
    assert ticks[-1] == len(numbers)


def test_cores_are_counted_without_sched_getaffinity(monkeypatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)  # macOS
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert forked_workers.max_workers() == 6


def test_a_file_is_flushed_where_only_writers_can(monkeypatch, tmp_path) -> None:
    """Windows refuses to flush a file that is open for reading."""
    modes, opened = [], Path.open

    def noted(path, mode="r", *rest, **named):
        modes.append(mode)
        return opened(path, mode, *rest, **named)

    monkeypatch.setattr(Path, "open", noted)
    (tmp_path / "a").write_bytes(b"a")
    monkeypatch.setattr(files.os, "name", "nt")
    files._flush(tmp_path / "a")
    monkeypatch.undo()
    assert modes[-1] == "rb+"
