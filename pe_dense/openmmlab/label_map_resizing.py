"""mmseg's Resize of pictures and label maps, at least one pixel wide and high."""

from __future__ import annotations

from mmseg.datasets.transforms import Resize as MMSegResize
from mmseg.registry import TRANSFORMS

from pe_dense.openmmlab.resizing import AtLeastOnePixel


@TRANSFORMS.register_module(force=True)
class Resize(AtLeastOnePixel, MMSegResize):
    """mmseg's Resize."""
