"""Multi-scale deformable attention by gathers: what runtimes and exporters know, on any device.

Slower than `grid_sample` (mmcv's PyTorch form) and than kernels; the reference for both.

Shape legend: B images, N tokens of all levels, Q queries, M heads, D width of a head, L levels,
P points, K = L P 4 tokens that a query reads per head.

Source: Deformable DETR, arXiv:2010.04159, equation 3.
"""

from __future__ import annotations

import torch
from torch import Tensor


def deformable_attention_by_gathers(
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
    """
    batch, _, heads, width = values_BNMD.shape
    queries = locations_BQMLP2.shape[1]
    sizes_L2 = shapes_L2.flip(1).to(locations_BQMLP2)  # columns, rows
    starts_L = shapes_L2.prod(1).cumsum(0) - shapes_L2.prod(1)
    place = locations_BQMLP2 * sizes_L2[:, None] - 0.5
    low = place.detach().floor()
    upper = place - low
    pixels, shares = [], []
    for down in (0, 1):
        for across in (0, 1):
            step = torch.tensor([across, down], device=low.device, dtype=low.dtype)
            corner = low + step
            inside = ((corner >= 0) & (corner < sizes_L2[:, None])).all(-1)
            share = torch.where(step > 0, upper, 1 - upper).prod(-1) * weights_BQMLP
            shares.append(torch.where(inside, share, 0.0))
            column, row = torch.where(inside[..., None], corner, 0.0).long().unbind(-1)
            pixels.append(starts_L[:, None] + row * shapes_L2[:, 1:] + column)
    pixel_BMX = torch.stack(pixels, -1).permute(0, 2, 1, 3, 4, 5).flatten(2)
    share_BMQK = torch.stack(shares, -1).permute(0, 2, 1, 3, 4, 5).flatten(3)
    values_BMND = values_BNMD.transpose(1, 2)
    read = values_BMND.gather(2, pixel_BMX[..., None].expand(-1, -1, -1, width))
    read_BMQKD = read.view(batch, heads, queries, -1, width)
    mixed_BMQD = (share_BMQK.to(read)[..., None] * read_BMQKD).sum(3)
    return mixed_BMQD.transpose(1, 2).flatten(2)
