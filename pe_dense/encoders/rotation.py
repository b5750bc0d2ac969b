"""Two-dimensional rotary positions of Perception Encoder: tables, and how they turn numbers.

`rotate` is the function as it is written: complex numbers, or real ones where a compiler or an
exporter traces it, which know no others. `turned_qkv` gives the same from queries, keys and values
side by side, on a GPU in half precision by a kernel that turns them where they lie.

Shape legend: B sequences, N tokens (prefix first), C width, M heads, D head width.

Source: Perception Encoder, arXiv:2504.13181; the behaviour of
facebookresearch/perception_models @ 3e352cc (core/vision_encoder/rope.py), written from the
description.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pe_dense.encoders.traced import is_known, is_traced
from pe_dense.kernels import use_kernels

ROPE_THETA = 10000.0
HALF_TYPES = (torch.bfloat16, torch.float16)


def rope_table(
    grid_hw: tuple[int, int],
    head_dim: int,
    scale: tuple[float, float],
    offset: float,
    num_prefix_tokens: int,
) -> Tensor:
    """Cosines and sines of 2-D rotary embeddings for one grid.

    The first half of a head follows x (the column), the second half y (the row); each has
    head_dim / 4 frequencies 10000^(-2j / (head_dim / 2)), one for every pair of neighbouring
    numbers. Prefix tokens are not rotated.

    Args:
        grid_hw: Rows and columns of the token grid.
        head_dim: D, a multiple of 4.
        scale: Step between neighbouring rows and columns; (1, 1) in pre-training.
        offset: Coordinate of index 0 on both axes; 1 where the tower has a cls token.
        num_prefix_tokens: Rows of angle 0 in front.

    Returns:
        (N, D / 2, 2) float32: cosine and sine for every token and pair, row-major.

    Example:
        >>> rope_table((1, 1), 8, (1.0, 1.0), 0.0, 1)[:, :, 0].tolist()
        [[1.0, 1.0, 1.0, 1.0], [1.0, 1.0, 1.0, 1.0]]
    """
    h, w = grid_hw
    # Runtimes lack float64: where the grid is a variable of a traced program, angles are float32.
    kind = torch.float64 if is_known(grid_hw) else torch.float32
    steps = torch.arange(0, head_dim // 2, 2, dtype=torch.float64) / (head_dim // 2)
    freqs = (ROPE_THETA**-steps).to(kind)  # (D / 4,)
    rows = torch.arange(h, dtype=kind) * scale[0] + offset
    cols = torch.arange(w, dtype=kind) * scale[1] + offset
    angle_x = (cols[:, None] * freqs).expand(h, w, -1)
    angle_y = (rows[:, None, None] * freqs).expand(h, w, -1)
    angles = torch.cat([angle_x, angle_y], dim=-1).reshape(h * w, -1)
    angles = torch.cat([angles.new_zeros(num_prefix_tokens, angles.shape[1]), angles])
    return torch.stack([angles.cos(), angles.sin()], dim=-1).float()


def rotate(x: Tensor, table_ND2: Tensor) -> Tensor:
    """Rotate neighbouring pairs of numbers, in float32 whatever the input type.

    Args:
        x: (..., N, M, D), for example queries and keys side by side.
        table_ND2: (N, D / 2, 2) from `rope_table`.

    Returns:
        Same shape and dtype as x.
    """
    pairs = x.float().unflatten(-1, (-1, 2))
    turn = turned_in_reals if is_traced() else turned_as_complex
    return turn(pairs, table_ND2).flatten(-2).to(x.dtype)


def turned_as_complex(pairs: Tensor, table_ND2: Tensor) -> Tensor:
    """Pairs (..., N, M, D / 2, 2) turned by the angles of their tokens: one complex product."""
    table = torch.view_as_complex(table_ND2)[:, None]  # (N, 1, D / 2)
    return torch.view_as_real(torch.view_as_complex(pairs) * table)


def turned_in_reals(pairs: Tensor, table_ND2: Tensor) -> Tensor:
    """`turned_as_complex` in real arithmetic, which compilers fuse and exporters can write."""
    cos, sin = table_ND2[:, None].unbind(-1)
    even, odd = pairs.unbind(-1)
    return torch.stack([even * cos - odd * sin, odd * cos + even * sin], dim=-1)


def turned_qkv(qkv_BNC: Tensor, table_ND2: Tensor, num_heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """Rotated queries and keys, and values, (B, M, N, D) each.

    In half precision on a GPU `qkv_BNC` itself is turned: pass what nothing else reads.

    Args:
        qkv_BNC: (B, N, 3 C), queries before keys before values.
        table_ND2: (N, D / 2, 2) from `rope_table`.
        num_heads: M.
    """
    if _turns_in_place(qkv_BNC):
        qkv_BNC = _TurnInPlace.apply(qkv_BNC, table_ND2)
        q, k, v = qkv_BNC.unflatten(-1, (3, num_heads, -1)).unbind(2)
    else:
        qkv = qkv_BNC.unflatten(-1, (3 * num_heads, -1))  # (B, N, 3 M, D)
        # One split instead of two slices: the backward pass is one concatenation, without zeros.
        qk, v = qkv.split([2 * num_heads, num_heads], dim=2)
        q, k = rotate(qk, table_ND2).chunk(2, dim=2)
    return q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)


def _turns_in_place(qkv_BNC: Tensor) -> bool:
    if is_traced() or qkv_BNC.dtype not in HALF_TYPES:
        return False  # the compiler fuses `rotate` itself
    return qkv_BNC.is_contiguous() and use_kernels(qkv_BNC)


class _TurnInPlace(torch.autograd.Function):
    """Turns queries and keys; the gradient is turned back."""

    @staticmethod
    def forward(ctx, qkv_BNC: Tensor, table_ND2: Tensor) -> Tensor:
        from pe_dense.encoders.rotation_kernel import turn_in_place

        turn_in_place(qkv_BNC, table_ND2)
        ctx.save_for_backward(table_ND2)
        ctx.mark_dirty(qkv_BNC)
        return qkv_BNC

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad_BNC: Tensor) -> tuple[Tensor, None]:
        from pe_dense.encoders.rotation_kernel import turn_in_place

        grad_BNC = grad_BNC.clone(memory_format=torch.contiguous_format)  # it is not ours
        turn_in_place(grad_BNC, *ctx.saved_tensors, inverse=True)
        return grad_BNC, None
