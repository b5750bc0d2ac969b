"""Create `.venv` and install everything that the demo and the tests need; standard library only.

Run by `make setup`, `make demo` and `make test`. An interrupted set-up is run again from the
start: pip passes over what is there, and a finished one is recognised from a single file. The
versions are in `tools/setup_steps/versions.py`, full output in `.venv/setup-logs/`.

Environment: CC, CXX, MAX_JOBS, CUDA_HOME, TORCH_CUDA_ARCH_LIST and FORCE_CUDA (1 or 0) are obeyed
where they are set. mmcv is compiled for the GPUs that are there; FORCE_CUDA=0 skips CUDA.
pip is called with the user's own pip configuration, so its indexes, mirrors and links count.
"""

from __future__ import annotations

import argparse
import ctypes.util
import fcntl
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import time
from pathlib import Path
from typing import IO

from setup_steps import machine
from setup_steps.installed import installed_version, remove_broken_installs, venv_python_version
from setup_steps.progress import duration, run_logged
from setup_steps.versions import installed

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
VENV_PYTHON = VENV / "bin" / "python"
SCHEMAS = ROOT / "tools" / "setup_steps" / "torchvision_schemas.py"

ASK_TORCH = """
import json, torch
gpus = range(torch.cuda.device_count())
kinds = {".".join(map(str, torch.cuda.get_device_capability(gpu))) for gpu in gpus}
print(json.dumps([torch.version.cuda, torch.cuda.is_available(), sorted(kinds)]))
"""
RUN_OPERATORS = """
import sys, torch, mmcv, mmdet, mmseg
from mmcv.ops import nms
device = "cuda" if sys.argv[1] == "True" and torch.cuda.is_available() else "cpu"
boxes = torch.tensor([[0., 0., 9., 9.], [0., 0., 9., 8.], [20., 20., 30., 30.]], device=device)
assert len(nms(boxes, torch.tensor([0.9, 0.8, 0.7], device=device), 0.5)[1]) == 2
print(f"torch {torch.__version__}, mmcv {mmcv.__version__} (its ops ran on: {device}), "
      f"mmdet {mmdet.__version__}, mmseg {mmseg.__version__}")
"""
IMPORT_ALL = """
import timm, mmdet.models, mmseg.models, pe_dense
from mmengine.utils.dl_utils import collect_env
collect_env()  # every run of MMEngine starts with it
"""


class SetupError(Exception):
    """What the user reads: perhaps the end of a log, and one sentence of what to do."""


def complete_key() -> str:
    """Changes whenever some part of the set-up may have to run again."""
    files = [Path(__file__), *sorted((ROOT / "tools" / "setup_steps").glob("*.py"))]
    files += [ROOT / name for name in ("setup.py", "pyproject.toml", "pe_dense/__init__.py")]
    packages = ("torch", "torchvision", "timm", "onedl_mmcv", "numpy", "pe_dense")
    parts = [path.read_text(encoding="utf-8") for path in files]
    parts += [str(ROOT), venv_python_version(VENV), shutil.which("nvcc")]
    parts += [os.environ.get("FORCE_CUDA"), *(installed_version(name, VENV) for name in packages)]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def read_stamp(name: str) -> str | None:
    """What the last set-up left in `.venv/setup-stamps`; None where it did not come so far."""
    path = VENV / "setup-stamps" / name
    return path.read_text().strip() if path.is_file() else None


def write_stamp(name: str, text: str) -> None:
    """Leave a note for the next set-up; all or nothing."""
    folder = VENV / "setup-stamps"
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.partial").write_text(f"{text}\n")
    (folder / f"{name}.partial").replace(folder / name)


