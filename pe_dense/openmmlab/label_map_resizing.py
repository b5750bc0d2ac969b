"""mmseg's Resize of pictures and label maps, at least one pixel wide and high."""

from __future__ import annotations

from typing import Any

from mmseg.datasets.transforms import Resize as MMSegResize
from mmseg.registry import TRANSFORMS

from pe_dense.openmmlab.resizing import (
    AtLeastOnePixel,
    antialiased,
    nearest_as_torch,
    size_within,
)


@TRANSFORMS.register_module(force=True)
class Resize(AtLeastOnePixel, MMSegResize):
    """mmseg's Resize.

    Args:
        *args: Of mmseg's.
        antialias: Images as Pillow does, label maps by torch's rule and sizes by one division,
            together as DINOv3 resizes (FixedSideResize of facebookresearch/dinov3 @ 6876159).
            RandomResize hands the argument on.
        **kwargs: Of mmseg's.

    Raises:
        ValueError: If `antialias` comes with another backend or interpolation.
    """

    def __init__(self, *args: Any, antialias: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if antialias and (self.backend, self.interpolation) != ("cv2", "bilinear"):
            raise ValueError(
                f"Resize has antialias=True and backend={self.backend!r}, interpolation="
                f"{self.interpolation!r}; antialiasing is Pillow's and bilinear: remove both"
            )
        self.antialias = antialias

    def _resize_img(self, results: dict) -> None:
        if not self.antialias or results.get("img") is None:
            return super()._resize_img(results)
        old_hw = results["img"].shape[:2]
        size_hw = size_within(old_hw, results["scale"], self.keep_ratio)
        results["img"] = antialiased(results["img"], size_hw)
        results["img_shape"] = size_hw
        results["scale_factor"] = (size_hw[1] / old_hw[1], size_hw[0] / old_hw[0])
        results["keep_ratio"] = self.keep_ratio
        return None

    def _resize_seg(self, results: dict) -> None:
        if not self.antialias:
            return super()._resize_seg(results)
        for key in results.get("seg_fields", []):
            if results.get(key) is not None:
                results[key] = nearest_as_torch(results[key], results["img_shape"])
        return None
