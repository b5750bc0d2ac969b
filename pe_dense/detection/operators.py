"""What to do where mmcv's operators were compiled without CUDA but the machine has a GPU."""

from __future__ import annotations

import warnings

import torch
from mmcv.ops import get_compiling_cuda_version, multi_scale_deform_attn


def use_torch_where_cuda_is_missing() -> bool:
    """Send deformable attention through mmcv's PyTorch path if its CUDA kernel was not built.

    mmcv chooses the kernel by whether torch sees a GPU, not by whether the kernel exists, and
    then fails. Returns whether the fallback was needed; warns once when it was.
    """
    if not torch.cuda.is_available() or get_compiling_cuda_version() != "not available":
        return False
    multi_scale_deform_attn.IS_CUDA_AVAILABLE = False
    warnings.warn(
        "mmcv was built without CUDA: deformable attention runs in plain PyTorch, slower and "
        "with more memory; install nvcc and run make setup again after make clean-venv",
        stacklevel=2,
    )
    return True


use_torch_where_cuda_is_missing()
