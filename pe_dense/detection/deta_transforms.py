"""The resizing rule of DETR and DETA, and the views of DETA's test-time augmentation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from mmdet.datasets.transforms import Resize
from mmdet.registry import TRANSFORMS


def detr_size(height: int, width: int, short: int, longest: int | None) -> tuple[int, int]:
    """Height and width whose shorter side is `short`, unless the longer would pass `longest`.

    The shorter side is then round(longest * short / long); the other is always truncated, so the
    longer side may pass `longest` by a few pixels.

    Source: facebookresearch/detr, datasets/transforms.py, as DETA uses it.

    Example:
        >>> detr_size(640, 427, 1792, 1792)
        (1792, 1196)
    """
    low, high = min(height, width), max(height, width)
    if longest is not None and high / low * short > longest:
        short = round(longest * low / high)
    if height < width:
        return short, int(short * width / height)
    return int(short * height / width), short


@TRANSFORMS.register_module()
class DETAResize(Resize):
    """Resize an image and its boxes by DETR's rule.

    mmdet's own rule differs by up to 5 px on the longer side.

    Args:
        short: Shorter side in pixels; one of several is drawn at random.
        longest: Limit of the longer side, None for none. DETA evaluates with both at the canvas
            minus 32.
        view: For test-time augmentation: after the resize, the image is resized again by
            view / short, int(scale * side), bilinearly. None for the plain image.
        antialias: Of the second resize. torchvision's default changed at 0.17, which is the
            likely difference between the 65.9 and 66.0 AP that were reported.
        min_side: Detections of this view with sqrt(area) at or below this many pixels of the
            original image are ignored by `DETATTAModel`.
        backend: 'pillow' as in the reference, or 'cv2'.

    Raises:
        ValueError: If a side is not positive.
    """

    def __init__(
        self,
        short: int | Sequence[int],
        longest: int | None = None,
        view: int | None = None,
        antialias: bool = False,
        min_side: float = 0.0,
        backend: str = "pillow",
    ) -> None:
        shorts = [short] if isinstance(short, int) else list(short)
        sides = [*shorts, *(side for side in (longest, view) if side is not None)]
        if not shorts or min(sides) < 1:
            raise ValueError(f"DETAResize got sides {sides}; give at least one, in pixels above 0")
        super().__init__(scale=(1, 1), keep_ratio=False, backend=backend)
        self.shorts, self.longest = shorts, longest
        self.view, self.antialias, self.min_side = view, antialias, min_side

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Resize; adds 'scale_factor', 'img_shape' and 'min_side' to `results`."""
        short = self.shorts[0]
        if len(self.shorts) > 1:
            short = self.shorts[np.random.randint(len(self.shorts))]  # noqa: NPY002 (seeded)
        height, width = detr_size(*results["img"].shape[:2], short, self.longest)
        self.scale = (width, height)
        results = super().transform(results)
        results["min_side"] = self.min_side
        if self.view is not None and self.view != short:
            before = results["img"].shape[:2]
            scale = self.view / short
            after = tuple(int(scale * side) for side in before)
            results["img"] = _resize_bilinear(results["img"], after, self.antialias)
            results["img_shape"] = after
            results["scale_factor"] = tuple(
                factor * new / old
                for factor, new, old in zip(
                    results["scale_factor"], after[::-1], before[::-1], strict=True
                )
            )
        return results


def _resize_bilinear(image_HW3: np.ndarray, size: tuple[int, int], antialias: bool) -> np.ndarray:
    """Resize in float32, as the reference does with the normalised image; not rounded."""
    image = torch.from_numpy(np.ascontiguousarray(image_HW3)).permute(2, 0, 1)[None].float()
    resized = F.interpolate(image, size, mode="bilinear", align_corners=False, antialias=antialias)
    return resized[0].permute(1, 2, 0).contiguous().numpy()
