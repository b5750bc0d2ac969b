"""Whether mmcv's compiled operators run here, on the CPU and on the GPU.

    python -m pe_dense.openmmlab.compiled_operators        # finds out, keeps and prints the answer

Found out by running one of them on the device, in a process of its own, because nothing less can be
trusted: a module that was compiled for another torch may load and crash, mmcv chooses its CUDA
kernels by whether torch sees a GPU, and in one build of mmcv the function that tells the CUDA
version it was compiled with crashed the interpreter while its kernels worked. The answer is kept in
the environment's folder (`make setup` puts it there) and asked for again when mmcv's compiled file,
torch or the GPU is another. A trial that found no memory or time is none, and made again.

PE_DENSE_OPERATORS=off takes the PyTorch forms everywhere, =on makes it an error where the compiled
operators do not run.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.machinery
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import torch

from pe_dense.files import atomic_write_text

ANSWER = Path(sys.prefix) / "pe_dense_mmcv_operators.json"
SECONDS = 300
NONE = "mmcv has no compiled operators"
VARIABLE = "PE_DENSE_OPERATORS"
# What a trial ends with on a machine that has other things to do: asked again by the next process.
PASSING = (
    "no answer within", "signal 9", "out of memory", "MemoryError", "Cannot allocate memory",
    "busy or unavailable", "No space left",
)  # fmt: skip
# Without pe_dense, so that it is mmcv's own module that answers.
TRIAL = """
import sys
import torch
from mmcv.ops import nms
device = sys.argv[1]
boxes = torch.tensor([[0.0, 0, 9, 9], [0, 0, 9, 8], [20, 20, 30, 30]], device=device)
kept = nms(boxes, torch.tensor([0.9, 0.8, 0.7], device=device), 0.5)[1]
assert kept.tolist() == [0, 2], kept
"""


def compiled_file() -> Path | None:
    """Mmcv's compiled module; None where mmcv, or the module, is not installed."""
    mmcv = importlib.util.find_spec("mmcv")
    if mmcv is None or not mmcv.submodule_search_locations:
        return None
    spec = importlib.machinery.PathFinder.find_spec("mmcv._ext", mmcv.submodule_search_locations)
    return None if spec is None or spec.origin is None else Path(spec.origin)


@functools.cache
def compiled_module() -> ModuleType:
    """Mmcv's compiled module, loaded; only where `work_on` says that it works."""
    file = compiled_file()
    assert file is not None
    loader = importlib.machinery.ExtensionFileLoader("mmcv._ext", str(file))
    spec = importlib.util.spec_from_file_location("mmcv._ext", file, loader=loader)
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


def state_of_this_machine(device: str) -> dict[str, str | int] | None:
    """What an answer holds for: compiled file, torch and GPU; None without mmcv's operators."""
    file = compiled_file()
    if file is None:
        return None
    return dict(
        operators=str(file),
        bytes=file.stat().st_size,
        changed_ns=file.stat().st_mtime_ns,
        torch=torch.__version__,
        device=torch.cuda.get_device_name() if device == "cuda" else device,
    )


def run_trial(device: str) -> str:
    """Runs NMS on a device in a process of its own; '' if it worked, else what went wrong."""
    command = [sys.executable, "-c", TRIAL, device]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        return f"no answer within {SECONDS} s"
    if done.returncode < 0:
        return f"the interpreter crashed with signal {-done.returncode}"
    last = (done.stderr.strip().splitlines() or ["no message"])[-1]
    return last if done.returncode else ""


def wanted_by_user() -> str:
    """What PE_DENSE_OPERATORS says; 'auto' where it is not set, or empty."""
    return os.environ.get(VARIABLE) or "auto"


def require_as_asked(device: str) -> None:
    """Refuse at the start of a run, not at its first box, what the user asks for in vain.

    Raises:
        ValueError: As `problem_on`; nothing is tried where nothing is asked for.
    """
    if wanted_by_user() != "auto":
        problem_on(device)


@functools.cache
def problem_on(device: str) -> str:
    """Why mmcv's operators cannot run on 'cpu' or 'cuda', in a few words; '' if they can."""
    wanted = wanted_by_user()
    if wanted not in ("auto", "on", "off"):
        raise ValueError(f"{VARIABLE}={wanted} is none of auto, on, off")
    if wanted == "off":
        return f"{VARIABLE}=off"
    problem = _problem_here(device)
    if problem and wanted == "on":
        raise ValueError(
            f"{VARIABLE}=on, but {problem} on {device}; `make operators` compiles them"
        )
    return problem


def _problem_here(device: str) -> str:
    if device not in ("cpu", "cuda"):
        return "mmcv compiles none for this device"
    if device == "cuda" and not torch.cuda.is_available():
        return "torch finds no CUDA device"
    state = state_of_this_machine(device)
    if state is None:
        return NONE
    kept = kept_answers()
    if kept.get(device, {}).get("state") == state:
        return str(kept[device]["problem"])
    problem = run_trial(device)
    if any(words in problem for words in PASSING):
        return problem
    text = json.dumps(kept | {device: dict(state=state, problem=problem)}, indent=1) + "\n"
    with contextlib.suppress(OSError):  # a folder that cannot be written: asked again next time
        atomic_write_text(ANSWER, text)
    return problem


def kept_answers() -> dict[str, dict]:
    """What the file holds for each device; empty where there is none, or none that can be read."""
    try:
        kept = json.loads(ANSWER.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    sound = isinstance(kept, dict) and all(
        isinstance(answer, dict) and "problem" in answer for answer in kept.values()
    )
    return kept if sound else {}


def used_in_words(device: str) -> str | None:
    """Which operators a record of this process should name: None for the usual PyTorch forms.

    Boxes that tie come out of the compiled NMS in another order, so that a score may differ in its
    last digits.
    """
    called = "mmcv.ops" in sys.modules  # segmentation and depth call none
    return "mmcv's compiled ones" if called and work_on(device) else None


def work_on(device: str) -> bool:
    """Whether mmcv's compiled operators run on tensors of a device."""
    return not problem_on(device)


def main() -> int:
    """Print the answer for each device; 2 where the environment asks for what is not there."""
    for device in ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",):
        try:
            problem = problem_on(device)
        except ValueError as error:
            sys.stderr.write(f"error: {error}\n")
            return 2
        sys.stdout.write(
            f"mmcv's compiled operators on {device}: {problem or 'they work'}"
            f"{'; the PyTorch forms take over' if problem else ''}\n"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
