"""The resizing rule of DETR and DETA, and the views of DETA's test-time augmentation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from mmcv.transforms import BaseTransform
from mmdet.datasets.transforms import RandomCrop, Resize
from mmdet.registry import TRANSFORMS

MARGIN = 32  # kept free on the canvas, because the longer side may come out a little longer


def detr_size(height: int, width: int, short: int, longest: int | None) -> tuple[int, int]:
    """Height and width whose shorter side is `short`, unless the longer would pass `longest`.

    The shorter side is then round(longest * short / long), at least 1; the other is always
    truncated, so the longer side may pass `longest` by a few pixels.

    Source: facebookresearch/detr, datasets/transforms.py, as DETA uses it.

    Example:
        >>> detr_size(640, 427, 1792, 1792)
        (1792, 1196)
    """
    low, high = min(height, width), max(height, width)
    if longest is not None and high / low * short > longest:
        short = round(longest * low / high)
        if short < 1:  # a line of pixels, which can be no longer than the limit
            return (1, longest) if height < width else (longest, 1)
    if height < width:
        return short, int(short * width / height)
    return int(short * height / width), short


def view_size(height: int, width: int, view: int) -> tuple[int, int]:
    """Height and width of a test view of an image that was resized for evaluation.

    Both sides are multiplied by view / longer side and truncated; the longer side is that of the
    resized image, which is not always the limit that it was resized to.

    Source: perception_models @ 3e352cc, DETA_pe/datasets/coco.py:80-88.

    Example:
        >>> view_size(1198, 1791, 1728)
        (1155, 1728)
    """
    scale = view / max(height, width)
    return int(scale * height), int(scale * width)


@TRANSFORMS.register_module()
class DETAResize(Resize):
    """Resize an image and its boxes by DETR's rule.

    mmdet's own rule differs by up to 5 px on the longer side.

    Args:
        canvas: Shorthand for `short` and `longest` both at the canvas minus `MARGIN`: DETA's
            evaluation. The longer side may pass the limit by a few pixels, but not the canvas.
        short: Shorter side in pixels; one of several is drawn at random.
        longest: Limit of the longer side, None for none.
        view: For test-time augmentation: after the resize, the image is resized again, bilinearly,
            to `view_size`. None for the plain image.
        antialias: Whether the second resize averages where it shrinks. True is torchvision's
            default for tensors since 0.17, and so that of the 0.20.1 that the reference asks for.
        min_side: Detections of this view with sqrt(area) at or below this many pixels of the
            original image are ignored by `DETATTAModel`.
        backend: 'pillow' as in the reference, or 'cv2'.

    Raises:
        ValueError: If sides are missing, given twice or not positive.
    """

    def __init__(
        self,
        canvas: int | None = None,
        short: int | Sequence[int] = (),
        longest: int | None = None,
        view: int | None = None,
        antialias: bool = True,
        min_side: float = 0.0,
        backend: str = "pillow",
    ) -> None:
        shorts = [short] if isinstance(short, int) else list(short)
        if canvas is not None:
            if shorts or longest is not None:
                raise ValueError("DETAResize got canvas beside short or longest; give one of both")
            shorts, longest = [canvas - MARGIN], canvas - MARGIN
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
        if self.view is not None and "gt_bboxes" in results:
            raise ValueError("DETAResize(view=...) is for testing; load annotations after it")
        height, width = detr_size(*results["img"].shape[:2], short, self.longest)
        self.scale = (width, height)
        results = super().transform(results)
        results["min_side"] = self.min_side
        if self.view is not None:
            before = results["img"].shape[:2]
            after = view_size(*before, self.view)
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


@TRANSFORMS.register_module()
class DETAScaleJitter(BaseTransform):
    """DETA's training augmentation: a random size, or a random crop of a random size.

    With probability 1/2 the shorter side is drawn from 480, 512, ... below the canvas, with the
    longer side limited to the canvas minus `MARGIN`. Otherwise it is drawn from 400, 500 and 600,
    a crop of 384 to 600 px a side is cut out, and resized as in evaluation.

    Args:
        canvas: Side of the canvas in pixels.
        shorts: First and step of the sizes of the plain branch.
        crop_shorts: Sizes before the crop.
        crop_sides: Smallest and largest side of the crop; both must fit `crop_shorts`.
        backend: 'pillow' as in the reference, or 'cv2'.

    Raises:
        ValueError: If the canvas leaves no size to draw from.

    Source: perception_models @ 3e352cc, DETA_pe/datasets/coco.py (the transforms called LSJ).
    """

    def __init__(
        self,
        canvas: int,
        shorts: tuple[int, int] = (480, 32),
        crop_shorts: Sequence[int] = (400, 500, 600),
        crop_sides: tuple[int, int] = (384, 600),
        backend: str = "pillow",
    ) -> None:
        sizes = list(range(shorts[0], canvas, shorts[1]))
        if not sizes:
            raise ValueError(
                f"DETAScaleJitter: a canvas of {canvas} px leaves no size from {shorts[0]} on; "
                "lower the first of shorts, and crop_shorts and crop_sides with it"
            )
        self.plain = DETAResize(short=sizes, longest=canvas - MARGIN, backend=backend)
        self.cropped = [
            DETAResize(short=crop_shorts, backend=backend),
            RandomCrop(tuple(crop_sides), crop_type="absolute_range", allow_negative_crop=True),
            DETAResize(canvas=canvas, backend=backend),
        ]

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Resize and crop the image and its boxes."""
        steps = self.cropped
        if np.random.rand() < 0.5:  # noqa: NPY002 (the generator that mmdet seeds)
            steps = [self.plain]
        for step in steps:
            results = step(results)
        return results
