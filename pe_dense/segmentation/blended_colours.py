"""Photometric distortion as DINOv3 does it: saturation towards grey, hue round the whole circle."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from mmseg.datasets.transforms import PhotoMetricDistortion
from mmseg.registry import TRANSFORMS

# Luma of ITU-R BT.601 as torchvision rounds it, for blue, green and red.
_LUMA_BGR = np.array([0.114, 0.587, 0.2989], np.float32)


def blended_with_grey(image_bgr: np.ndarray, share: float) -> np.ndarray:
    """`share` of an image plus 1 - `share` of its grey, uint8 (H, W, 3) both; 1 changes nothing.

    Values are cut off to whole numbers, the grey too, and held within 0..255.

    Example:
        >>> blended_with_grey(np.array([[[0, 0, 255]]], np.uint8), 0.5).tolist()
        [[[38, 38, 165]]]
    """
    blue, green, red = (image_bgr[..., i].astype(np.float32) * _LUMA_BGR[i] for i in range(3))
    grey_HW = (red + green + blue).astype(np.uint8).astype(np.float32)
    mixed = image_bgr.astype(np.float32) * np.float32(share)
    mixed += (grey_HW * np.float32(1 - share))[..., None]
    return np.clip(mixed, 0, 255).astype(np.uint8)


def turned_hue(image_bgr: np.ndarray, turn: float) -> np.ndarray:
    """An image (H, W, 3), BGR uint8, with its hue turned by a share of the circle, in float32.

    OpenCV's conversions in float32 hold the hue in degrees, where those of uint8 round it to 180
    steps and the saturation to 255.

    Example:
        >>> turned_hue(np.array([[[0, 0, 255]]], np.uint8), 1 / 3).tolist()  # red becomes green
        [[[0, 255, 0]]]
    """
    scaled = cv2.multiply(image_bgr, (1 / 255,) * 4, dtype=cv2.CV_32F)
    hsv = cv2.cvtColor(scaled, cv2.COLOR_BGR2HSV)
    hsv[..., 0] += np.float32(360 * (turn % 1))  # OpenCV reads 360 and more, but nothing below 0
    turned = cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR)
    turned *= np.float32(255.999)  # 0..1, so that 1 becomes 255
    return turned.astype(np.uint8)


@TRANSFORMS.register_module()
class BlendedDistortion(PhotoMetricDistortion):
    """mmseg's PhotoMetricDistortion with another saturation and hue, each in half of the images.

    Brightness, contrast and the order of all four are mmseg's, which DINOv3 kept.

    Args:
        brightness_delta: Largest number that is added to values of 0..255 or taken away.
        contrast_range: Of the factor of all values.
        saturation_range: Of the share of the image in a mixture with its grey.
        hue_range: Of the turn, in shares of the circle.

    Raises:
        ValueError: If a range is not from low to high, or a turn is longer than half the circle.

    Source: PhotoMetricDistortion in eval/segmentation/transforms.py of facebookresearch/dinov3 @
    6876159, on adjust_saturation and adjust_hue of torchvision; written from what they compute.
    """

    def __init__(
        self,
        brightness_delta: int = 32,
        contrast_range: Sequence[float] = (0.5, 1.5),
        saturation_range: Sequence[float] = (0.5, 1.5),
        hue_range: Sequence[float] = (-0.5, 0.5),
    ) -> None:
        low, high = hue_range
        ranges = dict(contrast_range=contrast_range, saturation_range=saturation_range)
        if not -0.5 <= low <= high <= 0.5 or any(not 0 <= a <= b for a, b in ranges.values()):
            raise ValueError(
                f"BlendedDistortion has hue_range={tuple(hue_range)} and {ranges}; a hue turns by "
                "-0.5 to 0.5, factors are 0 or more, and ranges go from low to high"
            )
        super().__init__(brightness_delta, contrast_range, saturation_range)
        self.hue_lower, self.hue_upper = low, high

    def saturation(self, img: np.ndarray) -> np.ndarray:
        """Draws a share of the image, in half of the images."""
        if np.random.randint(2):  # noqa: NPY002 (as mmseg draws)
            share = np.random.uniform(self.saturation_lower, self.saturation_upper)  # noqa: NPY002
            return blended_with_grey(img, share)
        return img

    def hue(self, img: np.ndarray) -> np.ndarray:
        """Draws a turn, in half of the images."""
        if np.random.randint(2):  # noqa: NPY002
            return turned_hue(img, np.random.uniform(self.hue_lower, self.hue_upper))  # noqa: NPY002
        return img
