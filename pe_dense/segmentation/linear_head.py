"""Linear segmentation head: batch norm, dropout and a 1x1 convolution on one or several layers.

Shape legend: B images, C width of the encoder, L layers, K classes, h w token grid, H W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.registry import MODELS
from mmseg.utils import SampleList
from torch import Tensor, nn

from pe_dense.segmentation.fused_loss import cross_entropy_of


@MODELS.register_module()
class LinearSegHead(BaseDecodeHead):
    """What a linear layer reads from features of an encoder.

    Args:
        in_channels: C; the features of all layers are concatenated.
        num_layers: L, how many maps the backbone gives.
        num_classes: K.
        batch_norm: Normalise features by their batch statistics first (synchronised over GPUs
            when the model is converted); without, the head is one linear layer.
        dropout_ratio: Share of channels dropped in training.
        dropout_first: Drop channels before the norm, whose statistics then include the zeros, as
            DINOv3 does; False drops them after it.
        average_counted: Divide the loss by the pixels that count; False divides by all, as mmseg
            does by default.
        resize_features: (h, w) to which every map is resized (bilinear) before the norm, for
            protocols that fix the grid that the head reads; None keeps the maps.
        **kwargs: Of mmseg's `BaseDecodeHead`.

    Raises:
        ValueError: If the backbone gives another number of maps, with options that the fused loss
            does not have, or if `resize_features` is no size.

    Source: BNHead of DINOv2 (arXiv:2304.07193, configs of its linear evaluation on mmseg);
    LinearHead of facebookresearch/dinov3 @ 6876159 with `dropout_first`.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        num_layers: int = 1,
        batch_norm: bool = True,
        dropout_ratio: float = 0.0,
        dropout_first: bool = False,
        average_counted: bool = False,
        resize_features: Sequence[int] | None = None,
        **kwargs: Any,
    ) -> None:
        refused = sorted({"loss_decode", "sampler", "threshold", "out_channels"} & set(kwargs))
        if refused:
            raise ValueError(
                f"LinearSegHead has its own cross-entropy and takes no {', '.join(refused)}; "
                "remove it from decode_head"
            )
        width = in_channels * num_layers
        super().__init__(
            in_channels=[in_channels] * num_layers,
            channels=width,
            num_classes=num_classes,
            out_channels=num_classes,
            dropout_ratio=dropout_ratio,
            in_index=list(range(num_layers)),
            input_transform="multiple_select",
            **kwargs,
        )
        self.num_layers, self.average_counted = num_layers, average_counted
        self.dropout_first = dropout_first
        self.resize_features = None if resize_features is None else tuple(resize_features)
        if self.resize_features is not None and (
            len(self.resize_features) != 2 or min(self.resize_features) < 1
        ):
            raise ValueError(
                f"decode_head.resize_features={resize_features} is not a height and a width in "
                "tokens; give for example (37, 37)"
            )
        self.bn = nn.BatchNorm2d(width) if batch_norm else nn.Identity()

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """L maps (B, C, h, w) -> logits (B, K, h, w)."""
        if len(maps) != self.num_layers:
            raise ValueError(
                f"decode_head.num_layers is {self.num_layers}, but the backbone gives {len(maps)} "
                "maps; make it the length of out_indices"
            )
        if self.resize_features is not None:
            maps = [F.interpolate(m, self.resize_features, mode="bilinear") for m in maps]
        features = maps[0] if len(maps) == 1 else torch.cat(list(maps), dim=1)
        if not self.dropout_first:
            return self.cls_seg(self.bn(features))
        if self.dropout is not None:
            features = self.dropout(features)
        return self.conv_seg(self.bn(features))

    def loss_by_feat(self, seg_logits: Tensor, batch_data_samples: SampleList) -> dict[str, Tensor]:
        """Cross-entropy at the resolution of the labels; see `upsampled_cross_entropy`."""
        loss = cross_entropy_of(self, seg_logits, batch_data_samples, self.average_counted)
        return {"loss_ce": loss}
