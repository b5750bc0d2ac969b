"""Multi-scale deformable attention: Triton, mmcv's compiled operator or plain PyTorch.

Importing this module sends mmcv's layer here, whoever built it (mmdet's and mmseg's transformers).
mmcv alone would choose its CUDA operator wherever torch sees a GPU, even where that does not run.

Shape legend: B images, N tokens of all levels, Q queries, M heads, D width of a head, L levels,
P points.
"""

from __future__ import annotations

import mmcv.ops.multi_scale_deform_attn as mmcv_module
import torch
from torch import Tensor

from pe_dense.kernels import use_kernels
from pe_dense.openmmlab.compiled_operators import cuda_operators_work

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
    if use_kernels(values_BNMD):
        from pe_dense.openmmlab import deformable_attention_kernel as kernel

        return kernel.deformable_attention(*inputs)
    compiled = values_BNMD.is_cuda and values_BNMD.dtype != torch.bfloat16 and cuda_operators_work()
    if compiled and (len(values_BNMD) <= IMAGES_AT_ONCE or not len(values_BNMD) % IMAGES_AT_ONCE):
        starts_L = shapes_L2.prod(1).cumsum(0) - shapes_L2.prod(1)
        return mmcv_module.MultiScaleDeformableAttnFunction.apply(
            values_BNMD, shapes_L2, starts_L, locations_BQMLP2, weights_BQMLP, IMAGES_AT_ONCE
        )
    return plain_deformable_attention(*inputs)


# mmcv's layer looks both names up in its module when it is called.
mmcv_module.IS_CUDA_AVAILABLE = False
mmcv_module.multi_scale_deformable_attn_pytorch = deformable_attention
