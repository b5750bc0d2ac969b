"""The operators of `pe_dense.openmmlab.exported_operators` in ONNX's own words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from pe_dense.openmmlab import exported_operators  # noqa: F401  registers them

FLOAT, INT32, BOOL = 1, 6, 9  # of onnx.TensorProto


def translations() -> dict[Any, Callable[..., Any]]:
    """For `torch.onnx.export`: operator -> what writes it."""
    return {
        torch.ops.pe_dense.kept_in_groups.default: _kept_in_groups,
        torch.ops.pe_dense.regions.default: _regions,
        torch.ops.aten.sort.stable: _sorted,
    }


def _kept_in_groups(boxes: Any, groups: Any, num_groups: int, iou_threshold: float) -> Any:
    from onnxscript import opset18 as op

    num_boxes = op.Shape(boxes)
    count = op.Squeeze(op.Slice(num_boxes, [0], [1]))
    place = op.Range(op.Constant(value_int=0), count, op.Constant(value_int=1))
    falling = op.Cast(op.Sub(count, place), to=FLOAT)  # positive, the first the largest
    group = op.Constant(value_ints=list(range(num_groups)))
    is_own = op.Equal(op.Unsqueeze(group, [1]), op.Unsqueeze(groups, [0]))  # (G, Q)
    scores = op.Where(is_own, op.Unsqueeze(falling, [0]), op.Constant(value_float=-1.0))
    chosen = op.NonMaxSuppression(
        op.Unsqueeze(boxes, [0]),
        op.Unsqueeze(scores, [0]),
        op.Unsqueeze(count, [0]),
        op.Constant(value_floats=[iou_threshold]),
        op.Constant(value_floats=[0.0]),
    )  # rows of picture, group, box
    index = op.Slice(chosen, [2], [3], [1])  # (S, 1)
    nothing = op.Expand(op.Constant(value_float=0.0), op.Unsqueeze(count, [0]))
    ones = op.Expand(op.Constant(value_float=1.0), op.Slice(op.Shape(index), [0], [1]))
    return op.Cast(op.ScatterND(nothing, index, ones), to=BOOL)


def _sorted(values: Any, stable: bool = True, dim: int = -1, descending: bool = False) -> Any:
    """TopK of all: of equal values the first comes first, as a stable sort has it."""
    from onnxscript import opset18 as op

    count = op.Gather(op.Shape(values), op.Constant(value_ints=[dim]))
    wide = op.Cast(values, to=INT32) if str(values.dtype) in ("UINT8", "BOOL") else values
    ordered, index = op.TopK(wide, count, axis=dim, largest=int(descending), sorted=1)
    return op.CastLike(ordered, values), index


def _regions(features: Any, boxes: Any, bins: int, scale: float, samples: int) -> Any:
    from onnxscript import opset18 as op

    count = op.Slice(op.Shape(boxes), [0], [1])
    picture = op.Expand(op.Constant(value_int=0), count)
    return op.RoiAlign(
        features,
        boxes,
        picture,
        coordinate_transformation_mode="half_pixel",
        mode="avg",
        output_height=bins,
        output_width=bins,
        sampling_ratio=samples,
        spatial_scale=scale,
    )
