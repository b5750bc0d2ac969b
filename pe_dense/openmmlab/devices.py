"""The device of a run: a CUDA, Intel (xpu) or Apple (mps) GPU where torch finds one, or the CPU.

MMEngine knows CUDA and Apple's; `use_device_of_machine` tells it of Intel's. What torch cannot do
on these two ends in one sentence (`run/error_text.py`), and so does what needs several processes or
kernels of CUDA; PE_DENSE_DEVICE=cpu leaves the GPU alone.
"""

from __future__ import annotations

import os

import torch
from mmengine.device import utils as mmengine_device

from pe_dense.openmmlab import compiled_operators

VARIABLE = "PE_DENSE_DEVICE"


def device_of_machine() -> str:
    """'cuda', 'xpu', 'mps' or 'cpu'.

    Raises:
        ValueError: If PE_DENSE_DEVICE is none of these, or not here.
    """
    wanted = os.environ.get(VARIABLE)
    if wanted == "cpu":
        return "cpu"
    name = "cpu"
    if torch.cuda.is_available():
        name = "cuda"
    elif torch.xpu.is_available():
        name = "xpu"
    elif torch.backends.mps.is_available():
        name = "mps"
    if wanted not in (None, name):
        raise ValueError(f"{VARIABLE}={wanted}, but torch finds {name}; set it to that or to cpu")
    return name


def use_device_of_machine() -> str:
    """Lets MMEngine's Runner put models and data on that device; returns its name.

    Raises:
        ValueError: As `device_of_machine`, or if PE_DENSE_OPERATORS asks for what is not there.
    """
    name = device_of_machine()
    compiled_operators.require_as_asked(name)
    mmengine_device.DEVICE = name
    return name


def require_cuda_for(what: str, remedy: str) -> None:
    """Refuse what only CUDA devices can do where the machine has another GPU.

    Args:
        what: 'several processes'.
        remedy: What to do instead.

    Raises:
        ValueError: On an Intel or Apple device.
    """
    name = device_of_machine()
    if name in ("xpu", "mps"):
        raise ValueError(f"{what} needs CUDA devices, and this machine has '{name}'; {remedy}")
