"""Depth as an expectation over upsampled scores of bins, on a GPU: no score of a pixel in memory.

As `upsampled_loss_kernel` goes through cells of tokens, a lane for a bin. The first kernel leaves
the depth of every pixel and what its weights are divided by, the second the gradient at the tokens.

Shape legend: B images, K bins, h w token grid, H W pixels.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from pe_dense.pixelwise.cell_corners_kernel import LOG2_E, NOTHING, leave_at_tokens
from pe_dense.pixelwise.known_gradient import not_differentiable_again
from pe_dense.pixelwise.token_cells import token_cells

LANES = 32
# One compilation for all sizes: nothing here is faster where a size has a factor of 16.
SIZES = ("h", "w", "height", "width", "stride_b", "stride_h", "stride_w", "parity")
CELLS = 4  # of a row that one program of the first kernel goes through
NORMS = {"linear": 0, "softmax": 1, "sigmoid": 2}
LINEAR = tl.constexpr(0)
SIGMOID = tl.constexpr(2)


@triton.jit
def _scores_of(token, lane, NUM_BINS: tl.constexpr):
    return tl.load(token + lane, mask=lane < NUM_BINS, other=0.0).to(tl.float32)


@triton.jit
def _pixel_row(corners, wx, wy, lane, NUM_BINS: tl.constexpr):
    """Scores (pixels, lanes) of one pixel row of a cell, without those of no bin."""
    t00, t01, t10, t11 = corners
    a, b = _scores_of(t00, lane, NUM_BINS), _scores_of(t01, lane, NUM_BINS)
    a += wy * (_scores_of(t10, lane, NUM_BINS) - a)
    b += wy * (_scores_of(t11, lane, NUM_BINS) - b)
    return a[None, :] + (b - a)[None, :] * wx[:, None]


@triton.jit
def _log_weight(score, NORM: tl.constexpr):
    """Logarithm of the weight of a bin to the base 2, before the division."""
    if NORM == SIGMOID:
        wide = tl.log2(1 + tl.exp2(-tl.abs(score) * LOG2_E))
        return tl.where(score > 0, 0.0, score) * LOG2_E - wide  # keeps nan
    else:
        return score * LOG2_E


@triton.jit(do_not_specialize=SIZES)
def depth_kernel(
    tokens, bins, first_y, weight_y, first_x, first_tile, weight_tile, depths, scales,
    h, w, height, width, stride_b, stride_h, stride_w, offset,
    NUM_BINS: tl.constexpr, NORM: tl.constexpr, PIXELS: tl.constexpr, CELLS: tl.constexpr,
    LANES: tl.constexpr,
):  # fmt: skip
    """Depth of every pixel; the sum of its weights, or the logarithm of it to the base 2."""
    b = tl.program_id(0).to(tl.int64)
    i, part = tl.program_id(1), tl.program_id(2)
    i1 = tl.minimum(i + 1, h - 1)
    row, row1 = tokens + b * stride_b + i * stride_h, tokens + b * stride_b + i1 * stride_h
    step = tl.arange(0, PIXELS)
    lanes = tl.arange(0, LANES)
    for j in range(part * CELLS, tl.minimum(part * CELLS + CELLS, w)):
        j1 = tl.minimum(j + 1, w - 1)
        corners = (
            row + j * stride_w, row + j1 * stride_w, row1 + j * stride_w, row1 + j1 * stride_w
        )  # fmt: skip
        begin, end, tile0 = tl.load(first_x + j), tl.load(first_x + j + 1), tl.load(first_tile + j)
        for tile in range(tile0, tl.load(first_tile + j + 1)):
            x = begin + (tile - tile0) * PIXELS + step
            wx = tl.load(weight_tile + tile * PIXELS + step)
            for y in range(tl.load(first_y + i), tl.load(first_y + i + 1)):
                wy = tl.load(weight_y + y)
                most = tl.zeros((PIXELS,), tl.float32)
                if NORM != LINEAR:
                    best = tl.full((PIXELS, LANES), NOTHING, tl.float32)
                    for c in range(0, NUM_BINS, LANES):
                        score = _pixel_row(corners, wx, wy, c + lanes, NUM_BINS)
                        score = tl.where((c + lanes < NUM_BINS)[None, :], score, NOTHING)
                        best = tl.maximum(best, score)
                    most = _log_weight(tl.max(best, 1), NORM)
                sums = tl.zeros((PIXELS, LANES), tl.float32)
                of_bins = tl.zeros((PIXELS, LANES), tl.float32)
                for c in range(0, NUM_BINS, LANES):
                    score = _pixel_row(corners, wx, wy, c + lanes, NUM_BINS)
                    depth = tl.load(bins + c + lanes, mask=c + lanes < NUM_BINS, other=0.0)
                    if NORM == LINEAR:
                        weight = tl.where(score <= 0, 0.0, score) + offset  # keeps nan
                    else:
                        weight = tl.exp2(_log_weight(score, NORM) - most[:, None])
                    weight = tl.where((c + lanes < NUM_BINS)[None, :], weight, 0.0)
                    sums += weight
                    of_bins += weight * depth[None, :]
                total = tl.sum(sums, 1)
                place = (b * height + y) * width + x
                tl.store(depths + place, tl.sum(of_bins, 1) / total, mask=x < end)
                scale = total if NORM == LINEAR else tl.log2(total) + most
                tl.store(scales + place, scale, mask=x < end)


@triton.jit(do_not_specialize=SIZES)
def gradient_kernel(
    tokens, bins, first_y, weight_y, first_x, first_tile, weight_tile, depths, scales, upstream,
    grad, h, w, height, width, stride_b, stride_h, stride_w, parity,
    NUM_BINS: tl.constexpr, NORM: tl.constexpr, PIXELS: tl.constexpr, ADDS: tl.constexpr,
    LANES: tl.constexpr,
):  # fmt: skip
    """What the pixels between two rows of tokens give to these; for every second such pair.

    `grad` is (B, h, w, K).
    """
    b = tl.program_id(0).to(tl.int64)
    i = 2 * tl.program_id(1) + parity
    lane = tl.program_id(2) * LANES + tl.arange(0, LANES)
    stored = lane < NUM_BINS
    i1 = tl.minimum(i + 1, h - 1)
    row, row1 = tokens + b * stride_b + i * stride_h, tokens + b * stride_b + i1 * stride_h
    upper = grad + (b * h + i) * w * NUM_BINS + lane
    lower = upper + w * NUM_BINS
    bin_depth = tl.load(bins + lane, mask=stored, other=0.0)
    step = tl.arange(0, PIXELS)
    left_upper = tl.zeros((LANES,), tl.float32)
    left_lower = tl.zeros((LANES,), tl.float32)
    for j in range(w):
        j1 = tl.minimum(j + 1, w - 1)
        v00 = _scores_of(row + j * stride_w, lane, NUM_BINS)
        v01 = _scores_of(row + j1 * stride_w, lane, NUM_BINS)
        v10 = _scores_of(row1 + j * stride_w, lane, NUM_BINS)
        v11 = _scores_of(row1 + j1 * stride_w, lane, NUM_BINS)
        sum_1 = tl.zeros((LANES,), tl.float32)  # of the pixels, and weighted with x, y, x * y
        sum_x = tl.zeros((LANES,), tl.float32)
        sum_y = tl.zeros((LANES,), tl.float32)
        sum_xy = tl.zeros((LANES,), tl.float32)
        begin, end, tile0 = tl.load(first_x + j), tl.load(first_x + j + 1), tl.load(first_tile + j)
        for tile in range(tile0, tl.load(first_tile + j + 1)):
            x = begin + (tile - tile0) * PIXELS + step
            wx = tl.load(weight_tile + tile * PIXELS + step)
            for y in range(tl.load(first_y + i), tl.load(first_y + i + 1)):
                wy = tl.load(weight_y + y)
                place = (b * height + y) * width + x
                depth = tl.load(depths + place, mask=x < end, other=0.0)
                scale = tl.load(scales + place, mask=x < end, other=1.0)
                given = tl.load(upstream + place, mask=x < end, other=0.0)
                a = v00 + wy * (v10 - v00)
                d = v01 + wy * (v11 - v01) - a
                score = a[None, :] + d[None, :] * wx[:, None]
                share = (bin_depth[None, :] - depth[:, None]) * given[:, None]
                if NORM == LINEAR:
                    share = tl.where(score > 0, share / scale[:, None], 0.0)
                else:
                    share *= tl.exp2(_log_weight(score, NORM) - scale[:, None])
                if NORM == SIGMOID:
                    share /= 1 + tl.exp2(score * LOG2_E)
                share = tl.where((x < end)[:, None], share, 0.0)
                row_1 = tl.sum(share, 0)
                row_x = tl.sum(share * wx[:, None], 0)
                sum_1 += row_1
                sum_x += row_x
                sum_y += wy * row_1
                sum_xy += wy * row_x
        right_upper, right_lower = sum_x - sum_xy, sum_xy
        left_upper += sum_1 - sum_y - right_upper
        left_lower += sum_y - right_lower
        if j == w - 1:  # the last token is its own neighbour
            left_upper += right_upper
            left_lower += right_lower
        leave_at_tokens(upper, lower, left_upper, left_lower, stored, i < h - 1, ADDS)
        upper += NUM_BINS
        lower += NUM_BINS
        left_upper, left_lower = right_upper, right_lower


class _Depth(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx, logits_BKhw: Tensor, bins_K: Tensor, norm: str, offset: float, size: tuple[int, int]
    ) -> Tensor:
        tokens = logits_BKhw.detach().permute(0, 2, 3, 1)
        if tokens.stride(-1) != 1:
            tokens = tokens.contiguous()
        batch, h, w, bins = tokens.shape
        rows, columns = (token_cells(*of, tokens.device) for of in zip((h, w), size, strict=True))
        geometry = (
            rows.first_h1, rows.weight_H,
            columns.first_h1, columns.first_tile_h1, columns.weight_TS,
        )  # fmt: skip
        depth_BHW, scale_BHW = torch.empty(2, batch, *size, device=tokens.device)
        bins_K = bins_K.float().contiguous()
        ctx.sizes = (h, w, *size, *tokens.stride()[:3])
        ctx.constants = dict(
            NUM_BINS=bins, NORM=NORMS[norm], PIXELS=columns.weight_TS.shape[1], LANES=LANES,
            num_warps=1,
        )  # fmt: skip
        ctx.dtype = logits_BKhw.dtype
        with _device_of(tokens):
            depth_kernel[(batch, h, triton.cdiv(w, CELLS))](
                tokens, bins_K, *geometry, depth_BHW, scale_BHW, *ctx.sizes, offset, CELLS=CELLS,
                **ctx.constants,
            )  # fmt: skip
        ctx.save_for_backward(tokens, bins_K, *geometry, depth_BHW, scale_BHW)
        return depth_BHW[:, None]

    @staticmethod
    def backward(ctx, upstream_B1HW: Tensor) -> tuple[Tensor | None, ...]:
        tokens, *others = ctx.saved_tensors
        batch, h, w, bins = tokens.shape
        grad = torch.empty(batch, h, w, bins, device=tokens.device)
        upstream = upstream_B1HW.float().contiguous()
        with _device_of(tokens):
            for parity in range(min(h, 2)):
                gradient_kernel[(batch, (h - parity + 1) // 2, triton.cdiv(bins, LANES))](
                    tokens, *others, upstream, grad, *ctx.sizes, parity, ADDS=parity == 1,
                    **ctx.constants,
                )  # fmt: skip
        gradient = grad.permute(0, 3, 1, 2).to(ctx.dtype)
        return not_differentiable_again(gradient), None, None, None, None


def _device_of(tensor: Tensor) -> torch.cuda.device:
    return torch.cuda.device(tensor.device if tensor.is_cuda else -1)


def upsampled_expectation(
    logits_BKhw: Tensor, bins_K: Tensor, norm: str, offset: float, size: tuple[int, int]
) -> Tensor:
    """(B, 1, H, W) float32: `expected_depth` of logits upsampled to `size`; differentiable once.

    Args:
        logits_BKhw: Floating, computed in float32; read where they are if bins lie side by side.
        bins_K: Depths in m.
        norm: A `BinNorm`.
        offset: Weight that 'linear' gives to every bin.
        size: H and W.
    """
    return _Depth.apply(logits_BKhw, bins_K, norm, offset, size)
