"""Linear depth head: a 1x1 convolution that scores depth bins on one or several layers.

Shape legend: B images, C width of the encoder, L layers, K bins, h, w token grid.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmseg.registry import MODELS
from torch import Tensor, nn

from pe_dense.depth.bin_decoding import BinDecoder
from pe_dense.depth.depth_head import DepthHead, LayerOutput
from pe_dense.pixelwise.depth_bins import BinNorm, BinStrategy


@MODELS.register_module()
class DepthBinsHead(DepthHead):
    """What a linear layer reads of depth from features of an encoder.

    DINOv2's linear head on one layer is `num_layers=1, with_class_token=True, upsample=4`, on four
    layers `num_layers=4`; DINOv3's is `batch_norm=True, upsample=1` without the class token.

    Args:
        in_channels: C; the features of all layers are concatenated.
        num_bins, min_depth, max_depth, strategy, norm: See `BinDecoder`.
        num_layers: L, how many maps the backbone gives.
        with_class_token: Concatenate the class token of a layer to each of its patch tokens; the
            backbone must give it (`with_class_token=True` there).
        batch_norm: Normalise features by their batch statistics first.
        upsample: Bins are scored on a grid that is finer by this factor, bilinear.
        losses: Configs of losses that take prediction and annotation, (B, 1, H, W) in m.
        dropout_ratio: Share of channels dropped in training.
        **kwargs: Of mmseg's `BaseDecodeHead`.

    Raises:
        ValueError: If an argument is out of range or not for this head, or the backbone gives
            something else.

    Source: BNHead of the depth evaluation in facebookresearch/dinov2 @ b8931f7; LinearHead of that
    in facebookresearch/dinov3 @ 6876159. The weights of the last layer begin as mmseg's and
    DINOv3's do, normal with deviation 0.01; `init_cfg=None` leaves them as torch's, as DINOv2.
    Deviations: BNHead upsamples features and then convolves. A 1x1 convolution commutes with
    bilinear upsampling, whose weights sum to 1, so the K scores are upsampled instead of the 2 C L
    features: the same depths, for 1 / upsample^2 of the products. Batch norm, which it lacks, takes
    its statistics over tokens.
    """

    def __init__(
        self,
        in_channels: int,
        num_bins: int = 256,
        min_depth: float = 1e-3,
        max_depth: float = 10.0,
        strategy: BinStrategy = "UD",
        norm: BinNorm = "linear",
        num_layers: int = 1,
        with_class_token: bool = False,
        batch_norm: bool = False,
        upsample: int = 1,
        losses: Sequence[Mapping[str, Any]] = (dict(type="ScaleInvariantLogLoss"),),
        dropout_ratio: float = 0.0,
        **kwargs: Any,
    ) -> None:
        if upsample < 1 or upsample != int(upsample):
            raise ValueError(f"upsample {upsample} is no whole number above 0; DINOv2 uses 4")
        width = in_channels * num_layers * (1 + with_class_token)
        bin_decoder = BinDecoder(num_bins, min_depth, max_depth, strategy, norm)
        super().__init__(
            in_channels,
            width,
            num_bins,
            num_layers,
            with_class_token,
            losses,
            dropout_ratio,
            **kwargs,
        )
        self.bin_decoder = bin_decoder
        self.upsample = int(upsample)
        self.bn = nn.BatchNorm2d(width) if batch_norm else nn.Identity()

    def forward(self, layers: Sequence[LayerOutput]) -> Tensor:
        """L maps (B, C, h, w), or pairs with class tokens (B, C) -> depth (B, 1, h', w') in m.

        h' and w' are `upsample` times those of the first map.
        """
        parts, tokens = self.maps_and_tokens(layers)
        if tokens:
            parts = [  # map and token of a layer, then those of the next
                part
                for map_BChw, token_BC in zip(parts, tokens, strict=True)
                for part in (map_BChw, token_BC[:, :, None, None].expand_as(map_BChw))
            ]
        features = parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)
        return self.bin_decoder(self.cls_seg(self.bn(features)), self.upsample)