class Setup:
    """The steps, in order.

    Args:
        lock: Open lock file; programs inherit it, so a pip that outlives this process holds it.
    """

    NUM_STEPS = 5

    def __init__(self, lock: IO[str]) -> None:
        self.lock = lock
        self.logs = VENV / "setup-logs"
        self.number, self.title = 0, ""
        unwanted = ("PYTHONPATH", "PYTHONHOME", "__PYVENV_LAUNCHER__")
        self.env = {key: value for key, value in os.environ.items() if key not in unwanted}
        self.env |= dict(
            PATH=f"{VENV / 'bin'}{os.pathsep}{self.env.get('PATH', os.defpath)}",  # for ninja
            VIRTUAL_ENV=str(VENV),
            PIP_DISABLE_PIP_VERSION_CHECK="1",
            PIP_USER="0",
            PYTHONUNBUFFERED="1",
        )

    def run(self) -> None:
        """Install what is missing and check the whole."""
        self.logs.mkdir(exist_ok=True)
        (VENV / "setup-stamps" / "complete").unlink(missing_ok=True)
        [site_packages] = VENV.glob("lib/python3*/site-packages")
        for name in remove_broken_installs(site_packages):
            print(f"      {name} was left incomplete and is installed again", flush=True)
        [torch] = installed("torch")
        self.announce(f"installing {torch}")
        self.pip("torch", torch)
        self.announce("installing OpenMMLab and the other packages")
        self.pip("stack", *installed())
        self.without_libgl()
        self.without_torchvision_operators(site_packages)
        self.with_triton()
        self.announce("installing pe_dense (editable)")
        self.pip("package", "--no-deps", "--no-build-isolation", "--editable", str(ROOT))
        with_cuda = self.compile_operators()
        self.announce("checking the installation")
        advice = "packages in .venv are missing or do not fit together: remove .venv if that stays"
        self.python("check", ["-m", "pip", "check"], advice)
        self.python("check", ["-c", IMPORT_ALL], advice)
        print(f"      {self.check_operators(with_cuda)}", flush=True)
        kept = self.python("check", ["-m", "pe_dense.openmmlab.compiled_operators"], advice)
        print(f"      {kept.strip().splitlines()[-1]}", flush=True)
        write_stamp("complete", complete_key())

    def announce(self, text: str) -> None:
        """Print the headline of the next step."""
        self.number += 1
        self.title = text
        print(f"[{self.number}/{self.NUM_STEPS}] {text}", flush=True)

    def pip(self, log_name: str, *arguments: str, **env: str) -> None:
        """Call `pip install`, with more environment variables where they are given."""
        advice = "check the network and the pip configuration"
        self.python(log_name, ["-m", "pip", "install", *arguments], advice, **env)

    def python(self, log_name: str, arguments: list[str], advice: str, **env: str) -> str:
        """Run the Python of `.venv` with its output in a log; return the output.

        Args:
            log_name: Name of the log file, without suffix.
            arguments: Arguments of Python.
            advice: What the user should try when it fails.
            **env: More environment variables.

        Raises:
            SetupError: If it fails; the message holds the end of the log and the advice.
        """
        log = self.logs / f"{log_name}.log"
        command = [str(VENV_PYTHON), *arguments]
        status, output = run_logged(command, log, self.env | env, self.title, self.lock.fileno())
        if status == 0:
            return output
        tail = "\n".join(output.splitlines()[-20:])
        raise SetupError(
            f"{tail}\n\nSet-up failed at {self.title} (full log: {log}): {advice}, "
            "then run the same command again; it goes on from here."
        )

    def without_libgl(self) -> None:
        """Let the headless OpenCV own the `cv2` folder where the other one cannot be loaded.

        Both are required by packages of the stack and install the same files, so the last one
        wins; only the headless one works on a machine without libGL.
        """
        [version] = VENV.glob("lib/python3*/site-packages/cv2/version.py")
        if not ctypes.util.find_library("GL") and "headless = True" not in version.read_text():
            again = ("--force-reinstall", "--no-deps")
            self.pip("stack", *again, *installed("opencv-python-headless"))

    def without_torchvision_operators(self, site_packages: Path) -> None:
        """Make torchvision importable where torch is a CPU build."""
        hook = site_packages / "torchvision_schemas.pth"
        hook.unlink(missing_ok=True)
        try:
            self.python("stack", ["-c", "import torchvision"], "")
        except SetupError:
            print("      torchvision is built for another torch: its compiled operators stay off")
            shutil.copy(SCHEMAS, site_packages)
            hook.write_text("import torchvision_schemas; torchvision_schemas.install()\n")

    def ask_torch(self) -> tuple[str | None, bool, list[str]]:
        """CUDA version of torch, whether it sees a GPU, and the kinds of GPU (e.g. '9.0')."""
        answer = self.python("torch", ["-c", ASK_TORCH], "torch does not start here")
        return tuple(json.loads(answer.splitlines()[-1]))

    def with_triton(self) -> None:
        """Let the tests run Triton kernels beside a CPU build of torch, in triton's interpreter.

        Without dependencies, so that nothing else is replaced. The set-up goes on where triton
        cannot be had: tests of kernels are skipped then.
        """
        torch_cuda = self.ask_torch()[0]
        problem = machine.triton_problem(torch_cuda, platform.system(), platform.machine())
        if problem is None:
            try:
                self.pip("triton", "--no-deps", *installed("triton"))
            except SetupError:
                problem = f"it could not be fetched (log: {self.logs / 'triton.log'})"
        if problem and torch_cuda is None:
            print(f"      no triton: {problem}; tests of its kernels are skipped", flush=True)

    def compile_operators(self) -> bool:
        """Compile mmcv's operators against the installed torch; return whether for CUDA."""
        torch_cuda, gpu_visible, gpu_kinds = self.ask_torch()
        nvcc_cuda, cuda_home = machine.find_cuda(self.env)
        forced = self.env.get("FORCE_CUDA")
        cuda = machine.choose_cuda(torch_cuda, gpu_visible, nvcc_cuda, forced)
        [mmcv] = installed("onedl-mmcv")
        torch, python = installed_version("torch", VENV), venv_python_version(VENV)
        key = f"{mmcv}, Python {python}, torch {torch}, CUDA {cuda.enabled}"
        kinds = self.env.get("TORCH_CUDA_ARCH_LIST") or ";".join(gpu_kinds)
        if cuda.enabled and kinds:
            key += f", GPUs {kinds}"
        compiled = read_stamp("operators") if installed_version("onedl_mmcv", VENV) else None
        if compiled == key:
            self.announce(f"{mmcv} was compiled before")
            return cuda.enabled
        jobs = self.env.get("MAX_JOBS") or str(machine.parallel_jobs(*machine.machine_size()))
        self.announce(f"compiling {mmcv}")
        minutes = machine.compile_minutes(int(jobs), cuda.enabled)
        print(f"      {jobs} processes, about {minutes} minutes. {cuda.reason}", flush=True)
        env = {"MAX_JOBS": jobs, "FORCE_CUDA": "1" if cuda.enabled else "0"}
        # Debug symbols and warnings cost 40 % of the compile time and nobody reads them.
        for flags in ("CFLAGS", "CXXFLAGS"):
            env[flags] = f"{self.env.get(flags, '')} -g0 -w".strip()
        if cuda.enabled and cuda_home:
            env["CUDA_HOME"] = cuda_home
        if cuda.enabled and kinds:
            env["TORCH_CUDA_ARCH_LIST"] = kinds  # for the devices that are here, not for all kinds
        if not cuda.enabled:
            env["CUDA_VISIBLE_DEVICES"] = ""  # mmcv compiles for CUDA wherever torch sees a GPU
        # --verbose: the lines of the compiler are the progress.
        build = ("--verbose", "--no-build-isolation", "--no-deps", mmcv)
        again = ("--force-reinstall", "--no-cache-dir")
        self.pip("mmcv", *build, *(again if compiled else ()), **env)
        try:
            self.check_operators(cuda.enabled)
        except SetupError:
            # pip's cache may hold a wheel that was compiled for another torch or without CUDA.
            print("      the mmcv at hand does not fit this torch: compiling it anew", flush=True)
            self.pip("mmcv", *build, *again, **env)
            self.check_operators(cuda.enabled)
        write_stamp("operators", key)
        return cuda.enabled

    def check_operators(self, with_cuda: bool) -> str:
        """Run one compiled operator; return the versions of the stack."""
        advice = "mmcv does not work with this torch: remove .venv"
        output = self.python("check", ["-c", RUN_OPERATORS, str(with_cuda)], advice)
        return output.strip().splitlines()[-1]


