"""Create `.venv` and install what the demo and the tests need; pip and the standard library only.

Run by `make setup`, `make demo` and `make test`. A step that failed is tried again by the next
call; one that was killed makes it start with a new `.venv`, because pip takes half a package for a
whole one. The versions are in `tools/setup_steps/versions.py`, full output in `.venv/setup-logs/`.
pip is called with the user's own pip configuration, so its indexes, mirrors and links count, but
nothing that would install elsewhere.
Nothing is compiled: mmcv's operators are optional (`make operators`).
"""

from __future__ import annotations

import argparse
import ctypes.util
import errno
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import IO

sys.path.insert(0, str(Path(__file__).resolve().parent))  # absent under PYTHONSAFEPATH
from setup_steps.lock import lock_setup
from setup_steps.pip_environment import pip_environment
from setup_steps.progress import hms, run_logged
from setup_steps.versions import installed, python_problem

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
VENV_PYTHON = VENV / "bin" / "python"
COMPLETE, BUSY = "setup-complete", "setup-busy"
IMPORT_ALL = """
import sys, torch, pe_dense, mmcv, timm, mmdet.models, mmseg.models
from mmengine.utils.dl_utils import collect_env
collect_env()  # every run of MMEngine starts with it
print(f"Python {sys.version.split()[0]}, torch {torch.__version__}, mmcv {mmcv.__version__}, "
      f"mmdet {mmdet.__version__}, mmseg {mmseg.__version__}")
"""
NETWORK = "check the network and the pip configuration"
FULL = "the disk is full, free some space"
BROKEN = "packages in .venv are missing or do not fit together: remove .venv if that stays"


class SetupError(Exception):
    """What the user reads: perhaps the end of a log, and one sentence of what to do."""


def venv_python() -> str | None:
    """Python version of `.venv`, e.g. `3.11.7`; None where it does not work."""
    config = VENV / "pyvenv.cfg"
    works = config.is_file() and VENV_PYTHON.exists() and (VENV / "bin" / "pip").exists()
    found = works and re.search(r"^version\s*=\s*(\S+)", config.read_text(), re.MULTILINE)
    return found[1] if found else None


def fits_this_python() -> bool:
    """Whether what lies in `.venv` is for this Python; SetupError where somebody named another."""
    version, this = venv_python(), sys.version.split()[0]
    if version is None or version.split(".")[:2] == this.split(".")[:2]:
        return True
    if Path(sys.prefix).resolve() == VENV.resolve():  # the system's Python became another one
        return False
    advice = "`make clean-venv` first, or leave PYTHON out"
    raise SetupError(f"{VENV} has Python {version}, and this is {this}: {advice}.")


def disk_is_full(output: str) -> bool:
    """Whether a program failed for want of space, by what it said or what is left for `.venv`."""
    said = any(words in output for words in ("No space left on device", "Disk quota exceeded"))
    return said or shutil.disk_usage(ROOT).free < 16 * 2**20


def complete_key() -> str:
    """Changes whenever some part of the set-up may have to run again."""
    files = [Path(__file__), *sorted((ROOT / "tools" / "setup_steps").glob("*.py"))]
    files += [ROOT / name for name in ("setup.py", "pyproject.toml", "pe_dense/__init__.py")]
    parts = [str(ROOT), venv_python(), *(path.read_text(encoding="utf-8") for path in files)]
    parts += sorted(path.name for path in VENV.glob("lib/python3*/site-packages/*.dist-info"))
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def is_complete() -> bool:
    """Whether the last set-up came to its end and would find nothing to do."""
    file = VENV / COMPLETE
    return (
        fits_this_python()
        and VENV_PYTHON.exists()
        and file.is_file()
        and file.read_text() == complete_key()
    )


