"""What to do where mmcv's operators were compiled without CUDA but the machine has a GPU."""

from __future__ import annotations

import warnings
from typing import Any

import torch
import torch.nn.functional as F
from mmcv.ops import get_compiling_cuda_version, multi_scale_deform_attn
from mmdet.models.losses import focal_loss
from torch import Tensor


def focal_loss_in_pytorch(pred: Tensor, target: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """PyTorch focal loss of mmdet for labels: (N, K) logits, (N,) labels, K for background."""
    num_classes = pred.size(1)
    one_hot = F.one_hot(target, num_classes + 1)[:, :num_classes]
    return focal_loss.py_sigmoid_focal_loss(pred, one_hot, *args, **kwargs)


def use_torch_where_cuda_is_missing() -> bool:
    """Send deformable attention and focal loss through PyTorch where CUDA kernels are missing.

    mmcv and mmdet choose the kernel by whether torch sees a GPU, not by whether the kernel
    exists, and then fail. NMS and RoI pooling have no such fallback here. Returns whether the
    fallback was needed; warns once when it was.
    """
    if not torch.cuda.is_available() or get_compiling_cuda_version() != "not available":
        return False
    multi_scale_deform_attn.IS_CUDA_AVAILABLE = False
    focal_loss.sigmoid_focal_loss = focal_loss_in_pytorch
    warnings.warn(
        "mmcv was built without CUDA: deformable attention and focal loss run in plain PyTorch, "
        "slower and with more memory, and detectors with NMS or RoI pooling do not run on the "
        "GPU; install nvcc and run make setup again",
        stacklevel=2,
    )
    return True


use_torch_where_cuda_is_missing()
