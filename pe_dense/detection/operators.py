"""What to do where mmcv's operators do not run on the GPU that the machine has.

mmcv and mmdet choose a kernel by whether torch sees a GPU, not by whether the kernel exists, and
then fail. Importing this module sends the operators of our detectors elsewhere in that case:

    focal loss, average RoIAlign   plain PyTorch, on the GPU
    NMS, max RoIAlign              mmcv's CPU kernels

Results are the same up to rounding. mmcv's soft-NMS and NMS matching run on the CPU anyway.
Deformable attention, and NMS by class or level, have Triton kernels of our own, which are taken
before mmcv's: `openmmlab.deformable_attention`, `suppression.grouped_nms`.
"""

from __future__ import annotations

import functools
import importlib
import warnings
from collections.abc import Callable
from typing import Any

from mmcv import ops
from mmdet.models.losses import focal_loss
from mmdet.structures.mask import structures as mask_structures
from torch import Tensor
from torch.nn.modules.utils import _pair

from pe_dense.detection.roi_align import roi_align_average
from pe_dense.openmmlab.compiled_operators import cuda_operators_work
from pe_dense.openmmlab.devices import device_of_machine

# `mmcv.ops.nms` and `mmcv.ops.roi_align` are functions that hide their modules.
nms_module = importlib.import_module("mmcv.ops.nms")
roi_align_module = importlib.import_module("mmcv.ops.roi_align")
MMCV_NMS, MMCV_ROI_ALIGN = nms_module.ext_module.nms, roi_align_module.roi_align


def has_kernel(device_type: str) -> bool:
    """Whether mmcv's operators run on tensors of a device: 'cpu', 'cuda', 'xpu', 'mps'."""
    return device_type == "cpu" or (device_type == "cuda" and cuda_operators_work())


def focal_loss_in_pytorch(pred: Tensor, target: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """PyTorch focal loss of mmdet for labels: (N, K) logits, (N,) labels, K for background."""
    # F.one_hot would wait for the GPU to look for labels out of range.
    one_hot = pred.new_zeros(len(pred), pred.size(1) + 1).scatter_(1, target[:, None], 1.0)[:, :-1]
    return focal_loss.py_sigmoid_focal_loss(pred, one_hot, *args, **kwargs)


def nms_anywhere(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int) -> Tensor:
    """The NMS kernel of mmcv, on the CPU where the tensors' device has none.

    Args:
        boxes: (N, 4) corners.
        scores: (N,).
        iou_threshold: Boxes above it are suppressed.
        offset: 0 or 1, added to widths and heights.

    Returns:
        Indices of survivors by falling score, on the device of the boxes.
    """
    if has_kernel(boxes.device.type):
        return MMCV_NMS(boxes, scores, iou_threshold=iou_threshold, offset=offset)
    kept = MMCV_NMS(
        boxes.detach().cpu().float().contiguous(),
        scores.detach().cpu().float().contiguous(),
        iou_threshold=iou_threshold,
        offset=offset,
    )
    return kept.to(boxes.device)


def roi_align_anywhere(
    input: Tensor,  # the names of mmcv's arguments
    rois: Tensor,
    output_size: int | tuple[int, int],
    spatial_scale: float = 1.0,
    sampling_ratio: int = 0,
    pool_mode: str = "avg",
    aligned: bool = True,
) -> Tensor:
    """RoIAlign of mmcv, in PyTorch (average) or on the CPU (maximum) where there is no kernel.

    Args:
        input: (B, C, H, W).
        rois: (R, 5), image index and corners.
        output_size: Bins, rows and columns.
        spatial_scale: Map pixels per image pixel.
        sampling_ratio: Samples of a bin along each axis; 0 takes ceil(size of the bin).
        pool_mode: 'avg' or 'max'.
        aligned: Whether pixel centres lie at 0.5.

    Returns:
        (R, C, rows, columns), with gradients to `input`.
    """
    if has_kernel(input.device.type):
        return MMCV_ROI_ALIGN(
            input, rois, output_size, spatial_scale, sampling_ratio, pool_mode, aligned
        )
    size = _pair(output_size)
    if pool_mode == "avg":
        return roi_align_average(input, rois, size, spatial_scale, sampling_ratio, aligned)
    pooled = MMCV_ROI_ALIGN(
        input.cpu().float(), rois.detach().cpu().float(), size, spatial_scale, sampling_ratio,
        pool_mode, aligned,
    )  # fmt: skip
    return pooled.to(input)


class _WithFallback:
    """mmcv's compiled module as `mmcv.ops.nms` sees it, with another `nms`."""

    def __init__(self, compiled: Any, nms: Callable[..., Tensor]) -> None:
        self._compiled, self.nms = compiled, nms

    def __getattr__(self, name: str) -> Any:
        return getattr(self._compiled, name)


@functools.cache
def _warn_once() -> None:
    warnings.warn(
        "mmcv's operators do not run on this GPU: focal loss and RoIAlign run in plain PyTorch, "
        "slower and with more memory, and NMS runs on the CPU; results are the same. "
        "Install nvcc and run make setup again for the fast operators",
        stacklevel=3,
    )


def use_torch_where_cuda_is_missing() -> bool:
    """Replace the operators whose CUDA kernels are missing although there is a GPU.

    Tensors on the CPU keep mmcv's kernels. Returns whether a replacement was needed; warns once in
    a process when it was.
    """
    if has_kernel(device_of_machine()):
        return False
    focal_loss.sigmoid_focal_loss = focal_loss_in_pytorch
    compiled = roi_align_module.ext_module  # never replaced, so that a second call changes nothing
    nms_module.ext_module = _WithFallback(compiled, nms_anywhere)
    # The layer, mmdet's masks and later imports look the function up in these three.
    for module in (roi_align_module, mask_structures, ops):
        module.roi_align = roi_align_anywhere
    _warn_once()
    return True


use_torch_where_cuda_is_missing()
