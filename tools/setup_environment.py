"""Create `.venv` and install everything that the demo and the tests need; standard library only.

Run by `make setup`, `make demo` and `make test`. The work is cut into stages. A finished stage
leaves a stamp under `.venv/setup-stamps/`, so an interrupted set-up goes on at the stage that it
was in, and a finished one is recognised from a single file. Full output: `.venv/setup-logs/`.

Environment: CC, CXX, MAX_JOBS, CUDA_HOME and FORCE_CUDA (1 or 0) are obeyed where they are set.
pip is called with the user's own pip configuration.
"""

from __future__ import annotations

import argparse
import ctypes.util
import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO

from setup_steps.machine import (
    CudaChoice,
    choose_cuda,
    compiler_problem,
    find_cuda,
    headers_problem,
    machine_size,
    parallel_jobs,
    python_problem,
)
from setup_steps.progress import duration, run_logged
from setup_steps.stamps import (
    Stamps,
    installed_version,
    remove_broken_installs,
    stage_key,
    venv_python_version,
)

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
VENV_PYTHON = VENV / "bin" / "python"

TORCH = "torch==2.13.0"
STACK = (
    # trackeval wants NumPy 2.3.2, which OpenCV 4.12 excludes; imaug, of mmdet, excludes later ones.
    "numpy>=2.3.2,<2.5; python_version >= '3.11'",
    "numpy>=2.2.6,<2.3; python_version < '3.11'",
    "opencv-python==4.11.0.86",
    "opencv-python-headless==4.11.0.86",
    "trackeval==1.3.0",
    "lap==0.5.13",
    "onedl-mmengine==0.10.12",
    "onedl-mmdetection==3.5.1",
    "onedl-mmsegmentation==1.4.2",
    "pycocotools==2.0.11",
    "faster-coco-eval==1.8.0",
    "safetensors>=0.5,<1",
    "huggingface_hub>=0.30,<3",
    "rich>=13,<16",
    "matplotlib>=3.9,<4",
    "pillow>=11",
    "pytest>=8,<10",
    "pytest-xdist>=3.6,<4",
    "ruff>=0.12,<0.18",
    "selenium>=4.20,<5",
)
BUILD_TOOLS = ("setuptools>=80,<85", "wheel", "packaging>=24.2", "ninja", "psutil")
MMCV = "onedl-mmcv==2.3.6"
# timm requires torchvision, which PyPI has as a CUDA build only. With torch already installed and
# named again here, pip takes the torchvision that is pinned to this torch (8 MB) and nothing else.
# Beside a CPU-only torch that build does not load: see tools/setup_steps/torchvision_schemas.py.
TIMM = ("timm==1.0.31", "torchvision==0.28.0", TORCH)

SCHEMAS = ROOT / "tools" / "setup_steps" / "torchvision_schemas.py"
PACKAGE_FILES = ("setup.py", "pyproject.toml", "pe_dense/__init__.py")

ASK_TORCH = "import json, torch; print(json.dumps([torch.version.cuda, torch.cuda.is_available()]))"
RUN_OPERATORS = """
import sys, torch, mmcv, mmdet, mmseg
from mmcv.ops import get_compiling_cuda_version, nms
cuda = get_compiling_cuda_version()
if sys.argv[1] == "True" and cuda == "not available":
    sys.exit("mmcv was built without CUDA")
device = "cuda" if sys.argv[1] == "True" and torch.cuda.is_available() else "cpu"
boxes = torch.tensor([[0., 0., 9., 9.], [0., 0., 9., 8.], [20., 20., 30., 30.]], device=device)
assert len(nms(boxes, torch.tensor([0.9, 0.8, 0.7], device=device), 0.5)[1]) == 2
print(f"torch {torch.__version__}, mmcv {mmcv.__version__} (CUDA in its ops: {cuda}), "
      f"mmdet {mmdet.__version__}, mmseg {mmseg.__version__}")
"""
IMPORT_ALL = """
import mmdet.models, mmseg.models, pe_dense
from mmengine.utils.dl_utils import collect_env
collect_env()  # every run of MMEngine starts with it
"""


