"""From image tokens of a point to its masks, without the maps of twice and four times the side.

As written these maps pass through memory some ten times, 42 MB a point of SAM 2.1 in bfloat16. Here
a program doubles a tile of tokens twice, in registers, and writes the masks' logits alone: 2 MB are
read and 0.3 MB written a point. Sums, norms and activations are float32.

Shape legend: P points, N image tokens (row by row of a grid of width w), C channels, E = C / 4 and
F = C / 8 channels after one and two doublings, R the 4 children of a token, K masks of a point.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

TILE = 64  # tokens of a program


def masks_from_tokens(
    tokens_PNC: Tensor,
    first_REC: Tensor,
    fine_NRE: Tensor,
    norm_weight_E: Tensor,
    norm_bias_E: Tensor,
    eps: float,
    second_RFE: Tensor,
    finest_NRRF: Tensor,
    kernels_PKF: Tensor,
    width: int,
) -> Tensor:
    """Logits (P, K, 4 h, 4 w) in the type of the tokens; all contiguous, arguments in use order."""
    points, tokens, channels = tokens_PNC.shape
    masks, last = kernels_PKF.shape[1:]
    height = tokens // width
    result = tokens_PNC.new_empty(points, masks, 4 * height, 4 * width)
    with torch.cuda.device(tokens_PNC.device if tokens_PNC.is_cuda else -1):
        _upscale[(triton.cdiv(tokens, TILE), points)](
            tokens_PNC, first_REC, fine_NRE, norm_weight_E, norm_bias_E, second_RFE, finest_NRRF,
            kernels_PKF, result, eps, tokens, width,
            masks, channels, first_REC.shape[1], last, TILE, num_warps=4, num_stages=2,
        )  # fmt: skip
    return result


@triton.jit
def _gelu(x):
    return 0.5 * x * (1.0 + tl.erf(x * 0.7071067811865476))


@triton.jit
def _upscale(
    image, first, fine, norm_weight, norm_bias, second, finest, kernels, masks, eps, tokens, width,
    K: tl.constexpr, C: tl.constexpr, E: tl.constexpr, F: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    point = tl.program_id(1).to(tl.int64)
    token = tl.program_id(0) * TILE + tl.arange(0, TILE)
    inside = token < tokens
    c, e, f = tl.arange(0, C), tl.arange(0, E), tl.arange(0, F)
    x = tl.load(image + (point * tokens + token)[:, None] * C + c[None, :], inside[:, None], 0.0)
    side = 4 * width
    corner = (token // width) * 4 * side + (token % width) * 4
    area = tokens * 16
    for r in range(4):
        doubled = tl.dot(x, tl.load(first + (r * E + e)[None, :] * C + c[:, None]))
        near = fine + (token * 4 + r)[:, None] * E + e[None, :]
        doubled += tl.load(near, inside[:, None], 0.0).to(tl.float32)
        centred = doubled - (tl.sum(doubled, 1) / E)[:, None]
        spread = tl.sum(centred * centred, 1) / E
        normed = centred * tl.rsqrt(spread + eps)[:, None]
        normed = normed * tl.load(norm_weight + e).to(tl.float32)[None, :]
        normed += tl.load(norm_bias + e).to(tl.float32)[None, :]
        active = _gelu(normed).to(image.dtype.element_ty)
        for s in range(4):
            again = tl.dot(active, tl.load(second + (s * F + f)[None, :] * E + e[:, None]))
            nearest = finest + ((token * 4 + r) * 4 + s)[:, None] * F + f[None, :]
            again += tl.load(nearest, inside[:, None], 0.0).to(tl.float32)
            again = _gelu(again)
            at = corner + (r // 2 * 2 + s // 2) * side + r % 2 * 2 + s % 2
            for k in range(K):
                kernel = tl.load(kernels + (point * K + k) * F + f).to(tl.float32)
                logit = tl.sum(again * kernel[None, :], 1)
                place = masks + (point * K + k) * area + at
                tl.store(place, logit.to(masks.dtype.element_ty), inside)
