"""DPT depth head: reassembled tokens of one or four layers, fused from coarse to fine, then bins.

Shape legend: B images, C width of the encoder, S width of a stage, F width of the fusion, h, w
token grid; K bins.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import torch.nn.functional as F
from mmseg.registry import MODELS
from torch import Tensor, nn

from pe_dense.depth.bin_decoding import BinDecoder, BinnedDepthHead, LayerOutput
from pe_dense.pixelwise.depth_bins import BinNorm, BinStrategy

Readout = Literal["ignore", "add", "project"]
NUM_STAGES = 4


class Reassemble(nn.Module):
    """Tokens of one layer -> map of one stage, at 4, 2, 1 or 1/2 times the token grid.

    Args:
        in_channels: C.
        out_channels: S.
        stage: 0 (4 times the grid) to 3 (half the grid, rounded up).
        readout: What becomes of the class token: 'ignore'; 'add' to every patch token; 'project':
            a linear layer and GELU on both, concatenated.
    """

    def __init__(self, in_channels: int, out_channels: int, stage: int, readout: Readout) -> None:
        super().__init__()
        self.readout = readout
        if readout == "project":
            self.merge = nn.Linear(2 * in_channels, in_channels)
        self.project = nn.Conv2d(in_channels, out_channels, 1)
        if stage < 2:
            factor = 4 >> stage
            self.resize: nn.Module = nn.ConvTranspose2d(
                out_channels, out_channels, factor, stride=factor
            )
        elif stage == 2:
            self.resize = nn.Identity()
        else:
            self.resize = nn.Conv2d(out_channels, out_channels, 3, stride=2, padding=1)

    def forward(self, map_BChw: Tensor, token_BC: Tensor | None = None) -> Tensor:
        """(B, C, h, w) and, unless ignored, (B, C) -> (B, S, h', w')."""
        if self.readout == "add":
            map_BChw = map_BChw + token_BC[:, :, None, None]
        elif self.readout == "project":
            # Columns of the class token are applied once an image, not once a patch.
            of_map, of_token = self.merge.weight.chunk(2, dim=1)
            token_BC = F.linear(token_BC, of_token, self.merge.bias)
            merged = F.conv2d(map_BChw, of_map[:, :, None, None]) + token_BC[:, :, None, None]
            map_BChw = F.gelu(merged)
        return self.resize(self.project(map_BChw))


class ResidualUnit(nn.Module):
    """x + conv(relu(conv(relu(x)))), 3x3; convolutions have a bias or a batch norm."""

    def __init__(self, channels: int, batch_norm: bool) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(2):
            layers += [nn.ReLU(), nn.Conv2d(channels, channels, 3, padding=1, bias=not batch_norm)]
            if batch_norm:
                layers.append(nn.BatchNorm2d(channels))
        self.layers = nn.Sequential(*layers)

    def forward(self, x_BFhw: Tensor) -> Tensor:
        """(B, F, h, w) of any size, same out."""
        return x_BFhw + self.layers(x_BFhw)


class Fusion(nn.Module):
    """Adds the map of a stage to what comes from the coarser ones, and upsamples.

    Args:
        channels: F.
        batch_norm: See `ResidualUnit`.
        has_skip: False in the coarsest stage, which has nothing to add to.
    """

    def __init__(self, channels: int, batch_norm: bool, has_skip: bool) -> None:
        super().__init__()
        self.skip_unit = ResidualUnit(channels, batch_norm) if has_skip else None
        self.unit = ResidualUnit(channels, batch_norm)
        self.project = nn.Conv2d(channels, channels, 1)

    def forward(self, x_BFhw: Tensor, skip_BFhw: Tensor | None, size: Sequence[int]) -> Tensor:
        """Both (B, F, h, w) -> (B, F, *size)."""
        if self.skip_unit is not None:
            x_BFhw = x_BFhw + self.skip_unit(skip_BFhw)
        # The 1x1 projection commutes with the upsampling and is cheaper before it.
        x_BFhw = self.project(self.unit(x_BFhw))
        return F.interpolate(x_BFhw, size=tuple(size), mode="bilinear", align_corners=True)


@MODELS.register_module()
class DPTDepthHead(BinnedDepthHead):
    """Dense prediction transformer head that scores depth bins at 8 times the token grid.

    Args:
        in_channels: C.
        channels: F. DINOv2: 256. PE scales its head with the encoder, to widths that it does not
            state: pass another.
        stage_channels: Four S, from fine to coarse. None: C / 8, C / 4, C / 2, C as DINOv2.
        num_layers: 1: the one map is reassembled four times, with weights of their own (PE, which
            says that one layer is used and not how); 4: one map a stage, the first layer for the
            finest (DINOv2).
        readout: See `Reassemble`; 'add' and 'project' need `with_class_token=True` in backbone.
        batch_norm: Batch norm in the residual units and before the last layer. The released depth
            models of DPT and DINOv2 have none.
        num_bins, min_depth, max_depth, strategy, norm: See `BinDecoder`.
        losses: Configs of losses that take prediction and annotation, (B, 1, H, W) in m.
        dropout_ratio: Share of channels dropped in training before the last layer.
        **kwargs: Of mmseg's `BaseDecodeHead`.

    Raises:
        ValueError: If an argument is out of range or not for this head, or the backbone gives
            something else.

    Source: arXiv:2103.13413 section 3; DPTHead of onedl-mmsegmentation 1.4.2 and of
    facebookresearch/dinov2 @ d5c376b. Deviations: fused maps are brought to the grid of the next
    stage, where those resize the stage to the fused map, which differs where h or w is odd; the
    head scores bins, where DPT and DINOv2's DPT regress depth.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int = 256,
        stage_channels: Sequence[int] | None = None,
        num_layers: int = 4,
        readout: Readout = "project",
        batch_norm: bool = False,
        num_bins: int = 256,
        min_depth: float = 1e-3,
        max_depth: float = 10.0,
        strategy: BinStrategy = "UD",
        norm: BinNorm = "linear",
        losses: Sequence[Mapping[str, Any]] = (dict(type="ScaleInvariantLogLoss"),),
        dropout_ratio: float = 0.0,
        **kwargs: Any,
    ) -> None:
        if num_layers not in (1, NUM_STAGES):
            raise ValueError(f"num_layers {num_layers} does not fit DPT; use 1 or {NUM_STAGES}")
        if readout not in get_args(Readout):
            raise ValueError(f"readout {readout!r} is not known; use {get_args(Readout)}")
        if stage_channels is None:
            stage_channels = [in_channels // 2 ** (3 - stage) for stage in range(NUM_STAGES)]
        if len(stage_channels) != NUM_STAGES or min(stage_channels) < 1:
            raise ValueError(
                f"stage_channels {list(stage_channels)} are not {NUM_STAGES} positive widths; "
                "leave them out for C / 8, C / 4, C / 2, C"
            )
        super().__init__(
            in_channels,
            channels,
            num_layers,
            readout != "ignore",
            BinDecoder(num_bins, min_depth, max_depth, strategy, norm),
            losses,
            dropout_ratio,
            **kwargs,
        )
        self.reassemble = nn.ModuleList(
            Reassemble(in_channels, width, stage, readout)
            for stage, width in enumerate(stage_channels)
        )
        self.narrow = nn.ModuleList(
            nn.Conv2d(width, channels, 3, padding=1, bias=False) for width in stage_channels
        )
        self.fusion = nn.ModuleList(  # by stage: the last is the coarsest and comes first
            Fusion(channels, batch_norm, has_skip=stage < NUM_STAGES - 1)
            for stage in range(NUM_STAGES)
        )
        self.smooth = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, bias=not batch_norm),
            nn.BatchNorm2d(channels) if batch_norm else nn.Identity(),
            nn.ReLU(),
        )

    def bin_logits(self, layers: Sequence[LayerOutput]) -> Tensor:
        """L maps (B, C, h, w), or pairs with class tokens (B, C) -> (B, K, 8 h, 8 w)."""
        maps, tokens = self.maps_and_tokens(layers)
        repeats = NUM_STAGES // self.num_layers
        maps, tokens = maps * repeats, (tokens or [None]) * NUM_STAGES
        stages = [
            narrow(reassemble(map_BChw, token_BC))
            for narrow, reassemble, map_BChw, token_BC in zip(
                self.narrow, self.reassemble, maps, tokens[:NUM_STAGES], strict=True
            )
        ]
        sizes = [[2 * side for side in stages[0].shape[2:]], *(s.shape[2:] for s in stages)]
        x_BFhw = stages[-1]
        for stage in reversed(range(NUM_STAGES)):
            skip = stages[stage] if stage < NUM_STAGES - 1 else None
            x_BFhw = self.fusion[stage](x_BFhw, skip, sizes[stage])
        return self.cls_seg(self.smooth(x_BFhw))

    def forward(self, layers: Sequence[LayerOutput]) -> Tensor:
        """L maps (B, C, h, w), or pairs with class tokens (B, C) -> depth (B, 1, 8 h, 8 w) in m."""
        return self.bin_decoder(self.bin_logits(layers))
