"""What every depth head has: maps of some layers at its start, losses of depth at its end.

Shape legend: B images, C width of the encoder, h, w grid of the head's output, H, W pixels of the
annotation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.utils import SampleList
from torch import Tensor

from pe_dense.pixelwise.depth_bins import resized

LayerOutput = Tensor | tuple[Tensor, Tensor]  # a map (B, C, h, w), or with a class token (B, C)


class DepthHead(BaseDecodeHead):
    """Base of the depth heads: options, layers that are read, losses.

    Args:
        in_channels: C.
        channels: Width of what the last layer reads.
        num_outputs: Width of what the last layer gives.
        num_layers: How many layers the backbone gives.
        with_class_token: Whether their class tokens are read.
        losses: Configs of losses that take prediction and annotation, (B, 1, H, W) in m.
        dropout_ratio: Share of channels dropped in training before the last layer.
        **kwargs: Of mmseg's `BaseDecodeHead`.

    Attributes:
        depth_limits: Lowest and highest depth in m to which a prediction is limited when it is
            used, not when it is trained; None where the head cannot leave them anyway.

    Raises:
        ValueError: If an option is not for depth heads.
    """

    OWN_OPTIONS = frozenset({
        "loss_decode", "sampler", "threshold", "num_classes", "out_channels", "in_index",
        "input_transform", "align_corners",
    })  # fmt: skip
    depth_limits: tuple[float, float] | None = None

    def __init__(
        self,
        in_channels: int,
        channels: int,
        num_outputs: int,
        num_layers: int,
        with_class_token: bool,
        losses: Sequence[Mapping[str, Any]],
        dropout_ratio: float,
        **kwargs: Any,
    ) -> None:
        refused = sorted(self.OWN_OPTIONS & set(kwargs))
        if refused:
            raise ValueError(
                f"{type(self).__name__} is a depth head and takes no {', '.join(refused)}; remove "
                "it from decode_head (losses=[...] names the losses)"
            )
        super().__init__(
            in_channels=[in_channels] * num_layers,
            channels=channels,
            num_classes=num_outputs,
            out_channels=num_outputs,
            threshold=0.0,  # mmseg's for two classes; unused
            dropout_ratio=dropout_ratio,
            in_index=list(range(num_layers)),
            input_transform="multiple_select",
            loss_decode=list(losses),
            **kwargs,
        )
        self.num_layers, self.with_class_token = num_layers, with_class_token

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
                "model.backbone.with_class_token=True"
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
