"""Resize for pictures so narrow that a side would be rounded to nothing, and as DINOv3 resizes."""

from __future__ import annotations

import copy

import numpy as np
import torch
import torch.nn.functional as F
from mmcv.image import rescale_size
from PIL import Image


class AtLeastOnePixel:
    """Before a Resize of mmcv's kind: a side that would come below half a pixel becomes one pixel.

    Everything else is resized as ever. The libraries' own transforms are replaced under their
    names, so that configs say what they always said.
    """

    def transform(self, results: dict) -> dict:
        """As the Resize."""
        if self.keep_ratio and self.scale:
            height, width = results["img"].shape[:2]
            sides = rescale_size((width, height), self.scale)
            if min(sides) < 1:
                self = copy.copy(self)  # random transforms write into the one that they keep
                self.keep_ratio, self.scale = False, tuple(max(side, 1) for side in sides)
        return super().transform(results)


def antialiased(image_HWC: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    """An uint8 image (H, W, 3) in a new size, bilinear over all pixels that a new one covers.

    By Pillow itself: torch's antialiased interpolation of uint8 is four times as fast, but differs
    by one level in about one value of a thousand.

    Raises:
        ValueError: If the image is not uint8.
    """
    if image_HWC.dtype != np.uint8:
        raise ValueError(
            f"antialiased resizing has an image of {image_HWC.dtype}; it needs uint8: load it with "
            "LoadImage, and resize before other steps"
        )
    resized = Image.fromarray(image_HWC).resize(size_hw[::-1], Image.Resampling.BILINEAR)
    return np.array(resized)


def nearest_as_torch(map_HW: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    """A map (H, W) of any type in a new size; pixel i is that at floor(i * old / new) in float32.

    The rule of torch's mode 'nearest', which torchvision applies to label maps. OpenCV's differs
    in the last bit of the quotient, and so at some pixels of some sizes.

    Example:
        >>> nearest_as_torch(np.array([[1, 2, 3, 4]]), (1, 2)).tolist()
        [[1, 3]]
    """
    rows, columns = (
        F.interpolate(torch.arange(old, dtype=torch.float32)[None, None], new, mode="nearest")
        .long()
        .flatten()
        .numpy()
        for old, new in zip(map_HW.shape, size_hw, strict=True)
    )
    return np.take(np.take(map_HW, rows, axis=0), columns, axis=1)


def size_within(
    size_hw: tuple[int, int], scale: tuple[int, int], keep_ratio: bool
) -> tuple[int, int]:
    """The (H, W) of an image resized to a scale of mmcv, by one division.

    With keep_ratio a scale bounds the longer and the shorter side; the other side is the nearest
    whole number to bound * other / bounded, halves up, where mmcv rounds a product of a rounded
    quotient. Without, it is a width and a height. Sides are at least 1.

    Example:
        >>> size_within((512, 683), (99_999_999, 448), True)
        (448, 598)
    """
    height, width = size_hw
    if not keep_ratio:
        return scale[1], scale[0]
    short, long = min(size_hw), max(size_hw)
    if min(scale) * long <= max(scale) * short:
        new_short, new_long = min(scale), int(min(scale) * long / short + 0.5)
    else:
        new_short, new_long = int(max(scale) * short / long + 0.5), max(scale)
    new_short, new_long = max(new_short, 1), max(new_long, 1)
    return (new_long, new_short) if height > width else (new_short, new_long)
