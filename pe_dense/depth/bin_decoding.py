"""What every depth head has: maps of some layers at its start, depth from bins at its end.

Shape legend: B images, C width of the encoder, K bins, h, w grid of the head's output, H, W pixels
of the annotation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, get_args

import torch
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.utils import SampleList
from torch import Tensor, nn

from pe_dense.pixelwise.depth_bins import (
    BinNorm,
    BinStrategy,
    depth_bins,
    expected_depth,
    resized,
)

LayerOutput = Tensor | tuple[Tensor, Tensor]  # a map (B, C, h, w), or with a class token (B, C)


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


class BinnedDepthHead(BaseDecodeHead):
    """Base of the depth heads: options, layers that are read, bins, losses.

    Args:
        in_channels: C.
        channels: Width of what the last layer reads.
        num_layers: How many layers the backbone gives.
        with_class_token: Whether their class tokens are read.
        bin_decoder: From the scores of the last layer to depth.
        losses: Configs of losses that take prediction and annotation, (B, 1, H, W) in m.
        dropout_ratio: Share of channels dropped in training before the last layer.
        **kwargs: Of mmseg's `BaseDecodeHead`.

    Raises:
        ValueError: If an option is not for depth heads.
    """

    OWN_OPTIONS = frozenset({
        "loss_decode", "sampler", "threshold", "num_classes", "out_channels", "in_index",
        "input_transform", "align_corners",
    })  # fmt: skip

    def __init__(
        self,
        in_channels: int,
        channels: int,
        num_layers: int,
        with_class_token: bool,
        bin_decoder: BinDecoder,
        losses: Sequence[Mapping[str, Any]],
        dropout_ratio: float,
        **kwargs: Any,
    ) -> None:
        refused = sorted(self.OWN_OPTIONS & set(kwargs))
        if refused:
            raise ValueError(
                f"{type(self).__name__} scores bins and takes no {', '.join(refused)}; remove it "
                "from decode_head (losses=[...] names the losses, num_bins the outputs)"
            )
        num_bins = len(bin_decoder.bins_K)
        super().__init__(
            in_channels=[in_channels] * num_layers,
            channels=channels,
            num_classes=num_bins,
            out_channels=num_bins,
            dropout_ratio=dropout_ratio,
            in_index=list(range(num_layers)),
            input_transform="multiple_select",
            loss_decode=list(losses),
            **kwargs,
        )
        self.num_layers, self.with_class_token = num_layers, with_class_token
        self.bin_decoder = bin_decoder

    def maps_and_tokens(self, layers: Sequence[LayerOutput]) -> tuple[list[Tensor], list[Tensor]]:
        """Maps (B, C, h, w) and class tokens (B, C) of the layers; no tokens where none are read.

        A head that reads no class token also accepts a backbone that gives them.

        Raises:
            ValueError: If the backbone gives another number of layers, or no class tokens.
        """
        if len(layers) != self.num_layers:
            raise ValueError(
                f"decode_head.num_layers is {self.num_layers}, but the backbone gives "
                f"{len(layers)} maps; make it the length of out_indices"
            )
        paired = not isinstance(layers[0], Tensor)
        if self.with_class_token and not paired:
            raise ValueError(
                "the depth head reads class tokens, but the backbone gives maps alone; set "
                "with_class_token=True in backbone"
            )
        maps = [layer[0] if paired else layer for layer in layers]
        return maps, [token for _, token in layers] if self.with_class_token else []

    def loss_by_feat(self, depth_B1hw: Tensor, batch_data_samples: SampleList) -> dict[str, Tensor]:
        """Every loss, at the resolution of the annotation, by its `loss_name`.

        The prediction is upsampled bilinearly (align_corners False), never the annotation, whose
        missing pixels would bleed.
        """
        target_B1HW = annotated_depth(batch_data_samples)
        depth_B1HW = resized(depth_B1hw, target_B1HW.shape[2:])
        found: dict[str, Tensor] = {}
        for loss in self.loss_decode:
            name, value = loss.loss_name, loss(depth_B1HW, target_B1HW)
            found[name] = found[name] + value if name in found else value
        return found


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
