"""What stands in the place of `mmcv._ext`, mmcv's module of 114 compiled functions.

mmcv, mmdet and mmseg need it to be imported, and fail where it is missing or was compiled for
another torch. `import pe_dense` puts this in its place: each call goes to the compiled operator
where there is one that has shown to work on the device of the tensors (`compiled_operators.py`),
else to the PyTorch form in `torch_operators/`, with equal results. An operator that has no such
form, which nothing in this project calls, says its name.

`make operators` compiles mmcv's; docs/operators.md says what that gains.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from pe_dense.openmmlab import compiled_operators
from pe_dense.openmmlab.torch_operators import focal_loss
from pe_dense.openmmlab.torch_operators.deformable_attention import (
    deformable_attention_by_gathers,
)
from pe_dense.openmmlab.torch_operators.nms import nms, nms_match, soft_nms
from pe_dense.openmmlab.torch_operators.roi_align import (
    BoxGrid,
    roi_align,
    roi_align_max,
    spread_maxima,
)

NAME = "mmcv._ext"


def softnms(boxes: Tensor, scores: Tensor, dets: Tensor, **options: Any) -> Tensor:
    """Fills the rows of `dets` (N, 5) from the top; returns as many indices."""
    found_M5, index_M = soft_nms(boxes, scores, **options)
    dets[: len(found_M5)] = found_M5.to(dets)
    return index_M


def roi_align_forward(
    input: Tensor, rois: Tensor, output: Tensor, argmax_y: Tensor, argmax_x: Tensor, **options: Any
) -> None:
    """Fills `output` (R, C, P, Q), and the places of maxima where pooling takes them."""
    if options["pool_mode"]:
        output.copy_(roi_align(input, rois, _grid(options)))
        return
    arrays = roi_align_max(input, rois, _grid(options))
    for place, found in zip((output, argmax_y, argmax_x), arrays, strict=True):
        place.copy_(found)


def roi_align_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    grad_input: Tensor,
    **options: Any,
) -> None:
    """Adds the gradient to `grad_input` (B, C, H, W)."""
    if not options["pool_mode"]:
        spread_maxima(grad_output, argmax_y, argmax_x, rois[:, 0], grad_input)
        return
    with torch.enable_grad():  # a mean is linear: its gradient is the same at any maps
        maps = torch.zeros_like(grad_input, requires_grad=True)
        pooled = roi_align(maps, rois, _grid(options))
    grad_input += torch.autograd.grad(pooled, maps, grad_output)[0]


def _grid(options: dict[str, Any]) -> BoxGrid:
    bins = options["aligned_height"], options["aligned_width"]
    return BoxGrid(bins, options["spatial_scale"], options["sampling_ratio"], options["aligned"])


def sigmoid_focal_loss_forward(
    input: Tensor, target: Tensor, weight: Tensor, output: Tensor, gamma: float, alpha: float
) -> None:
    """Losses of (N, K) logits into `output` (N, K)."""
    output.copy_(focal_loss.sigmoid_focal_loss(input, target, weight, gamma, alpha))


def sigmoid_focal_loss_backward(
    input: Tensor, target: Tensor, weight: Tensor, grad_input: Tensor, gamma: float, alpha: float
) -> None:
    """Gradient of the sum of all losses into `grad_input` (N, K)."""
    with torch.enable_grad():
        logits = input.detach().requires_grad_()
        loss = focal_loss.sigmoid_focal_loss(logits, target, weight, gamma, alpha).sum()
    grad_input.copy_(torch.autograd.grad(loss, logits)[0])


def softmax_focal_loss_forward(
    input: Tensor, target: Tensor, weight: Tensor, output: Tensor, gamma: float, alpha: float
) -> None:
    """Losses of (N, K) probabilities into `output` (N,)."""
    output.copy_(focal_loss.softmax_focal_loss(_logits(input), target, weight, gamma, alpha))


def softmax_focal_loss_backward(
    input: Tensor,
    target: Tensor,
    weight: Tensor,
    buff: Tensor,
    grad_input: Tensor,
    gamma: float,
    alpha: float,
) -> None:
    """Gradient of the sum of all losses by the logits into `grad_input`; `buff` is not needed."""
    with torch.enable_grad():
        logits = _logits(input.detach()).requires_grad_()
        loss = focal_loss.softmax_focal_loss(logits, target, weight, gamma, alpha).sum()
    grad_input.copy_(torch.autograd.grad(loss, logits)[0])


def _logits(probabilities: Tensor) -> Tensor:
    return probabilities.float().clamp(min=torch.finfo(torch.float32).tiny).log()


def ms_deform_attn_forward(
    value: Tensor,
    value_spatial_shapes: Tensor,
    value_level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    im2col_step: int,
) -> Tensor:
    """Deformable attention; levels lie one after another, so their starts are not needed."""
    return deformable_attention_by_gathers(
        value, value_spatial_shapes, sampling_locations, attention_weights
    )


def ms_deform_attn_backward(
    value: Tensor,
    value_spatial_shapes: Tensor,
    value_level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    grad_output: Tensor,
    grad_value: Tensor,
    grad_sampling_loc: Tensor,
    grad_attn_weight: Tensor,
    im2col_step: int,
) -> None:
    """Gradients into the last three."""
    with torch.enable_grad():
        inputs = [
            array.detach().requires_grad_()
            for array in (value, sampling_locations, attention_weights)
        ]
        mixed = deformable_attention_by_gathers(inputs[0], value_spatial_shapes, *inputs[1:])
    gradients = torch.autograd.grad(mixed, inputs, grad_output)
    for place, found in zip(
        (grad_value, grad_sampling_loc, grad_attn_weight), gradients, strict=True
    ):
        place.copy_(found)


IN_PYTORCH: dict[str, Callable[..., Any]] = {
    function.__name__: function
    for function in (
        nms,
        softnms,
        nms_match,
        roi_align_forward,
        roi_align_backward,
        sigmoid_focal_loss_forward,
        sigmoid_focal_loss_backward,
        softmax_focal_loss_forward,
        softmax_focal_loss_backward,
        ms_deform_attn_forward,
        ms_deform_attn_backward,
    )
}


# What mmcv compiles for GPUs alone, and the types it knows there and on a CPU (some in float64).
ON_GPUS_ALONE = {name for name in IN_PYTORCH if name.startswith(("sig", "softmax", "ms_deform"))}
KINDS = dict(cpu=(torch.float32,), cuda=(torch.float32, torch.float16))


def _compiled_fits(name: str, device: str, tensors: list[Tensor]) -> bool:
    """Whether the compiled operator takes these tensors; always for one without PyTorch form."""
    if name not in IN_PYTORCH or not tensors:
        return True
    if device == "cpu" and name in ON_GPUS_ALONE:
        return False
    # It takes one type for all numbers, and stops at two: maps in float32, boxes in float16.
    numbers = [t for t in tensors if t.is_floating_point() or name not in ON_GPUS_ALONE]
    kinds = {tensor.dtype for tensor in numbers}
    return len(kinds) == 1 and kinds <= {*KINDS.get(device, ())}


def _in_order(value: Any) -> Any:
    return value.contiguous() if isinstance(value, Tensor) else value


def _version() -> str:
    """What `get_compiler_version` and its like say; never asked of the compiled module.

    One build of mmcv crashed the interpreter when asked for the CUDA version it was compiled with.
    """
    return "not asked: see pe_dense.openmmlab.compiled_operators"


def call(name: str, *args: Any, **options: Any) -> Any:
    """Run an operator of mmcv by the name it has in `mmcv._ext`, compiled or in PyTorch.

    Raises:
        NotImplementedError: If it is not compiled for the device and has no PyTorch form.
    """
    tensors = [value for value in (*args, *options.values()) if isinstance(value, Tensor)]
    device = tensors[0].device.type if tensors else "cpu"
    if _compiled_fits(name, device, tensors) and compiled_operators.work_on(device):
        # They read memory in the order of the axes, whatever the strides say: maps of a norm over
        # channels, whose channels lie side by side, would be read as other pixels.
        args = tuple(map(_in_order, args))
        options = {name: _in_order(value) for name, value in options.items()}
        return getattr(compiled_operators.compiled_module(), name)(*args, **options)
    if name in IN_PYTORCH:
        return IN_PYTORCH[name](*args, **options)
    problem = compiled_operators.problem_on(device)
    raise NotImplementedError(
        f"mmcv's operator {name!r} has no PyTorch form in pe_dense, and on {device} there is no "
        f"compiled one ({problem}): `make operators` compiles it"
    )


class Operators(ModuleType):
    """The module: any name is a function that finds its operator when it is called."""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("__"):
            raise AttributeError(name)
        if name.startswith("get_compil"):
            return _version
        function = functools.partial(call, name)
        setattr(self, name, function)
        return function


MODULE = Operators(NAME, __doc__)


def take_over() -> None:
    """Serve the parts of mmcv that were imported before `pe_dense`, too."""
    sys.modules[NAME] = MODULE
    for name, user in list(sys.modules.items()):
        if name.startswith("mmcv.ops.") and hasattr(user, "ext_module"):
            user.ext_module = MODULE
