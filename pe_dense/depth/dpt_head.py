"""DPT depth head: reassembled tokens of one or four layers, fused from coarse to fine, regressed.

Shape legend: B images, C width of the encoder, S width of a stage, F width of the fusion, h, w
token grid.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import torch.nn.functional as F
from mmengine.model import kaiming_init
from mmseg.registry import MODELS
from torch import Tensor, nn

from pe_dense.depth.depth_head import DepthHead, LayerOutput
from pe_dense.pixelwise.depth_bins import resized

Readout = Literal["ignore", "add", "project"]
NUM_STAGES = 4
LAST_WIDTH = 32  # channels that the last layer reads


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
    """x + conv(relu(conv(relu(x)))), 3x3 without bias."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(2):
            layers += [nn.ReLU(), nn.Conv2d(channels, channels, 3, padding=1, bias=False)]
        self.layers = nn.Sequential(*layers)

    def forward(self, x_BFhw: Tensor) -> Tensor:
        """(B, F, h, w) of any size, same out."""
        return x_BFhw + self.layers(x_BFhw)


class Fusion(nn.Module):
    """Adds the map of a stage to what comes from the coarser ones, and doubles its sides.

    Args:
        channels: F.
        has_skip: False in the coarsest stage, which has nothing to add to.
    """

    def __init__(self, channels: int, has_skip: bool) -> None:
        super().__init__()
        self.skip_unit = ResidualUnit(channels) if has_skip else None
        self.unit = ResidualUnit(channels)
        self.project = nn.Conv2d(channels, channels, 1)

    def forward(self, x_BFhw: Tensor, skip_BFhw: Tensor | None) -> Tensor:
        """(B, F, h, w) and a map of the stage, about as large -> (B, F, 2 h, 2 w).

        The stage is brought to the size of x where they differ, by a row or column.
        """
        if self.skip_unit is not None:
            x_BFhw = x_BFhw + self.skip_unit(resized(skip_BFhw, x_BFhw.shape[2:]))
        # The 1x1 projection commutes with the upsampling and is cheaper before it.
        return _doubled(self.project(self.unit(x_BFhw)))


def _doubled(x_BFhw: Tensor) -> Tensor:
    return F.interpolate(x_BFhw, scale_factor=2, mode="bilinear", align_corners=True)


@MODELS.register_module()
class DPTDepthHead(DepthHead):
    """Dense prediction transformer head that regresses depth at 16 times the token grid.

    After the fusion: 3x3 to F, ReLU, 3x3 to F / 2, twice the sides, 3x3 to 32, ReLU, 1x1 to one
    channel, ReLU, plus `min_depth`. Nothing limits a depth from above in training, as in the
    source; `depth_limits` are for its use.

    Args:
        in_channels: C.
        channels: F, even. DINOv2: 256. PE scales its head with the encoder, to widths that it does
            not state: pass another.
        stage_channels: Four S, from fine to coarse. None: C / 8, C / 4, C / 2, C as DINOv2.
        num_layers: 1: the one map is reassembled four times, with weights of their own (PE, which
            says that one layer is used and not how); 4: one map a stage, the first layer for the
            finest (DINOv2).
        readout: See `Reassemble`; 'add' and 'project' need `with_class_token=True` in backbone.
        min_depth, max_depth: Limits of depth in m. NYUv2: 1e-3 and 10, KITTI: 1e-3 and 80.
        losses: Configs of losses that take prediction and annotation, (B, 1, H, W) in m.
        **kwargs: Of mmseg's `BaseDecodeHead`.

    Raises:
        ValueError: If an argument is out of range or not for this head, or the backbone gives
            something else.

    Source: arXiv:2103.13413 section 3; DPTHead of hub/depth/decode_heads.py in
    facebookresearch/dinov2 @ b8931f7, whose released files load, see
    `pe_dense.depth.released_heads`. On a token grid with an odd side the coarsest stage is half of
    it, rounded up, and the output is 32 times that: larger than 16 times the grid, and stretched.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int = 256,
        stage_channels: Sequence[int] | None = None,
        num_layers: int = 4,
        readout: Readout = "project",
        min_depth: float = 1e-3,
        max_depth: float = 10.0,
        losses: Sequence[Mapping[str, Any]] = (dict(type="ScaleInvariantLogLoss"),),
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
        if channels < 2 or channels % 2:
            raise ValueError(f"channels {channels} cannot be halved; pass an even width (256)")
        if not 0 < min_depth < max_depth:
            raise ValueError(
                f"depth limits {min_depth} and {max_depth} are no range; pass 0 < min_depth < "
                "max_depth"
            )
        kwargs.setdefault("init_cfg", None)  # the last layer begins as torch's, as in the source
        super().__init__(
            in_channels, LAST_WIDTH, 1, num_layers, readout != "ignore", losses, 0.0, **kwargs
        )
        self.depth_limits = (min_depth, max_depth)
        self.reassemble = nn.ModuleList(
            Reassemble(in_channels, width, stage, readout)
            for stage, width in enumerate(stage_channels)
        )
        self.narrow = nn.ModuleList(
            nn.Conv2d(width, channels, 3, padding=1, bias=False) for width in stage_channels
        )
        self.fusion = nn.ModuleList(  # by stage: the last is the coarsest and comes first
            Fusion(channels, has_skip=stage < NUM_STAGES - 1) for stage in range(NUM_STAGES)
        )
        self.smooth = nn.Conv2d(channels, channels, 3, padding=1)
        self.halve = nn.Conv2d(channels, channels // 2, 3, padding=1)
        self.detail = nn.Conv2d(channels // 2, LAST_WIDTH, 3, padding=1)
        # Those that are mmcv's ConvModule there begin as it does; the others as torch's layers.
        for part in (self.narrow, self.fusion, self.smooth, *(r.project for r in self.reassemble)):
            for module in part.modules():
                if isinstance(module, nn.Conv2d):
                    kaiming_init(module)

    def forward(self, layers: Sequence[LayerOutput]) -> Tensor:
        """L maps (B, C, h, w), or pairs with class tokens (B, C) -> depth (B, 1, h', w') in m.

        h' and w' are 32 ceil(h / 2) and 32 ceil(w / 2).
        """
        maps, tokens = self.maps_and_tokens(layers)
        repeats = NUM_STAGES // self.num_layers
        maps, tokens = maps * repeats, (tokens or [None]) * NUM_STAGES
        stages = [
            narrow(reassemble(map_BChw, token_BC))
            for narrow, reassemble, map_BChw, token_BC in zip(
                self.narrow, self.reassemble, maps, tokens[:NUM_STAGES], strict=True
            )
        ]
        x_BFhw = stages[-1]
        for stage in reversed(range(NUM_STAGES)):
            x_BFhw = self.fusion[stage](x_BFhw, stages[stage] if stage < NUM_STAGES - 1 else None)
        x_BFhw = self.halve(self.smooth(x_BFhw).relu())
        depth_B1hw = self.cls_seg(self.detail(_doubled(x_BFhw)).relu()).float().relu()
        return depth_B1hw + self.depth_limits[0]
