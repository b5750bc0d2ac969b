"""Necks: from one map of a plain encoder to the pyramid that detection heads expect.

Shape legend: B images, C width, h w grid of the input map.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from mmengine.model import BaseModule
from mmengine.registry import MODELS
from torch import Tensor, nn


@MODELS.register_module()
class ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of a (B, C, h, w) map; eps 1e-6 as in detectron2's ViTDet.

    In an mmcv `norm_cfg` write dict(type='ChannelNorm', eps=1e-6): mmcv fills in 1e-5 otherwise.
    """

    _abbr_ = "ln"

    def __init__(self, num_channels: int, eps: float = 1e-6) -> None:
        super().__init__(num_channels, eps=eps)

    def forward(self, map_BChw: Tensor) -> Tensor:
        """(B, C, h, w) -> the same shape."""
        return super().forward(map_BChw.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


@MODELS.register_module()
class SimplePyramid(BaseModule):
    """Strides around the patch from the last map alone (ViTDet's simple feature pyramid).

    With a patch of 16 the scales (4, 2, 1, 0.5) give strides 4, 8, 16, 32, and one extra level
    gives 64. Every level ends in a 1x1 and a 3x3 convolution with a channel norm, no bias, no
    activation.

    Args:
        in_channels: Width C of the encoder.
        out_channels: Width of every level.
        scales: Levels to make, each 4, 2, 1 or 0.5 times the input grid, finest first.
        num_extra_levels: Levels subsampled by 2 from the coarsest one (max pooling, kernel 1).

    Raises:
        ValueError: If a scale has no branch, or C cannot be divided for it.

    Source: ViTDet, arXiv:2203.16527; detectron2 @ 02b5c4e, SimpleFeaturePyramid with
    LastLevelMaxPool. Written from the description.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int = 256,
        scales: Sequence[float] = (4, 2, 1, 0.5),
        num_extra_levels: int = 1,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.in_channels = in_channels
        self.scales, self.num_extra_levels = tuple(scales), num_extra_levels
        self.levels = nn.ModuleList(
            nn.Sequential(
                *_resampling(in_channels, scale),
                nn.Conv2d(_width(in_channels, scale), out_channels, 1, bias=False),
                ChannelNorm(out_channels),
                nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
                ChannelNorm(out_channels),
            )
            for scale in scales
        )

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Last of `maps`, (B, C, h, w) -> one (B, out_channels, ., .) map per level."""
        if maps[-1].shape[1] != self.in_channels:
            raise ValueError(
                f"SimplePyramid was built for {self.in_channels} channels but the backbone gives "
                f"{maps[-1].shape[1]}; set neck.in_channels to the encoder's embed_dim"
            )
        outputs = [level(maps[-1]) for level in self.levels]
        for _ in range(self.num_extra_levels):
            outputs.append(F.max_pool2d(outputs[-1], kernel_size=1, stride=2))
        return tuple(outputs)

    def grids(self, rows: int, columns: int) -> list[tuple[int, int]]:
        """Rows and columns of the levels, of a grid of patches."""
        levels = [
            tuple(max(int(side * scale), 1) for side in (rows, columns)) for scale in self.scales
        ]
        for _ in range(self.num_extra_levels):
            levels.append(tuple((side + 1) // 2 for side in levels[-1]))
        return levels


def _width(channels: int, scale: float) -> int:
    return {4: channels // 4, 2: channels // 2, 1: channels, 0.5: channels}[scale]


def _resampling(channels: int, scale: float) -> list[nn.Module]:
    if scale not in (4, 2, 1, 0.5):
        raise ValueError(f"SimplePyramid has no scale {scale}; choose among 4, 2, 1 and 0.5")
    if channels % 4:
        raise ValueError(f"SimplePyramid halves {channels} channels twice; use a multiple of 4")
    if scale == 4:
        return [
            nn.ConvTranspose2d(channels, channels // 2, 2, stride=2),
            ChannelNorm(channels // 2),
            nn.GELU(),
            nn.ConvTranspose2d(channels // 2, channels // 4, 2, stride=2),
        ]
    if scale == 2:
        return [nn.ConvTranspose2d(channels, channels // 2, 2, stride=2)]
    return [Halving()] if scale == 0.5 else []


class Halving(nn.Module):
    """Max pooling by 2; the one row or column of a very narrow picture stays one."""

    def forward(self, map_BChw: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C, h // 2, w // 2), no side below 1."""
        return F.max_pool2d(map_BChw, [min(side, 2) for side in map_BChw.shape[2:]])
