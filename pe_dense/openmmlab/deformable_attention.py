"""Multi-scale deformable attention: Triton, mmcv's compiled operator or plain PyTorch.

Importing this module sends mmcv's layer here, whoever built it (mmdet's and mmseg's transformers).
mmcv alone would choose its CUDA operator wherever torch sees a GPU, even where that does not run.

Shape legend: B images, N tokens of all levels, Q queries, M heads, D width of a head, L levels,
P points.
"""

from __future__ import annotations

from typing import Any

import mmcv.ops.multi_scale_deform_attn as mmcv_module
import torch
from torch import Tensor, nn

from pe_dense.encoders.traced import is_exported
from pe_dense.kernels import use_kernels
from pe_dense.openmmlab.compiled_operators import work_on
from pe_dense.openmmlab.torch_operators.deformable_attention import (
    deformable_attention_by_gathers,
)

plain_deformable_attention = mmcv_module.multi_scale_deformable_attn_pytorch
IMAGES_AT_ONCE = 64  # mmcv's `im2col_step`, which must divide a larger number of images


def deformable_attention(
    values_BNMD: Tensor, shapes_L2: Tensor, locations_BQMLP2: Tensor, weights_BQMLP: Tensor
) -> Tensor:
    """Weighted sums of values that are sampled between tokens of several levels.

    Args:
        values_BNMD: Tokens of all levels, one after another, each level row by row.
        shapes_L2: Integers, rows and columns of each level.
        locations_BQMLP2: Where to sample, (x, y) with 0..1 over the level; nothing outside.
        weights_BQMLP: Weight of every sample.

    Returns:
        (B, Q, M D). Differentiable in values, locations and weights.

    Source: Deformable DETR, arXiv:2010.04159, equation 3. The reference is mmcv's PyTorch form.
    """
    inputs = values_BNMD, shapes_L2, locations_BQMLP2, weights_BQMLP
    if is_exported():  # runtimes gather everywhere, and sample grids here and there
        return deformable_attention_by_gathers(*inputs)
    if use_kernels(values_BNMD):
        from pe_dense.openmmlab import deformable_attention_kernel as kernel

        return kernel.deformable_attention(*inputs)
    compiled = values_BNMD.is_cuda and values_BNMD.dtype != torch.bfloat16 and work_on("cuda")
    if compiled and (len(values_BNMD) <= IMAGES_AT_ONCE or not len(values_BNMD) % IMAGES_AT_ONCE):
        starts_L = shapes_L2.prod(1).cumsum(0) - shapes_L2.prod(1)
        return mmcv_module.MultiScaleDeformableAttnFunction.apply(
            values_BNMD, shapes_L2, starts_L, locations_BQMLP2, weights_BQMLP, IMAGES_AT_ONCE
        )
    return plain_deformable_attention(*inputs)


class DeformableAttention(mmcv_module.MultiScaleDeformableAttention):
    """mmcv's layer for (B, Q, D) tokens, without a check that waits for the GPU."""

    def forward(
        self,
        query: Tensor,
        key: Tensor | None = None,
        value: Tensor | None = None,
        identity: Tensor | None = None,
        query_pos: Tensor | None = None,
        key_padding_mask: Tensor | None = None,
        reference_points: Tensor | None = None,
        spatial_shapes: Tensor | None = None,
        level_start_index: Tensor | None = None,
        **kwargs: Any,
    ) -> Tensor:
        """Args as those of mmcv's layer; references are (x, y) points or boxes with a size."""
        assert self.batch_first and reference_points is not None and spatial_shapes is not None
        identity = query if identity is None else identity
        values = self.value_proj(query if value is None else value)
        query = query if query_pos is None else query + query_pos
        if key_padding_mask is not None:
            values = values.masked_fill(key_padding_mask[..., None], 0.0)
        sizes_MLP = self.num_heads, self.num_levels, self.num_points
        offsets = self.sampling_offsets(query).unflatten(-1, (*sizes_MLP, 2))
        weights = self.attention_weights(query).unflatten(-1, (self.num_heads, -1)).softmax(-1)
        centres = reference_points[:, :, None, :, None, :2]
        if reference_points.shape[-1] == 2:
            places = centres + offsets / spatial_shapes.flip(1)[None, None, None, :, None]
        else:
            sizes = reference_points[:, :, None, :, None, 2:]
            places = centres + offsets / self.num_points * sizes * 0.5
        mixed = deformable_attention(
            values.unflatten(-1, (self.num_heads, -1)),
            spatial_shapes,
            places,
            weights.unflatten(-1, sizes_MLP[1:]),
        )
        return self.dropout(self.output_proj(mixed)) + identity


def without_checks(model: nn.Module) -> None:
    """Turns mmcv's layers of a model into ours; parameters and their names stay."""
    for module in model.modules():
        if type(module) is mmcv_module.MultiScaleDeformableAttention and module.batch_first:
            module.__class__ = DeformableAttention


# mmcv's layer looks both names up in its module when it is called.
mmcv_module.IS_CUDA_AVAILABLE = False
mmcv_module.multi_scale_deformable_attn_pytorch = deformable_attention
