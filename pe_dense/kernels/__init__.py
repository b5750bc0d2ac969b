"""Whether Triton kernels are used: the one place that decides it.

A kernel is the fast path of a function whose plain PyTorch form stays beside it as the reference.
It lies in the folder of its task, in a file `*_kernel.py` that imports triton at its top and that
nothing imports before `use_kernels` has said yes:

    if use_kernels(tokens_BNC):
        from pe_dense.alignment.pairwise_kernel import pairwise_loss

        return pairwise_loss(tokens_BNC)
    return plain_pairwise_loss(tokens_BNC)

Kernels are used where the tensor lies on a CUDA device, triton can be imported, and a small kernel
has run on that device and given the right result (tried once a process). PE_DENSE_KERNELS=off in
the environment, or `choice=False`, takes the reference. PE_DENSE_KERNELS=on, or `choice=True`,
demands the kernels: where they cannot run it is an error that says why. With TRITON_INTERPRET=1 set
before triton is imported, kernels that are demanded run on the CPU through triton's interpreter,
slowly; that is how the tests run them.
"""

from __future__ import annotations

import functools
import os
import warnings

import torch
from torch import Tensor

VARIABLE = "PE_DENSE_KERNELS"
SETTINGS = ("auto", "on", "off")


def use_kernels(tensor: Tensor, choice: bool | None = None) -> bool:
    """Whether a function takes its Triton kernel for this tensor.

    Args:
        tensor: An input of the function; its device decides.
        choice: True demands kernels, False refuses them, None asks PE_DENSE_KERNELS.

    Raises:
        ValueError: If kernels are demanded and cannot run, or the variable has another value.
    """
    setting = os.environ.get(VARIABLE, "auto") if choice is None else ("off", "on")[choice]
    if setting not in SETTINGS:
        raise ValueError(f"{VARIABLE}={setting} is none of {', '.join(SETTINGS)}; set one or none")
    if setting == "off" or (setting == "auto" and not tensor.is_cuda):
        return False
    problem = kernels_problem(tensor.device)
    if problem and setting == "on":
        raise ValueError(f"Triton kernels are demanded and cannot run: {problem}")
    return problem is None


def kernels_problem(device: torch.device) -> str | None:
    """Why kernels cannot run on a device, in a few words; None where they can."""
    index = device.index
    if device.type == "cuda" and index is None:
        index = torch.cuda.current_device()
    return _problem(device.type, index)


@functools.cache
def _problem(device_type: str, index: int | None) -> str | None:
    try:
        import triton
    except ImportError as error:
        return f"triton cannot be imported ({error})"
    if device_type != "cuda" and not triton.knobs.runtime.interpret:
        return f"a tensor on the device '{device_type}' needs TRITON_INTERPRET=1"
    device = torch.device(device_type) if index is None else torch.device(device_type, index)
    try:
        from pe_dense.kernels.trial_kernel import trial_is_right

        if trial_is_right(device):
            return None
        problem = f"a trial kernel gave a wrong result on {device}"
    # Whatever stops the compiler or the driver here stops every kernel: the reference goes on.
    except Exception as error:
        problem = f"a trial kernel failed on {device} ({type(error).__name__}: {error})"
    warnings.warn(f"{problem}; the plain PyTorch form is used", RuntimeWarning, stacklevel=3)
    return problem