def create_venv() -> None:
    """Check the machine, then create `.venv` with the running Python where there is none.

    Raises:
        SetupError: If Python, its venv module, its headers or a compiler is missing.
    """
    version = venv_python_version(VENV)
    numbers = tuple(int(part) for part in version.split(".")[:2]) if version else sys.version_info
    problem = machine.python_problem(numbers) or machine.compiler_problem(os.environ)
    if not problem and not version:
        problem = machine.headers_problem(Path(sysconfig.get_paths()["include"]))
    if problem:
        raise SetupError(problem)
    if version and (VENV / "bin" / "pip").exists():
        return
    print(f"creating .venv with Python {sys.version.split()[0]}", flush=True)
    python = getattr(sys, "_base_executable", sys.executable)  # not that of the .venv to be cleared
    done = subprocess.run(
        [python, "-m", "venv", "--clear", str(VENV)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        name = f"python{sys.version_info[0]}.{sys.version_info[1]}-venv"
        raise SetupError(
            f"{(done.stdout + done.stderr).strip()}\nPython could not create .venv; "
            f"on Debian and Ubuntu `apt-get install {name}` brings what is missing."
        )


def lock_setup(path: Path) -> IO[str]:
    """Wait until no other set-up works on `.venv`; the lock lasts as long as the returned file.

    pip inherits the lock, so a pip that outlives a killed set-up is waited for as well.
    """
    lock = path.open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print(f"waiting for a set-up of {ROOT} that is still running", flush=True)
        fcntl.flock(lock, fcntl.LOCK_EX)
    return lock


def main() -> int:
    """Set up `.venv`; return the exit status: 0, 2 after a failure, 130 when interrupted."""
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    try:
        if VENV_PYTHON.exists() and read_stamp("complete") == complete_key():
            return 0
        started = time.monotonic()
        with lock_setup(ROOT / ".setup.lock") as lock:
            create_venv()
            if read_stamp("complete") != complete_key():
                Setup(lock).run()
        print(f"set-up finished in {duration(time.monotonic() - started)}", flush=True)
    except SetupError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\ninterrupted; the same command goes on from here", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
