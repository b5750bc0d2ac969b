"""Upsampled cross-entropy on a GPU: kernels that never write the logit of a pixel.

Tokens lie with their classes side by side. One warp goes through the cells of a row of tokens (a
cell is what lies between the centres of four tokens), a lane for a class; a pixel row of a cell is
one interpolation along y for the class, and one multiply-add for a pixel. The first kernel leaves
the log-sum of every pixel, the second the gradient at the four tokens. Rows of cells share rows of
tokens: even rows run first, odd rows add to what they wrote, so that results are the same bits in
every run.

Operations for a pixel and class: a multiply-add, an exponential and an addition in the first
kernel; two additions, two multiply-adds and an exponential in the second. Exponentials bound both:
an H100 has 16 a clock on a multiprocessor, 3.6e12 a second.

Shape legend: B images, P heads, K classes, h w token grid, H W pixels, T tiles of a pixel row, S
pixels of a tile.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from pe_dense.pixelwise.cell_corners_kernel import (
    LOG2_E,
    NOTHING,
    classes_of,
    corners_of,
    leave_at_tokens,
)
from pe_dense.pixelwise.token_cells import token_cells

LN_2 = 0.6931471805599453
LANES = 32
# One compilation for all sizes: nothing here is faster where a size has a factor of 16.
SIZES = (
    "heads", "h", "w", "height", "width", "tiles", "stride_b", "stride_p", "stride_h", "stride_w",
    "grad_b", "grad_p", "grad_h", "grad_w", "parity",
)  # fmt: skip
CELLS = 8  # of a row that one program of the first kernel goes through


@triton.jit
def _pixel_row(corners, tops, wx, wy, lane, NUM_CLASSES: tl.constexpr):
    """Logits (pixels, lanes) of one pixel row of a cell."""
    t00, t01, t10, t11 = corners
    m00, m01, m10, m11 = tops
    a = classes_of(t00, m00, lane, NUM_CLASSES)
    b = classes_of(t01, m01, lane, NUM_CLASSES)
    a += wy * (classes_of(t10, m10, lane, NUM_CLASSES) - a)
    b += wy * (classes_of(t11, m11, lane, NUM_CLASSES) - b)
    return a[None, :] + (b - a)[None, :] * wx[:, None]


@triton.jit
def _own_logits(corners, tops, wx, wy, label, counted):
    """Logits (pixels,) of the labels, as `_pixel_row` has them."""
    t00, t01, t10, t11 = corners
    m00, m01, m10, m11 = tops
    a = tl.load(t00 + label, mask=counted, other=0.0).to(tl.float32) - m00
    b = tl.load(t01 + label, mask=counted, other=0.0).to(tl.float32) - m01
    a += wy * (tl.load(t10 + label, mask=counted, other=0.0).to(tl.float32) - m10 - a)
    b += wy * (tl.load(t11 + label, mask=counted, other=0.0).to(tl.float32) - m11 - b)
    return (a + wx * (b - a)) * LOG2_E


@triton.jit(do_not_specialize=SIZES)
def log_sum_kernel(
    tokens, top, spread, labels, first_y, weight_y, first_x, first_tile, weight_tile,
    shifts, losses, heads, h, w, height, width, tiles,
    stride_b, stride_p, stride_h, stride_w, safe_spread,
    NUM_CLASSES: tl.constexpr, IGNORED: tl.constexpr, PIXELS: tl.constexpr,
    CELLS: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    """Minus the log-sum of every counted pixel, -inf elsewhere; losses of a part of a row."""
    bp = tl.program_id(0).to(tl.int64)
    i, part = tl.program_id(1), tl.program_id(2)
    b, p = bp // heads, bp % heads
    i1 = tl.minimum(i + 1, h - 1)
    row = tokens + b * stride_b + p * stride_p + i * stride_h
    row1 = tokens + b * stride_b + p * stride_p + i1 * stride_h
    first, last = tl.load(first_y + i), tl.load(first_y + i + 1)
    step = tl.arange(0, PIXELS)
    lanes = tl.arange(0, LANES)
    total = tl.zeros((PIXELS,), tl.float32)
    for j in range(part * CELLS, tl.minimum(part * CELLS + CELLS, w)):
        j1 = tl.minimum(j + 1, w - 1)
        tops = corners_of(top, bp, i, i1, j, j1, h, w)
        s00, s01, s10, s11 = corners_of(spread, bp, i, i1, j, j1, h, w)
        is_wide = tl.maximum(tl.maximum(s00, s01), tl.maximum(s10, s11)) > safe_spread
        corners = (
            row + j * stride_w, row + j1 * stride_w, row1 + j * stride_w, row1 + j1 * stride_w
        )  # fmt: skip
        begin, end = tl.load(first_x + j), tl.load(first_x + j + 1)
        tile0 = tl.load(first_tile + j)
        for tile in range(tile0, tl.load(first_tile + j + 1)):
            x = begin + (tile - tile0) * PIXELS + step
            wx = tl.load(weight_tile + tile * PIXELS + step)
            for y in range(first, last):
                wy = tl.load(weight_y + y)
                sums = tl.zeros((PIXELS, LANES), tl.float32)
                if is_wide:
                    best = tl.full((PIXELS, LANES), NOTHING, tl.float32)
                    for c in range(0, NUM_CLASSES, LANES):
                        logits = _pixel_row(corners, tops, wx, wy, c + lanes, NUM_CLASSES)
                        best = tl.maximum(best, logits)
                    most = tl.max(best, 1)
                    for c in range(0, NUM_CLASSES, LANES):
                        logits = _pixel_row(corners, tops, wx, wy, c + lanes, NUM_CLASSES)
                        sums += tl.exp2(logits - most[:, None])
                    log_sum = tl.log2(tl.sum(sums, 1)) + most
                else:
                    for c in range(0, NUM_CLASSES, LANES):
                        logits = _pixel_row(corners, tops, wx, wy, c + lanes, NUM_CLASSES)
                        sums += tl.exp2(logits)
                    log_sum = tl.log2(tl.sum(sums, 1))
                pixel = labels + (b * height + y) * width + x
                label = tl.load(pixel, mask=x < end, other=IGNORED).to(tl.int32)
                counted = label != IGNORED
                own = _own_logits(corners, tops, wx, wy, label, counted)
                total += tl.where(counted, log_sum - own, 0.0)
                shift = shifts + ((bp * height + y) * tiles + tile) * PIXELS + step
                tl.store(shift, tl.where(counted, -log_sum, float("-inf")))
    tl.store(losses + (bp * h + i) * tl.num_programs(2) + part, tl.sum(total, 0))


@triton.jit(do_not_specialize=SIZES)
def gradient_kernel(
    tokens, top, labels, first_y, weight_y, first_x, first_tile, weight_tile, shifts, target,
    grad, heads, h, w, height, width, tiles, stride_b, stride_p, stride_h, stride_w,
    grad_b, grad_p, grad_h, grad_w, parity,
    NUM_CLASSES: tl.constexpr, PIXELS: tl.constexpr, ONE_HOT: tl.constexpr, ADDS: tl.constexpr,
    LANES: tl.constexpr,
):  # fmt: skip
    """What the pixels between two rows of tokens give to these; for every second such pair.

    Softmax less `target` (B, h, w, K); or with `ONE_HOT` the labels, which become the target.
    """
    bp = tl.program_id(0).to(tl.int64)
    i = 2 * tl.program_id(1) + parity
    lane = tl.program_id(2) * LANES + tl.arange(0, LANES)
    b, p = bp // heads, bp % heads
    i1 = tl.minimum(i + 1, h - 1)
    row = tokens + b * stride_b + p * stride_p + i * stride_h
    row1 = tokens + b * stride_b + p * stride_p + i1 * stride_h
    upper = grad + b * grad_b + p * grad_p + i * grad_h + lane
    lower = upper + grad_h
    target_upper = target + (b * h + i) * w * NUM_CLASSES + lane
    target_lower = target_upper + w * NUM_CLASSES
    stored = lane < NUM_CLASSES
    first, last = tl.load(first_y + i), tl.load(first_y + i + 1)
    step = tl.arange(0, PIXELS)
    left_upper = tl.zeros((LANES,), tl.float32)
    left_lower = tl.zeros((LANES,), tl.float32)
    for j in range(w):
        j1 = tl.minimum(j + 1, w - 1)
        sum_1 = tl.zeros((LANES,), tl.float32)  # of the pixels, and weighted with x, y, x * y
        sum_x = tl.zeros((LANES,), tl.float32)
        sum_y = tl.zeros((LANES,), tl.float32)
        sum_xy = tl.zeros((LANES,), tl.float32)
        begin, end = tl.load(first_x + j), tl.load(first_x + j + 1)
        tile0, tile1 = tl.load(first_tile + j), tl.load(first_tile + j + 1)
        if not ONE_HOT:
            m00, m01, m10, m11 = corners_of(top, bp, i, i1, j, j1, h, w)
            v00 = classes_of(row + j * stride_w, m00, lane, NUM_CLASSES)
            v01 = classes_of(row + j1 * stride_w, m01, lane, NUM_CLASSES)
            v10 = classes_of(row1 + j * stride_w, m10, lane, NUM_CLASSES)
            v11 = classes_of(row1 + j1 * stride_w, m11, lane, NUM_CLASSES)
        for tile in range(tile0, tile1):
            wx = tl.load(weight_tile + tile * PIXELS + step)
            for y in range(first, last):
                wy = tl.load(weight_y + y)
                if ONE_HOT:
                    x = begin + (tile - tile0) * PIXELS + step
                    pixel = labels + (b * height + y) * width + x
                    label = tl.load(pixel, mask=x < end, other=-1).to(tl.int32)
                    share = (label[:, None] == lane[None, :]).to(tl.float32)
                else:
                    a = v00 + wy * (v10 - v00)
                    d = v01 + wy * (v11 - v01) - a
                    shift = tl.load(shifts + ((bp * height + y) * tiles + tile) * PIXELS + step)
                    # In the order of the first kernel: of the same bits no share is above 1.
                    share = tl.exp2((a[None, :] + d[None, :] * wx[:, None]) + shift[:, None])
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
        if ADDS or ONE_HOT:
            leave_at_tokens(upper, lower, left_upper, left_lower, stored, i < h - 1, ADDS)
        else:
            at_upper, at_lower = target_upper + j * NUM_CLASSES, target_lower + j * NUM_CLASSES
            left_upper -= tl.load(at_upper, mask=stored, other=0.0)
            left_lower -= tl.load(at_lower, mask=stored & (i < h - 1), other=0.0)
            leave_at_tokens(upper, lower, left_upper, left_lower, stored, i < h - 1, False)
        upper += grad_w
        lower += grad_w
        left_upper, left_lower = right_upper, right_lower


class _Launch:
    """Both kernels for heads on one grid of tokens and one size of label maps.

    Args:
        tokens_BPhwK: Classes side by side in memory.
        labels_BHW: Contiguous integers.
    """

    def __init__(self, tokens_BPhwK: Tensor, labels_BHW: Tensor) -> None:
        _, heads, h, w, self.classes = tokens_BPhwK.shape
        self.tokens, self.labels_BHW = tokens_BPhwK, labels_BHW
        height, width = labels_BHW.shape[1:]
        device = tokens_BPhwK.device
        rows, columns = token_cells(h, height, device), token_cells(w, width, device)
        self.tiles, self.pixels = columns.weight_TS.shape
        self.geometry = (
            rows.first_h1, rows.weight_H,
            columns.first_h1, columns.first_tile_h1, columns.weight_TS,
        )  # fmt: skip
        self.sizes = (heads, h, w, height, width, self.tiles, *tokens_BPhwK.stride()[:4])
        self.device = torch.cuda.device(device if device.type == "cuda" else -1)

    def log_sums(
        self, top_BPhw: Tensor, spread_BPhw: Tensor, ignored: int, safe_spread: float
    ) -> tuple[Tensor, Tensor]:
        """Shifts (B, P, H, T, S) for `gradient`, and losses (B, P, parts) in units of ln 2."""
        batch, heads, h, w, _ = self.tokens.shape
        shifts = top_BPhw.new_empty(batch, heads, self.sizes[3], self.tiles, self.pixels)
        parts = triton.cdiv(w, CELLS)
        losses = top_BPhw.new_empty(batch, heads, h * parts)
        with self.device:
            log_sum_kernel[(batch * heads, h, parts)](
                self.tokens, top_BPhw, spread_BPhw, self.labels_BHW, *self.geometry, shifts, losses,
                *self.sizes, safe_spread, NUM_CLASSES=self.classes, IGNORED=ignored,
                PIXELS=self.pixels, CELLS=CELLS, LANES=LANES, num_warps=1,
            )  # fmt: skip
        return shifts, losses

    def gradient(
        self, grad_BPhwK: Tensor, top_BPhw: Tensor, shifts: Tensor, target_BhwK: Tensor | None
    ) -> None:
        """Fills `grad_BPhwK`; without a target, with that of the labels instead."""
        batch, heads, h, _, _ = self.tokens.shape
        one_hot = target_BhwK is None
        blocks = triton.cdiv(self.classes, LANES)
        with self.device:
            for parity in range(min(h, 2)):
                gradient_kernel[(batch * heads, (h - parity + 1) // 2, blocks)](
                    self.tokens, top_BPhw, self.labels_BHW, *self.geometry, shifts,
                    grad_BPhwK if one_hot else target_BhwK, grad_BPhwK, *self.sizes,
                    *grad_BPhwK.stride()[:4], parity, NUM_CLASSES=self.classes,
                    PIXELS=self.pixels, ONE_HOT=one_hot, ADDS=parity == 1, LANES=LANES,
                    num_warps=1,
                )  # fmt: skip


def one_hot_target(labels_BHW: Tensor, classes: int, token_hw: tuple[int, int]) -> Tensor:
    """(B, h, w, K) float32: transposed upsampling of the one-hot labels.

    Args:
        labels_BHW: Contiguous integers; those outside 0 to K - 1 add nothing.
        classes: K.
        token_hw: h and w.
    """
    device = labels_BHW.device
    target_BhwK = torch.empty(len(labels_BHW), *token_hw, classes, device=device)
    nothing = torch.empty(1, device=device)
    of_one_head = target_BhwK[:, None]
    _Launch(of_one_head, labels_BHW).gradient(of_one_head, nothing, nothing, None)
    return target_BhwK


def totals_and_gradient(
    logits_BPKhw: Tensor,
    labels_BHW: Tensor,
    ignored: int,
    target_BhwK: Tensor | None,
    safe_spread: float,
) -> tuple[Tensor, Tensor | None]:
    """Sum over the pixels of the cross-entropy of every head (P,) float64, and its gradient.

    Logits whose classes lie side by side in memory are read where they are, others are copied.

    Args:
        logits_BPKhw: Floating.
        labels_BHW: Classes or `ignored`, contiguous integers.
        ignored: Pixels of this label add nothing.
        target_BhwK: `one_hot_target` of the labels; None: no gradient is wanted.
        safe_spread: Natural logarithms; where logits of a token differ by more, the largest logit
            of every pixel is sought.
    """
    tokens = logits_BPKhw.permute(0, 1, 3, 4, 2)
    if tokens.stride(-1) != 1:
        tokens = tokens.contiguous()
    low, high = torch.aminmax(tokens, dim=-1)
    is_finite = torch.isfinite(low) & torch.isfinite(high)
    top_BPhw = torch.where(is_finite, high.float(), torch.nan).contiguous()
    spread_BPhw = (high.float() - low.float()).contiguous()
    launch = _Launch(tokens, labels_BHW)
    shifts, losses = launch.log_sums(top_BPhw, spread_BPhw, ignored, safe_spread)
    totals_P = losses.sum((0, 2), dtype=torch.float64) * LN_2
    if target_BhwK is None:
        return totals_P, None
    # Memory as that of a product of tokens and the weights of all heads.
    batch, heads, h, w, classes = tokens.shape
    grad = top_BPhw.new_empty(batch, h, w, heads, classes).permute(0, 3, 1, 2, 4)
    launch.gradient(grad, top_BPhw, shifts, target_BhwK)
    return totals_P, grad.permute(0, 1, 4, 2, 3)
