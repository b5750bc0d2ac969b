"""What every depth head ends with: depth from the scores of bins, and the losses of a batch.

Shape legend: B images, K bins, h, w grid of the head's output, H, W pixels of the annotation.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import get_args

import torch
import torch.nn.functional as F
from mmseg.utils import SampleList
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

    def forward(self, logits_BKhw: Tensor) -> Tensor:
        """(B, K, h, w) -> (B, 1, h, w) in m, float32."""
        return expected_depth(logits_BKhw, self.bins_K, self.norm)


def annotated_depth(samples: SampleList) -> Tensor:
    """`gt_depth_map` of all samples, (B, 1, H, W) in m; 0 where nothing is annotated.

    Raises:
        ValueError: If a sample has none, or one of another shape than (1, H, W) of the first.
    """
    maps = []
    for sample in samples:
        name = sample.metainfo.get("img_path", "?")
        if "gt_depth_map" not in sample:
            raise ValueError(f"{name} has no gt_depth_map; load depth annotations in the pipeline")
        depth = sample.gt_depth_map.data
        first = maps[0].shape if maps else (1, *depth.shape[-2:])
        if depth.shape != first:
            raise ValueError(
                f"the gt_depth_map of {name} is {tuple(depth.shape)}, not {tuple(first)}; crop "
                "training images to one size, with one channel of depth"
            )
        maps.append(depth)
    return torch.stack(maps)


def depth_losses(
    losses: Iterable[nn.Module], depth_B1hw: Tensor, samples: SampleList
) -> dict[str, Tensor]:
    """Every loss, at the resolution of the annotation, by its `loss_name`.

    The prediction is upsampled bilinearly (align_corners False), never the annotation, whose
    missing pixels would bleed.
    """
    target_B1HW = annotated_depth(samples)
    depth_B1HW = F.interpolate(
        depth_B1hw, size=target_B1HW.shape[2:], mode="bilinear", align_corners=False
    )
    found: dict[str, Tensor] = {}
    for loss in losses:
        value = loss(depth_B1HW, target_B1HW)
        found[loss.loss_name] = found[loss.loss_name] + value if loss.loss_name in found else value
    return found
