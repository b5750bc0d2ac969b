"""What this machine has to compile with, and one sentence for what it lacks."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple


def compiler_problem(environ: Mapping[str, str], which: Callable = shutil.which) -> str | None:
    """One sentence when no C++ compiler (CXX, or c++, or g++) is found, else None."""
    # torch compiles with CXX (c++ by default), setuptools links with CC (cc or gcc).
    for variable, usual in (("CC", ("cc", "gcc")), ("CXX", ("c++", "g++"))):
        named = environ.get(variable, "").split()
        if not any(which(name) for name in (named[:1] or usual)):
            wanted = f"{variable}={named[0]}" if named else " or ".join(usual)
            return (
                f"No C++ compiler: {wanted} is not on the PATH; install one with "
                "`apt-get install build-essential` (Debian, Ubuntu) or "
                "`dnf install gcc-c++` (Fedora)."
            )
    return None


def headers_problem(include_dir: Path) -> str | None:
    """One sentence when the headers of Python are missing, else None."""
    if (include_dir / "Python.h").is_file():
        return None
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    return (
        f"The headers of Python {version} are missing ({include_dir}/Python.h); install them with "
        f"`apt-get install python{version}-dev` (Debian, Ubuntu) or "
        f"`dnf install python{version}-devel` (Fedora)."
    )


class CudaChoice(NamedTuple):
    """Whether mmcv's ops are compiled for CUDA, and the sentence that says why."""

    enabled: bool
    reason: str


def choose_cuda(
    torch_cuda: str | None, gpu_visible: bool, nvcc_cuda: str | None, forced: str | None = None
) -> CudaChoice:
    """Decide how mmcv's ops are compiled.

    Args:
        torch_cuda: CUDA version of the installed torch, e.g. "13.0"; None for a CPU build.
        gpu_visible: What `torch.cuda.is_available()` says.
        nvcc_cuda: CUDA version of nvcc, None where there is no nvcc.
        forced: Value of FORCE_CUDA in the user's environment.
    """
    if forced == "1":
        return CudaChoice(True, "FORCE_CUDA=1: mmcv's ops are compiled with CUDA.")
    if forced == "0":
        return CudaChoice(False, "FORCE_CUDA=0: mmcv's ops are compiled for the CPU.")
    if torch_cuda is None:
        return CudaChoice(False, "torch is a CPU build: mmcv's ops are compiled for the CPU.")
    if not gpu_visible:
        return CudaChoice(False, "No GPU is visible: mmcv's ops are compiled for the CPU.")
    if nvcc_cuda is None:
        return CudaChoice(
            False,
            f"A GPU is visible but nvcc is not: mmcv's ops are compiled for the CPU; for GPU ops "
            f"install the CUDA toolkit {torch_cuda} and run `make operators` again.",
        )
    if nvcc_cuda.split(".")[0] != torch_cuda.split(".")[0]:
        return CudaChoice(
            False,
            f"nvcc is CUDA {nvcc_cuda} but torch is CUDA {torch_cuda}: mmcv's ops are compiled "
            f"for the CPU; for GPU ops put nvcc {torch_cuda} on the PATH, then `make operators`.",
        )
    return CudaChoice(
        True,
        f"GPU and nvcc {nvcc_cuda} found: mmcv's ops are compiled with CUDA; FORCE_CUDA=0 skips "
        "that.",
    )


def compile_minutes(num_jobs: int, for_cuda: bool) -> int:
    """About how many minutes mmcv's operators take to compile.

    From two measurements: 10 minutes with 2 processes for the CPU, 400 seconds with 14 processes
    for one kind of GPU.
    """
    processor_minutes = 14 * 400 / 60 if for_cuda else 20.0
    return max(1, round(processor_minutes / num_jobs))


NINJA_STEP = re.compile(r"^\s*\[(\d+)/(\d+)\]\s", re.MULTILINE)  # [12/78] c++ ...


def files_compiled(output: str, seconds: float) -> str:
    """How far ninja is, from what it printed, as a part of a sentence; "" before its first file."""
    if not (steps := NINJA_STEP.findall(output)):
        return ""
    done, total = map(int, steps[-1])
    text = f", {done} of {total} files ({100 * done // total} %)"
    if 3 <= done < total:
        text += f", about {max(1, round(seconds / done * (total - done) / 60))} min left"
    return text


def find_cuda(environ: Mapping[str, str]) -> tuple[str | None, str | None]:
    """Version of nvcc and the toolkit folder it belongs to; (None, None) without nvcc."""
    home = environ.get("CUDA_HOME") or environ.get("CUDA_PATH")
    nvcc = shutil.which("nvcc", path=f"{home}/bin") if home else shutil.which("nvcc")
    nvcc = nvcc or shutil.which("nvcc", path="/usr/local/cuda/bin")
    if nvcc is None:
        return None, None
    answer = subprocess.run([nvcc, "--version"], capture_output=True, text=True, check=False)
    version = re.search(r"release (\d+\.\d+)", answer.stdout)
    # nvcc on the PATH may be a wrapper script, so ask it where its toolkit is.
    dry = subprocess.run(
        [nvcc, "--dryrun", "-x", "cu", os.devnull], capture_output=True, text=True, check=False
    )
    top = re.search(r"^#\$ TOP=(\S+)", dry.stderr, re.MULTILINE)
    home = home or (str(Path(top[1]).resolve()) if top else str(Path(nvcc).resolve().parent.parent))
    return (version[1], home) if version else (None, None)


def parallel_jobs(num_cpus: int, memory_gib: float) -> int:
    """Compiler processes at a time: one a CPU, 2 GiB each, at least one."""
    return max(1, min(num_cpus, int(memory_gib // 2)))


def machine_size() -> tuple[int, float]:
    """Number of usable CPUs and memory in GiB."""
    num_cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for limit in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        text = Path(limit).read_text().strip() if Path(limit).is_file() else "max"
        memory = min(memory, int(text)) if text.isdigit() else memory
    return num_cpus or 1, memory / 2**30
