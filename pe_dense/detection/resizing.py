"""mmdet's Resize of pictures, boxes and masks, at least one pixel wide and high."""

from __future__ import annotations

from mmdet.datasets.transforms import Resize as MMDetResize
from mmdet.registry import TRANSFORMS

from pe_dense.openmmlab.resizing import AtLeastOnePixel


@TRANSFORMS.register_module(force=True)
class Resize(AtLeastOnePixel, MMDetResize):
    """mmdet's Resize."""
