"""Whether mmcv's compiled operators run on the GPU that is here.

    python -m pe_dense.openmmlab.compiled_operators        # finds out, keeps and prints the answer

Found out by running one of them on the GPU, in a process of its own, because nothing less can be
trusted: mmcv chooses its CUDA kernels by whether torch sees a GPU, and in one build of mmcv the
function that tells the CUDA version it was compiled with crashed the interpreter while its kernels
worked. The answer is kept in the environment's folder (`make setup` puts it there) and asked for
again when mmcv's compiled file, torch or the GPU is another.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import torch

from pe_dense.files import atomic_write_text

ANSWER = Path(sys.prefix) / "pe_dense_mmcv_cuda.json"
SECONDS = 300
TRIAL = """
import torch
from mmcv.ops import nms
boxes = torch.tensor([[0.0, 0, 9, 9], [0, 0, 9, 8], [20, 20, 30, 30]], device="cuda")
kept = nms(boxes, torch.tensor([0.9, 0.8, 0.7], device="cuda"), 0.5)[1]
assert kept.tolist() == [0, 2], kept
"""


def state_of_this_machine() -> dict[str, str | int] | None:
    """What an answer holds for: compiled file, torch and GPU; None without mmcv's operators."""
    spec = importlib.util.find_spec("mmcv")
    spec = spec and importlib.util.find_spec("mmcv._ext")
    if spec is None or spec.origin is None:
        return None
    file = Path(spec.origin)
    return dict(
        operators=str(file),
        bytes=file.stat().st_size,
        changed_ns=file.stat().st_mtime_ns,
        torch=torch.__version__,
        gpu=torch.cuda.get_device_name(),
    )


def run_trial() -> str:
    """Runs NMS on the GPU in a process of its own; '' if it worked, else what went wrong."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", TRIAL], capture_output=True, text=True, timeout=SECONDS
        )
    except subprocess.TimeoutExpired:
        return f"no answer within {SECONDS} s"
    if done.returncode < 0:
        return f"the interpreter crashed with signal {-done.returncode}"
    last = (done.stderr.strip().splitlines() or ["no message"])[-1]
    return last if done.returncode else ""


@functools.cache
def problem_on_cuda() -> str:
    """Why mmcv's operators cannot run on the GPU, in a few words; '' if they can."""
    if not torch.cuda.is_available():
        return "torch finds no CUDA device"
    state = state_of_this_machine()
    if state is None:
        return "mmcv has no compiled operators"
    kept = kept_answer()
    if kept.get("state") == state:
        return str(kept["problem"])
    problem = run_trial()
    text = json.dumps(dict(state=state, problem=problem), indent=1) + "\n"
    with contextlib.suppress(OSError):  # a folder that cannot be written: asked again next time
        atomic_write_text(ANSWER, text)
    return problem


def kept_answer() -> dict:
    """What the file holds; empty where there is none, or none that can be read."""
    try:
        kept = json.loads(ANSWER.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return kept if isinstance(kept, dict) and "problem" in kept else {}


def cuda_operators_work() -> bool:
    """Whether mmcv's compiled operators run on CUDA tensors here."""
    return not problem_on_cuda()


if __name__ == "__main__":
    problem = problem_on_cuda()
    sys.stdout.write(f"mmcv's operators on the GPU: {problem or 'they work'}\n")