class Setup:
    """The steps, in order; programs inherit `lock`, so a pip that outlives this holds it."""

    def __init__(self, lock: IO[str]) -> None:
        self.lock, self.logs, self.title = lock, VENV / "setup-logs", ""
        self.env = pip_environment(os.environ, str(VENV))

    def run(self) -> None:
        """Install what is missing and check the whole."""
        self.logs.mkdir(exist_ok=True)
        (VENV / COMPLETE).unlink(missing_ok=True)
        [site_packages] = VENV.glob("lib/python3*/site-packages")
        [torch] = installed("torch")
        self.announce(f"[1/4] installing {torch}")
        self.pip("torch", torch)
        self.announce("[2/4] installing OpenMMLab and the other packages")
        self.pip("stack", *installed())
        self.without_libgl()
        # Where torchvision's library loads, this does nothing.
        shutil.copy(ROOT / "tools" / "setup_steps" / "torchvision_schemas.py", site_packages)
        hook = "import torchvision_schemas; torchvision_schemas.install()\n"
        (site_packages / "torchvision_schemas.pth").write_text(hook)
        self.with_triton()
        self.announce("[3/4] installing pe_dense (editable)")
        self.pip("package", "--no-deps", "--no-build-isolation", "--editable", str(ROOT))
        self.announce("[4/4] checking the installation")
        self.python("check", ["-m", "pip", "check"], BROKEN)
        for program in (["-c", IMPORT_ALL], ["-m", "pe_dense.openmmlab.compiled_operators"]):
            last = self.python("check", program, BROKEN).strip().splitlines()[-1]
            print(f"      {last}", flush=True)
        (VENV / f"{COMPLETE}.partial").write_text(complete_key())
        (VENV / f"{COMPLETE}.partial").replace(VENV / COMPLETE)

    def announce(self, text: str) -> None:
        """Print the headline of the next step."""
        self.title = text
        print(text, flush=True)

    def pip(self, log_name: str, *arguments: str) -> None:
        """Call `pip install`."""
        self.python(log_name, ["-m", "pip", "install", *arguments], NETWORK)

    def python(self, log_name: str, arguments: list[str], advice: str) -> str:
        """Output of the Python of `.venv`; SetupError with its end and the advice if it fails."""
        log = self.logs / f"{log_name}.log"
        command = [str(VENV_PYTHON), *arguments]
        (VENV / BUSY).touch()  # stays where this process, or pip, is killed
        status, output = run_logged(command, log, self.env, self.title, self.lock.fileno())
        if status >= 0:
            (VENV / BUSY).unlink()
        if status == 0:
            return output
        tail = "\n".join(output.splitlines()[-20:])
        advice = FULL if disk_is_full(output) else advice
        raise SetupError(
            f"{tail}\n\nSet-up failed at {self.title} (full log: {log}): {advice}, "
            "then run the same command again; it goes on from here."
        )

    def without_libgl(self) -> None:
        """Let the headless OpenCV own the `cv2` folder where the other one cannot be loaded.

        Both are required by packages of the stack and install the same files, so the last one
        wins; only the headless one works on a machine without libGL.
        """
        found = VENV.glob("lib/python3*/site-packages/cv2/version.py")
        headless_last = any("headless = True" in file.read_text() for file in found)
        if not ctypes.util.find_library("GL") and not headless_last:
            headless = installed("opencv-python-headless")
            self.pip("stack", "--force-reinstall", "--no-deps", *headless)

    def with_triton(self) -> None:
        """Let the tests run Triton kernels beside a CPU build of torch, in triton's interpreter.

        Without dependencies, so that nothing else is replaced; tests of kernels are skipped where
        it cannot be had. A CUDA build of torch brings its own.
        """
        code = "import torch; print('CUDA', torch.version.cuda)"
        if self.python("torch", ["-c", code], BROKEN).strip().endswith("CUDA None"):
            try:
                self.pip("triton", "--no-deps", *installed("triton"))
            except SetupError:
                print(
                    f"      no triton ({self.logs}): tests of its kernels are skipped", flush=True
                )


def create_venv() -> None:
    """Create `.venv` with the running Python where there is none that works.

    Raises:
        SetupError: If Python is out of range, or its venv module is missing.
    """
    version = venv_python()
    numbers = tuple(map(int, version.split(".")[:2])) if version else sys.version_info[:2]
    if problem := python_problem(numbers):
        raise SetupError(problem)
    if not fits_this_python():
        print(f".venv is for Python {version}: starting anew", flush=True)
    elif (VENV / BUSY).exists():
        print("the last set-up was killed at work: starting anew", flush=True)
    elif version:
        return
    print(f"creating .venv with Python {sys.version.split()[0]}", flush=True)
    python = getattr(sys, "_base_executable", sys.executable)  # not that of the .venv to be cleared
    done = subprocess.run(
        [python, "-m", "venv", "--clear", str(VENV)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        why = (done.stdout + done.stderr).strip()
        advice = FULL if disk_is_full(why) else "install what it misses, or remove what is there"
        raise SetupError(f"{why}\nPython could not create {VENV}: {advice}.")


def main() -> int:
    """Set up `.venv`; return the exit status: 0, 2 after a failure, 130 when interrupted."""
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    try:
        if is_complete():
            return 0
        started = time.monotonic()
        with lock_setup(ROOT) as lock:
            create_venv()
            if not is_complete():
                Setup(lock).run()
        print(f"set-up finished in {hms(time.monotonic() - started)}", flush=True)
    except SetupError as error:
        print(error, file=sys.stderr)
        return 2
    except OSError as error:
        advice = (
            f"{FULL} at" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "allow to write in"
        )
        print(f"{error}: {advice} {ROOT}, then run the same command again.", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\ninterrupted; the same command starts again", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
