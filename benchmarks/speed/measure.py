"""Timing, peak memory and CSV rows for the speed scripts of this folder.

Time: the variants take turns inside one process, in rotating order, and each is summed up by its
median; the ratio is ours over the reference, so below 1 is faster or smaller.

Peak memory on a CPU: every variant runs alone in a fresh process, which resets the kernel's
high-water mark of resident memory after weights and inputs exist and reads it after two runs.
What the number holds is therefore everything above weights and inputs: activations, gradients,
scratch space of the math libraries. The profiler's own count would miss the last of these.
"""

from __future__ import annotations

import contextlib
import csv
import ctypes
import gc
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import torch

FOLDER = Path(__file__).resolve().parent
ROOT = FOLDER.parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]  # the checkout, and the helper that imports timm
MIB = 2**20


def precision_context(precision: str, device: str = "cpu") -> contextlib.AbstractContextManager:
    """'fp32', or 'bf16' for autocast with float32 weights."""
    if precision == "fp32":
        return contextlib.nullcontext()
    return torch.autocast(device, torch.bfloat16)


def run_once(forward: Callable[[], torch.Tensor], precision: str, train: bool) -> None:
    """One forward pass without gradients, or one forward and backward pass."""
    if not train:
        with torch.no_grad(), precision_context(precision):
            forward()
        return
    with precision_context(precision):
        loss = forward().float().square().mean()
    loss.backward()


def interleaved_ms(runs: Mapping[str, Callable[[], None]], repeats: int) -> dict[str, float]:
    """Median milliseconds of every variant; they take turns, after one warm-up each."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    names = list(runs)
    for run in runs.values():
        run()
    for i in range(repeats):
        turn = i % len(names)
        for name in names[turn:] + names[:turn]:
            start = time.perf_counter()
            runs[name]()
            times[name].append(1e3 * (time.perf_counter() - start))
    return {name: statistics.median(values) for name, values in times.items()}


def resident_bytes(field: str) -> int:
    """VmRSS (now) or VmHWM (high-water mark) of this process."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith(field + ":"):
                return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def peak_bytes_above_now(run: Callable[[], None]) -> int:
    """Highest resident memory during two runs, minus what is resident now."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        # Freed memory that the C library keeps would be reused unseen: hand it back first.
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM
    before = resident_bytes("VmRSS")
    run()
    run()
    return resident_bytes("VmHWM") - before


def peak_mib_of_variants(arguments: Iterable[str], variants: Iterable[str]) -> dict[str, float]:
    """Start this script again for each variant with `--memory-of`, and collect what it prints."""
    peaks = {}
    for variant in variants:
        command = [sys.executable, sys.argv[0], *arguments, "--memory-of", variant]
        result = subprocess.run(command, capture_output=True, text=True, check=True)
        peaks[variant] = round(int(result.stdout.split()[-1]) / MIB, 1)
    return peaks


def hardware(device: str = "cpu") -> str:
    """Name of the GPU, or of the processor with the threads in use."""
    if device == "cuda":
        return torch.cuda.get_device_name()
    name = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                name = line.partition(":")[2].strip()
                break
    capability = torch.backends.cpu.get_cpu_capability()
    return f"{name}, {capability}, {torch.get_num_threads()} threads of {os.cpu_count()}"


def versions(*packages: str) -> str:
    """Versions of Python, torch and further packages."""
    from importlib.metadata import version

    named = [f"python {platform.python_version()}", f"torch {torch.__version__}"]
    return ", ".join(named + [f"{package} {version(package)}" for package in packages])


def command_line() -> str:
    """The command as typed, without machine-specific folders."""
    script = Path(sys.argv[0]).resolve().relative_to(ROOT)
    return " ".join(["python", str(script), *sys.argv[1:]])


def write_rows(path: Path, rows: list[dict], key: tuple[str, ...]) -> None:
    """Add rows to a CSV file; a row with the same key columns is replaced."""
    stored = []
    if path.is_file():
        with path.open(newline="") as file:
            stored = list(csv.DictReader(file))
    new = {tuple(str(row[column]) for column in key) for row in rows}
    stored = [row for row in stored if tuple(row[column] for column in key) not in new]
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(stored + rows)
    print(f"wrote {path.relative_to(ROOT)}")
