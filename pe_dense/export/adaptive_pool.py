"""Adaptive average pooling that an exporter writes for any size: two matrix products.

Exporters take the size of their example for the size of all; what pools then reads wrong windows.

Shape legend: B images, C channels, h w grid, P Q bins.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class PooledByProducts(nn.Module):
    """`nn.AdaptiveAvgPool2d` with P rows and Q columns of bins."""

    def __init__(self, bins: tuple[int, int]) -> None:
        super().__init__()
        self.bins = bins

    def forward(self, maps_BChw: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C, P, Q)."""
        down, across = (
            _shares(bins, maps_BChw.shape[axis], maps_BChw)
            for axis, bins in zip((2, 3), self.bins, strict=True)
        )
        return down @ (maps_BChw @ across.T)


def _shares(bins: int, size: int, like: Tensor) -> Tensor:
    """(bins, size): bin i is the mean from floor(i size / bins) to ceil((i + 1) size / bins)."""
    bin_P = torch.arange(bins, device=like.device)
    place_h = torch.arange(size, device=like.device)
    start_P = bin_P * size // bins
    end_P = ((bin_P + 1) * size + bins - 1) // bins
    inside_Ph = (place_h >= start_P[:, None]) & (place_h < end_P[:, None])
    return inside_Ph.to(like.dtype) / (end_P - start_P)[:, None].to(like.dtype)


def pool_by_products(model: nn.Module) -> None:
    """Puts `PooledByProducts` in the place of every adaptive average pooling of a model."""
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.AdaptiveAvgPool2d):
                size = child.output_size
                bins = (size, size) if isinstance(size, int) else tuple(size)
                if None not in bins:
                    setattr(module, name, PooledByProducts(bins))
