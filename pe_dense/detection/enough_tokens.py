"""Padding of small batches: a detector that makes its queries of tokens needs a token per query.

Shape legend: B images, H W pixels.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch.nn.functional as F
from mmdet.models import DINO
from mmdet.registry import MODELS
from mmdet.structures import SampleList
from torch import Tensor, nn

# Rows and columns of patches -> those of every level of a pyramid.
Grids = Callable[[int, int], list[tuple[int, int]]]


@MODELS.register_module(name="DINO", force=True)  # protocols, which are hashed, name mmdet's class
class PaddedDINO(DINO):
    """mmdet's DINO for batches of any size on a plain encoder: the smallest are padded.

    With an encoder or neck that does not tell its grids it is mmdet's.
    """

    def forward(
        self, inputs: Tensor, data_samples: SampleList | None = None, mode: str = "tensor"
    ) -> object:
        """As MMEngine asks, for images (B, 3, H, W)."""
        if hasattr(self.backbone, "patch_size") and hasattr(self.neck, "grids"):
            inputs = pad_to_queries(self, inputs, data_samples)
        return super().forward(inputs, data_samples, mode)


def pad_to_queries(detector: nn.Module, images_B3HW: Tensor, samples: SampleList | None) -> Tensor:
    """Images padded to the right and below until their pyramid has a token per query.

    Args:
        detector: Has `num_queries`, a `backbone` with `patch_size` and a `neck` with `grids`.
        images_B3HW: A batch.
        samples: Its samples; those of a batch that is padded are told its new size.
    """
    patch = detector.backbone.patch_size
    height, width = images_B3HW.shape[2:]
    rows, columns = math.ceil(height / patch), math.ceil(width / patch)
    rows, columns = enough_patches(rows, columns, detector.num_queries, detector.neck.grids)
    size = max(patch * rows, height), max(patch * columns, width)
    for sample in samples or () if size != (height, width) else ():
        sample.set_metainfo(dict(batch_input_shape=size, pad_shape=size))
    return F.pad(images_B3HW, (0, size[1] - width, 0, size[0] - height))


def enough_patches(rows: int, columns: int, num_queries: int, grids: Grids) -> tuple[int, int]:
    """The grid, or the next larger one with something on every level and a token per query.

    Example:
        >>> def halves(rows, columns):
        ...     return [(rows, columns), (rows // 2, columns // 2)]
        >>> enough_patches(9, 10, 100, halves), enough_patches(1, 20, 20, halves)
        ((9, 10), (2, 20))
    """
    while (
        min(map(min, levels := grids(rows, columns))) < 1
        or sum(h * w for h, w in levels) < num_queries
    ):
        rows, columns = (rows + 1, columns) if rows <= columns else (rows, columns + 1)
    return rows, columns
