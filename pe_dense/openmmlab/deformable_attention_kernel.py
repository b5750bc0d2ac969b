"""Multi-scale deformable attention as Triton kernels, forward and backward.

Nothing is stored between sampling and summing: a program holds the output of a block of queries
for one head, and adds the weighted samples of all levels and points to it. Backward repeats the
sampling; gradients of the values are added atomically in float32, so their last bits depend on the
order.

Shape legend: B images, N tokens of all levels, Q queries, M heads, D width of a head, L levels,
P points.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK_Q = 32


@triton.jit
def _corner(values, row, column, height, width, start, M: tl.constexpr, D: tl.constexpr, d_D):
    """Addresses of a token for each query and whether it lies on the level: (Q, D)."""
    inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    token = start + tl.where(inside, row * width + column, 0)
    offsets = token[:, None].to(tl.int64) * (M * D) + d_D[None, :]
    return values + offsets, inside[:, None] & (d_D < D)[None, :]


@triton.jit
def _near(place, size):
    """A place at most two tokens outside; nan stays nan, which a GPU's minimum would drop."""
    place = tl.maximum(place, -2.0, propagate_nan=tl.PropagateNan.ALL)
    return tl.minimum(place, size + 1.0, propagate_nan=tl.PropagateNan.ALL)


# Loops over levels and points stay loops: unrolled, they are no faster and compile for 18 seconds.
@triton.jit(do_not_specialize=["N", "Q"])
def _forward(
    values, shapes, locations, weights, output,
    N, Q,
    M: tl.constexpr, D: tl.constexpr, D_PADDED: tl.constexpr,
    L: tl.constexpr, P: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    image, head = tl.program_id(1) // M, tl.program_id(1) % M
    q = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    d = tl.arange(0, D_PADDED)
    exists = q < Q
    query = (image.to(tl.int64) * Q + q) * M + head
    values += image.to(tl.int64) * N * M * D + head * D
    total = tl.zeros((BLOCK, D_PADDED), tl.float32)
    start = 0
    for level in range(L):
        height = tl.load(shapes + 2 * level).to(tl.int32)
        width = tl.load(shapes + 2 * level + 1).to(tl.int32)
        for point in range(P):
            place = (query * L + level) * P + point
            weight = tl.load(weights + place, mask=exists, other=0.0).to(tl.float32)
            x = tl.load(locations + 2 * place, mask=exists, other=-9.0).to(tl.float32)
            y = tl.load(locations + 2 * place + 1, mask=exists, other=-9.0).to(tl.float32)
            x, y = x * width - 0.5, y * height - 0.5
            # Far outside nothing is sampled: keep the integers in range.
            x, y = _near(x, width), _near(y, height)
            left = tl.floor(tl.where(x == x, x, -2.0))
            top = tl.floor(tl.where(y == y, y, -2.0))
            fx, fy = x - left, y - top
            column, row = left.to(tl.int32), top.to(tl.int32)
            for corner in tl.static_range(4):
                down, right = corner // 2, corner % 2
                pointer, inside = _corner(
                    values, row + down, column + right, height, width, start, M, D, d
                )
                share = (fx if right else 1.0 - fx) * (fy if down else 1.0 - fy) * weight
                total += tl.load(pointer, mask=inside, other=0.0).to(tl.float32) * share[:, None]
        start += height * width
    target = output + query[:, None] * D + d[None, :]
    tl.store(target, total, mask=exists[:, None] & (d < D)[None, :])


@triton.jit(do_not_specialize=["N", "Q"])
def _backward(
    values, shapes, locations, weights, grad_output, grad_values, grad_locations, grad_weights,
    N, Q,
    M: tl.constexpr, D: tl.constexpr, D_PADDED: tl.constexpr,
    L: tl.constexpr, P: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    image, head = tl.program_id(1) // M, tl.program_id(1) % M
    q = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    d = tl.arange(0, D_PADDED)
    exists = q < Q
    query = (image.to(tl.int64) * Q + q) * M + head
    here = image.to(tl.int64) * N * M * D + head * D
    values += here
    grad_values += here
    source = grad_output + query[:, None] * D + d[None, :]
    grad = tl.load(source, mask=exists[:, None] & (d < D)[None, :], other=0.0).to(tl.float32)
    start = 0
    for level in range(L):
        height = tl.load(shapes + 2 * level).to(tl.int32)
        width = tl.load(shapes + 2 * level + 1).to(tl.int32)
        for point in range(P):
            place = (query * L + level) * P + point
            weight = tl.load(weights + place, mask=exists, other=0.0).to(tl.float32)
            x = tl.load(locations + 2 * place, mask=exists, other=-9.0).to(tl.float32)
            y = tl.load(locations + 2 * place + 1, mask=exists, other=-9.0).to(tl.float32)
            x, y = x * width - 0.5, y * height - 0.5
            x, y = _near(x, width), _near(y, height)
            left = tl.floor(tl.where(x == x, x, -2.0))
            top = tl.floor(tl.where(y == y, y, -2.0))
            fx, fy = x - left, y - top
            column, row = left.to(tl.int32), top.to(tl.int32)
            grad_weight = tl.zeros((BLOCK,), tl.float32)
            grad_x = tl.zeros((BLOCK,), tl.float32)
            grad_y = tl.zeros((BLOCK,), tl.float32)
            for corner in tl.static_range(4):
                down, right = corner // 2, corner % 2
                pointer, inside = _corner(
                    values, row + down, column + right, height, width, start, M, D, d
                )
                share_x = fx if right else 1.0 - fx
                share_y = fy if down else 1.0 - fy
                dot = tl.sum(tl.load(pointer, mask=inside, other=0.0).to(tl.float32) * grad, 1)
                grad_weight += share_x * share_y * dot
                grad_x += (share_y if right else -share_y) * dot
                grad_y += (share_x if down else -share_x) * dot
                pointer, inside = _corner(
                    grad_values, row + down, column + right, height, width, start, M, D, d
                )
                part = grad * (share_x * share_y * weight)[:, None]
                tl.atomic_add(pointer, part, mask=inside & exists[:, None], sem="relaxed")
            tl.store(grad_weights + place, grad_weight, mask=exists)
            tl.store(grad_locations + 2 * place, grad_x * weight * width, mask=exists)
            tl.store(grad_locations + 2 * place + 1, grad_y * weight * height, mask=exists)
        start += height * width


class _DeformableAttention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, values: Tensor, shapes: Tensor, locations: Tensor, weights: Tensor
    ) -> Tensor:
        values, locations, weights = (x.contiguous() for x in (values, locations, weights))
        ctx.save_for_backward(values, shapes, locations, weights)
        grid, sizes = _launch(values, locations)
        output = values.new_empty(values.shape[0], locations.shape[1], *values.shape[2:])
        if output.numel():
            _forward[grid](values, shapes, locations, weights, output, *sizes)
        return output.flatten(2)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        values, shapes, locations, weights = ctx.saved_tensors
        grid, sizes = _launch(values, locations)
        grad_values = torch.zeros_like(values, dtype=torch.float32)
        grad_locations, grad_weights = torch.empty_like(locations), torch.empty_like(weights)
        if grad_output.numel():
            _backward[grid](
                values, shapes, locations, weights, grad_output.contiguous(),
                grad_values, grad_locations, grad_weights, *sizes,
            )  # fmt: skip
        return grad_values.to(values.dtype), None, grad_locations, grad_weights


def _launch(values_BNMD: Tensor, locations_BQMLP2: Tensor) -> tuple[tuple[int, int], tuple]:
    """Grid, and the sizes that both kernels take."""
    num_images, num_tokens, num_heads, width = values_BNMD.shape
    _, num_queries, _, num_levels, num_points, _ = locations_BQMLP2.shape
    grid = (triton.cdiv(num_queries, BLOCK_Q), num_images * num_heads)
    padded = triton.next_power_of_2(width)
    return grid, (
        num_tokens,
        num_queries,
        num_heads,
        width,
        padded,
        num_levels,
        num_points,
        BLOCK_Q,
    )


def deformable_attention(
    values_BNMD: Tensor, shapes_L2: Tensor, locations_BQMLP2: Tensor, weights_BQMLP: Tensor
) -> Tensor:
    """As `pe_dense.openmmlab.deformable_attention.deformable_attention`, on the kernels."""
    return _DeformableAttention.apply(values_BNMD, shapes_L2, locations_BQMLP2, weights_BQMLP)