class SetupError(Exception):
    """What the user reads: perhaps the end of a log, and one sentence of what to do."""


def complete_key() -> str:
    """The key of the whole set-up: it changes whenever some stage may have to run again."""
    files = [Path(__file__), *sorted((ROOT / "tools" / "setup_steps").glob("*.py"))]
    files += [ROOT / name for name in PACKAGE_FILES]
    packages = ("torch", "torchvision", "timm", "onedl_mmcv", "numpy")
    return stage_key(
        [path.read_text(encoding="utf-8") for path in files],
        ROOT,
        venv_python_version(VENV),
        [installed_version(name, VENV) for name in packages],
        shutil.which("nvcc"),
        os.environ.get("FORCE_CUDA"),
    )


class Setup:
    """The stages, in order. Every stage is skipped when its stamp says that it is up to date.

    Args:
        lock: Open lock file; programs inherit it, so a pip that outlives this process holds it.
    """

    NUM_STAGES = 6

    def __init__(self, lock: IO[str]) -> None:
        self.lock = lock
        self.stamps = Stamps(VENV / "setup-stamps")
        self.logs = VENV / "setup-logs"
        self.number = 0
        self.env = {
            name: value
            for name, value in os.environ.items()
            if name not in ("PYTHONPATH", "PYTHONHOME", "__PYVENV_LAUNCHER__")
        }
        self.env.update(
            PATH=f"{VENV / 'bin'}{os.pathsep}{self.env.get('PATH', os.defpath)}",  # for ninja
            VIRTUAL_ENV=str(VENV),
            PIP_DISABLE_PIP_VERSION_CHECK="1",
            PIP_USER="0",
            PYTHONUNBUFFERED="1",
        )

    def run(self) -> None:
        """Run every stage that is not up to date."""
        self.logs.mkdir(exist_ok=True)
        self.stamps.remove("complete")
        [site_packages] = VENV.glob("lib/python3*/site-packages")
        for name in remove_broken_installs(site_packages):
            self.stamps.clear()  # pip finds out quickly which stage the package belongs to
            print(f"      {name} was left incomplete and is installed again", flush=True)
        python = venv_python_version(VENV)
        self.stage("torch", [TORCH], stage_key(TORCH, python), f"installing {TORCH}")
        self.stage(
            "stack",
            [*BUILD_TOOLS, *STACK],
            stage_key(BUILD_TOOLS, STACK, python),
            "installing OpenMMLab and the other packages",
        )
        self.without_libgl()
        self.package_stage()
        cuda = self.mmcv_stage(python)
        self.timm_stage(python, site_packages)
        self.check_stage(cuda)
        self.stamps.write("complete", complete_key())

    def announce(self, text: str) -> None:
        """Print the headline of the next stage."""
        self.number += 1
        print(f"[{self.number}/{self.NUM_STAGES}] {text}", flush=True)

    def is_done(self, name: str, key: str, requirements: Iterable[str]) -> bool:
        """Whether the stamp holds this key and nothing of the stage was uninstalled since."""
        packages = [re.split("[<>=]", item)[0].replace("-", "_") for item in requirements]
        installed = all(installed_version(package, VENV) for package in packages)
        return installed and self.stamps.matches(name, key)

    def stage(self, name: str, requirements: list[str], key: str, title: str) -> None:
        """Install requirements, unless the stamp of the stage holds this key."""
        if self.is_done(name, key, requirements):
            self.announce(f"{title}: done before")
            return
        self.announce(title)
        self.pip(name, title, "install", *requirements)
        self.stamps.write(name, key)

    def pip(self, log_name: str, title: str, *arguments: str, env: Mapping | None = None) -> None:
        """Call pip; raise SetupError when it fails."""
        advice = "check the network and the pip configuration"
        self.python(log_name, title, ["-m", "pip", *arguments], advice, env)

    def python(
        self,
        log_name: str,
        title: str,
        arguments: list[str],
        advice: str,
        env: Mapping[str, str] | None = None,
    ) -> str:
        """Run the Python of `.venv` with its output in a log; return the output.

        Args:
            log_name: Name of the log file, without suffix.
            title: What is being done, for progress and error.
            arguments: Arguments of Python.
            advice: What the user should try when it fails.
            env: Environment, the usual one by default.

        Raises:
            SetupError: If it fails; the message holds the end of the log and the advice.
        """
        log = self.logs / f"{log_name}.log"
        begin = log.stat().st_size if log.exists() else 0
        command = [str(VENV_PYTHON), *arguments]
        status = run_logged(command, log, env or self.env, title, (self.lock.fileno(),))
        with log.open("rb") as content:
            content.seek(begin)
            output = content.read().decode(errors="replace")
        if status == 0:
            return output
        tail = "\n".join(output.splitlines()[-20:])
        raise SetupError(
            f"{tail}\n\nSet-up failed at {title} (full log: {log}): {advice}, "
            "then run the same command again; it goes on from here."
        )

    def without_libgl(self) -> None:
        """Let the headless OpenCV own the `cv2` folder where the other one cannot be loaded.

        Both are required by packages of the stack and install the same files, so the last one
        wins; only the headless one works on a machine without libGL.
        """
        [version] = VENV.glob("lib/python3*/site-packages/cv2/version.py")
        if ctypes.util.find_library("GL") or "headless = True" in version.read_text():
            return
        headless = next(item for item in STACK if "headless" in item)
        self.pip(
            "stack", f"installing {headless}", "install", "--force-reinstall", "--no-deps", headless
        )

    def package_stage(self) -> None:
        """Install pe_dense itself, editable."""
        texts = [(ROOT / name).read_text(encoding="utf-8") for name in PACKAGE_FILES]
        key = stage_key(ROOT, texts)
        self.announce("installing pe_dense (editable)")
        if not self.is_done("package", key, ["pe_dense"]):
            self.pip(
                "package",
                "installing pe_dense",
                "install",
                "--no-deps",
                "--no-build-isolation",
                "--editable",
                str(ROOT),
            )
            self.stamps.write("package", key)

    def mmcv_stage(self, python: str | None) -> CudaChoice:
        """Compile mmcv's ops against the installed torch."""
        answer = self.python(
            "torch", "asking torch for a GPU", ["-c", ASK_TORCH], "torch does not start here"
        )
        torch_cuda, gpu_visible = json.loads(answer.splitlines()[-1])
        nvcc_cuda, cuda_home = find_cuda(self.env)
        cuda = choose_cuda(torch_cuda, gpu_visible, nvcc_cuda, self.env.get("FORCE_CUDA"))
        key = stage_key(MMCV, python, installed_version("torch", VENV), cuda.enabled)
        if self.is_done("mmcv", key, [MMCV]):
            self.announce(f"compiling {MMCV}: done before")
            return cuda
        num_cpus, memory_gib = machine_size()
        jobs = self.env.get("MAX_JOBS") or str(parallel_jobs(num_cpus, memory_gib))
        self.announce(f"compiling {MMCV} with {jobs} processes (about 10 minutes on 2 cores)")
        print(f"      {cuda.reason}", flush=True)
        env = {**self.env, "MAX_JOBS": jobs, "FORCE_CUDA": "1" if cuda.enabled else "0"}
        # Debug symbols and warnings cost 40 % of the compile time and nobody reads them.
        for flags in ("CFLAGS", "CXXFLAGS"):
            env[flags] = f"{env.get(flags, '')} -g0 -w".strip()
        if cuda.enabled and cuda_home:
            env["CUDA_HOME"] = cuda_home
        if not cuda.enabled:
            env["CUDA_VISIBLE_DEVICES"] = ""  # mmcv compiles for CUDA wherever torch sees a GPU
        # --verbose: the lines of the compiler are the progress.
        build = ("install", "--verbose", "--no-build-isolation", "--no-deps", MMCV)
        again = ("--force-reinstall", "--no-cache-dir")
        compiled_for_another = self.stamps.exists("mmcv")
        self.pip(
            "mmcv", "compiling mmcv", *build, *(again if compiled_for_another else ()), env=env
        )
        try:
            self.check_ops(cuda)
        except SetupError:
            # pip's cache may hold a wheel that was compiled for another torch or without CUDA.
            print("      the mmcv at hand does not fit this torch: compiling it anew", flush=True)
            self.pip("mmcv", "compiling mmcv", *build, *again, env=env)
            self.check_ops(cuda)
        self.stamps.write("mmcv", key)
        return cuda

    def check_ops(self, cuda: CudaChoice) -> str:
        """Run one compiled operator; return the versions of the stack."""
        output = self.python(
            "check",
            "checking the compiled operators",
            ["-c", RUN_OPERATORS, str(cuda.enabled)],
            "mmcv does not work with this torch: remove .venv",
        )
        return output.strip().splitlines()[-1]

    def timm_stage(self, python: str | None, site_packages: Path) -> None:
        """Install timm, and make torchvision importable where torch is a CPU build."""
        key = stage_key(TIMM, python, installed_version("torch", VENV))
        if self.is_done("timm", key, TIMM):
            self.announce("installing timm: done before")
            return
        self.announce("installing timm (other encoders to compare with)")
        self.pip("timm", "installing timm", "install", *TIMM)
        hook = site_packages / "torchvision_schemas.pth"
        hook.unlink(missing_ok=True)
        advice = "timm does not work with this torchvision: remove .venv"
        try:
            self.python("timm", "importing torchvision", ["-c", "import torchvision"], advice)
        except SetupError:
            print("      torchvision is built for another torch: its compiled operators stay off")
            shutil.copy(SCHEMAS, site_packages)
            hook.write_text("import torchvision_schemas; torchvision_schemas.install()\n")
        self.python("timm", "importing timm", ["-c", "import timm"], advice)
        self.stamps.write("timm", key)

    def check_stage(self, cuda: CudaChoice) -> None:
        """Check that all requirements fit together, import the stack and run an operator."""
        self.announce("checking the installation")
        advice = "packages in .venv are missing or do not fit together: remove .venv if that stays"
        try:
            self.python("check", "pip check", ["-m", "pip", "check"], advice)
        except SetupError:
            self.stamps.remove("stack")  # the next call lets pip bring what is missing
            self.stamps.remove("timm")
            raise
        self.python("check", "importing the stack", ["-c", IMPORT_ALL], advice)
        print(f"      {self.check_ops(cuda)}", flush=True)


def create_venv() -> None:
    """Check the machine, then create `.venv` with the running Python where there is none.

    Raises:
        SetupError: If Python, its venv module, its headers or a compiler is missing.
    """
    version = venv_python_version(VENV)
    numbers = tuple(int(part) for part in version.split(".")[:2]) if version else sys.version_info
    problem = python_problem(numbers) or compiler_problem(os.environ)
    if not problem and not version:
        problem = headers_problem(Path(sysconfig.get_paths()["include"]))
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
    waited_s = 0
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return lock
        except BlockingIOError:
            if waited_s % 30 == 0:
                print(f"waiting for a set-up of {ROOT} that is still running", flush=True)
        time.sleep(1)
        waited_s += 1


def main() -> int:
    """Set up `.venv`; return the exit status: 0, 2 after a failure, 130 when interrupted."""
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    stamps = Stamps(VENV / "setup-stamps")
    try:
        if VENV_PYTHON.exists() and stamps.matches("complete", complete_key()):
            return 0
        started = time.monotonic()
        with lock_setup(ROOT / ".setup.lock") as lock:
            create_venv()
            if not stamps.matches("complete", complete_key()):
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
