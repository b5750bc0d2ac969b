"""Compile mmcv's operators for the torch in this environment; everything works without them.

    make operators        docs/operators.md says what they gain

Needs a C++ compiler and the headers of Python, and about 10 minutes on two cores; with a GPU and
nvcc they are compiled for CUDA as well. A set-up that is started meanwhile waits.
Environment: CC, CXX, MAX_JOBS, CUDA_HOME, TORCH_CUDA_ARCH_LIST and FORCE_CUDA (1 or 0) are obeyed
where they are set.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import sysconfig
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))  # absent under PYTHONSAFEPATH
from setup_steps import compiler
from setup_steps.lock import lock_setup
from setup_steps.pip_environment import pip_environment
from setup_steps.progress import hms, run_logged
from setup_steps.versions import installed

ROOT = Path(__file__).resolve().parents[1]


def build_environment(cuda: bool, cuda_home: str | None, gpu_kinds: str) -> dict[str, str]:
    """The environment of the compiler; what the user set counts."""
    given = pip_environment(os.environ, sys.prefix)
    jobs = given.get("MAX_JOBS") or str(compiler.parallel_jobs(*compiler.machine_size()))
    env = {**given, "MAX_JOBS": jobs, "FORCE_CUDA": "1" if cuda else "0"}
    env["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{given.get('PATH', os.defpath)}"
    # Debug symbols and warnings cost 40 % of the compile time and nobody reads them.
    for flags in ("CFLAGS", "CXXFLAGS"):
        env[flags] = f"{given.get(flags, '')} -g0 -w".strip()
    if cuda and cuda_home:
        env["CUDA_HOME"] = cuda_home
    if cuda and gpu_kinds:
        env["TORCH_CUDA_ARCH_LIST"] = gpu_kinds  # for the devices that are here, not for all kinds
    if not cuda:
        env["CUDA_VISIBLE_DEVICES"] = ""  # mmcv compiles for CUDA wherever torch sees a GPU
    return env


def gpu_kinds() -> str:
    """Kinds of GPU to compile for, e.g. '8.0;9.0'."""
    import torch

    devices = range(torch.cuda.device_count())
    found = {".".join(map(str, torch.cuda.get_device_capability(gpu))) for gpu in devices}
    return os.environ.get("TORCH_CUDA_ARCH_LIST") or ";".join(sorted(found))


def main() -> int:
    """Compile and try the operators; return the exit status, 2 after a failure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--log", type=Path, default=Path(sys.prefix) / "setup-logs" / "mmcv.log")
    log = parser.parse_args().log
    import torch  # loaded late: --help needs none of it

    from pe_dense.openmmlab import compiled_operators

    problem = compiler.compiler_problem(os.environ) or compiler.headers_problem(
        Path(sysconfig.get_paths()["include"])
    )
    if problem:
        print(problem, file=sys.stderr)
        return 2
    nvcc_cuda, cuda_home = compiler.find_cuda(os.environ)
    seen = torch.cuda.is_available()
    forced = os.environ.get("FORCE_CUDA")
    cuda = compiler.choose_cuda(torch.version.cuda, seen, nvcc_cuda, forced)
    env = build_environment(cuda.enabled, cuda_home, gpu_kinds())
    [mmcv] = installed("onedl-mmcv")
    minutes = compiler.compile_minutes(int(env["MAX_JOBS"]), cuda.enabled)
    print(f"{env['MAX_JOBS']} processes, about {minutes} minutes. {cuda.reason}", flush=True)
    started = time.monotonic()
    log.parent.mkdir(parents=True, exist_ok=True)
    # --verbose: the lines of the compiler are the progress.
    pip = [sys.executable, "-m", "pip", "install", "--verbose", "--no-build-isolation", "--no-deps"]
    command = [*pip, "--force-reinstall", "--no-cache-dir", mmcv]
    title = f"compiling {mmcv}"
    with lock_setup(ROOT) as lock:  # pip, which may outlive this, holds it too
        status, output = run_logged(
            command, log, env, title, lock.fileno(), how_far=compiler.files_compiled
        )
    if status:
        tail = "\n".join(output.splitlines()[-20:])
        print(f"{tail}\n\n{mmcv} was not compiled (full log: {log})", file=sys.stderr)
        return 2
    importlib.invalidate_caches()
    os.environ.pop(compiled_operators.VARIABLE, None)  # the question is whether they work
    problem = compiled_operators.problem_on("cuda" if cuda.enabled else "cpu")
    took = hms(time.monotonic() - started)
    print(f"compiled in {took}: {problem or 'the operators work and are used from now on'}")
    return 2 if problem else 0


if __name__ == "__main__":
    sys.exit(main())
