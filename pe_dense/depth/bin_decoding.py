"""Depth from scores of bins: the last step of a head that classifies depth.

Shape legend: B images, K bins, h, w grid of the scores.
"""

from __future__ import annotations

from typing import get_args

from torch import Tensor, nn

from pe_dense.pixelwise.depth_bins import BinNorm, BinStrategy, depth_bins, expected_depth


class BinDecoder(nn.Module):
    """Scores of K bins -> depth in m; see `depth_bins` and `expected_depth`.

    The bins are part of the state dict: a checkpoint keeps the depths that it was trained with.

    Args:
        num_bins: K. DINOv2: 256.
        min_depth, max_depth: First and last bin in m. NYUv2: 1e-3 and 10, KITTI: 1e-3 and 80.
        strategy: How bins are spaced; 'UD' evenly in metres, 'SID' evenly in log depth.
        norm: 'linear', 'softmax' or 'sigmoid'.

    Raises:
        ValueError: If an argument is unknown or out of range.
    """

    bins_K: Tensor

    def __init__(
        self,
        num_bins: int,
        min_depth: float,
        max_depth: float,
        strategy: BinStrategy = "UD",
        norm: BinNorm = "linear",
    ) -> None:
        super().__init__()
        if norm not in get_args(BinNorm):
            raise ValueError(f"bin norm {norm!r} is not known; use {get_args(BinNorm)}")
        self.norm = norm
        self.register_buffer("bins_K", depth_bins(num_bins, min_depth, max_depth, strategy))

    def forward(self, logits_BKhw: Tensor, factor: int = 1) -> Tensor:
        """(B, K, h, w) -> (B, 1, h * factor, w * factor) in m, float32."""
        return expected_depth(logits_BKhw, self.bins_K, self.norm, factor)
