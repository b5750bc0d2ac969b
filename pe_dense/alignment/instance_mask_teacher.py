"""Mask logits made from annotated instances: a locality teacher that needs no network.

It answers as SAM would if SAM knew the annotation: for each point of a grid, the mask of the
instance under it. So the whole trainer runs on data sets with masks, and on the mini world, with
nothing downloaded. It is ours, not the paper's.

Shape legend: B images, P points, K instances of an image with the background first, H W pixels,
h w token grid.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.registry import MODELS
from torch import Tensor

from pe_dense.alignment.frozen_teacher import FrozenTeacher, point_grid

BACKGROUNDS = ("distance", "instance")
VOID = -1  # pixels of which the annotation says nothing


@MODELS.register_module()
class InstanceMaskTeacher(FrozenTeacher):
    """Logits +s inside the mask of the instance under a point, -s outside, averaged over tokens.

    The background (id 0) is no object, and annotations do not say which of its parts belong
    together. As one instance ('instance'), all of it would be asked to look alike, sky and road,
    and the student would unlearn every border inside it. By default ('distance') a point on the
    background claims only what is near: the weight of its mask falls linearly from 1 at the point
    to 0 at `radius`, so that neighbours agree and distant parts do not. Where the background is
    one surface, 'instance' is right.

    A point on void pixels (id -1) says nothing: its channel is 0 everywhere. Void pixels belong to
    no mask.

    `data_samples[b].instance_ids` is an integer tensor (H, W) over image b, of any size.

    Args:
        points_per_side: The grid of points; its square is C.
        logit: s.
        background: 'distance' or 'instance'.
        radius: Share of the image's side at which a background point claims nothing, with
            'distance'.

    Raises:
        ValueError: If an argument is out of range.
    """

    needs_samples = True

    def __init__(
        self,
        points_per_side: int = 32,
        logit: float = 10.0,
        background: str = "distance",
        radius: float = 0.25,
    ) -> None:
        if background not in BACKGROUNDS:
            raise ValueError(f"background={background!r} is not one of {', '.join(BACKGROUNDS)}")
        if not (logit > 0 and radius > 0):
            raise ValueError(f"logit={logit} and radius={radius} must be above 0")
        points_P2 = point_grid(points_per_side)
        settings = {
            "points_per_side": points_per_side,
            "logit": logit,
            "background": background,
            "radius": radius if background == "distance" else None,
        }
        super().__init__(None, len(points_P2), settings, resampling="area")
        self.logit, self.background, self.radius = logit, background, radius
        self.register_buffer("points_P2", points_P2, persistent=False)

    def maps(
        self, images_B3HW: Tensor, grid_hw: tuple[int, int], data_samples: Sequence[Any] | None
    ) -> Tensor:
        """Logits (B, P, h, w) on the student's grid.

        Raises:
            ValueError: If samples or their `instance_ids` are missing or misshapen.
        """
        if data_samples is None or len(data_samples) != len(images_B3HW):
            count = "no" if data_samples is None else str(len(data_samples))
            raise ValueError(
                f"InstanceMaskTeacher got {count} data samples for {len(images_B3HW)} images; use "
                "a data set with instance masks, such as CocoInstanceIds"
            )
        radius = self.radius if self.background == "distance" else None
        maps = []
        for sample in data_samples:
            ids_HW = getattr(sample, "instance_ids", None)
            if ids_HW is None or ids_HW.ndim != 2 or ids_HW.is_floating_point():
                raise ValueError(
                    "a data sample has no integer instance_ids (H, W); use a data set with "
                    "instance masks, such as CocoInstanceIds"
                )
            ids_HW = ids_HW.to(images_B3HW.device)
            maps.append(instance_logits(ids_HW, self.points_P2, grid_hw, self.logit, radius))
        return torch.stack(maps)


def instance_logits(
    ids_HW: Tensor,
    points_P2: Tensor,
    grid_hw: tuple[int, int],
    logit: float,
    radius: float | None = None,
) -> Tensor:
    """Mean logit of every token for every point, (P, h, w) float32.

    Args:
        ids_HW: Instance of each pixel; 0 is the background, -1 is void.
        points_P2: Points x, y as shares of the image.
        grid_hw: Tokens; each takes the mean over the pixels that it covers.
        logit: Value inside a mask; outside it is negative.
        radius: Share of the side at which a background point claims nothing; None makes the
            background one instance.

    Example:
        >>> ids = torch.tensor([[0, 1]])
        >>> instance_logits(ids, torch.tensor([[0.75, 0.5]]), (1, 2), 10.0).tolist()
        [[[-10.0, 10.0]]]
    """
    height, width = ids_HW.shape
    column_P = (points_P2[:, 0] * width).long().clamp_(max=width - 1)
    row_P = (points_P2[:, 1] * height).long().clamp_(max=height - 1)
    id_P = ids_HW[row_P, column_P].long()
    # Only instances under a point have a mask; others are outside of all.
    present_K, index_P = id_P.unique(return_inverse=True)
    masks_KHW = (ids_HW[None] == present_K[:, None, None]).float()
    share_Khw = F.interpolate(masks_KHW[None], grid_hw, mode="area")[0]
    share_Phw = share_Khw[index_P]
    if radius is not None:
        near_Phw = _nearness(points_P2.float(), grid_hw, radius)
        share_Phw = torch.where((id_P == 0)[:, None, None], share_Phw * near_Phw, share_Phw)
    logits_Phw = logit * (2 * share_Phw - 1)
    return logits_Phw.masked_fill((id_P == VOID)[:, None, None], 0.0)


def _nearness(points_P2: Tensor, grid_hw: tuple[int, int], radius: float) -> Tensor:
    """Weight of a token for a point, (P, h, w): 1 at the point, 0 from `radius` on."""
    y_h, x_w = ((torch.arange(cells, device=points_P2.device) + 0.5) / cells for cells in grid_hw)
    dx_P1w = x_w[None, None] - points_P2[:, 0, None, None]
    dy_Ph1 = y_h[None, :, None] - points_P2[:, 1, None, None]
    return (1 - torch.hypot(dx_P1w, dy_Ph1) / radius).clamp_(min=0)
