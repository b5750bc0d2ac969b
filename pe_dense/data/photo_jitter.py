"""Augmentation of images for spatial alignment, on NumPy arrays.

Source: Perception Encoder (arXiv:2504.13181), table of settings of spatial alignment: aspect jitter
(0.75, 1.33), colour jitter (0.32, 0, 0.32, 0) as brightness, contrast, saturation and hue, and
mirroring with probability 0.5. Written from the description.

Transforms take and give the samples of MMEngine's pipelines: 'img' (H, W, 3) BGR uint8 and, where
there is one, 'instance_ids' (H, W) int32, which follows the geometry. They note what the final view
shows of the original image: 'view_yxyx' as shares (y0, x0, y1, x1), and 'flip' for mirroring
afterwards. Random numbers come from Python's global generator, which the loaders seed.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import torch
from mmengine.registry import TRANSFORMS
from mmengine.structures import BaseDataElement

WHOLE = (0.0, 0.0, 1.0, 1.0)
_GREY_BGR = np.array([0.114, 0.587, 0.299], np.float32)  # ITU-R 601, as torchvision


@TRANSFORMS.register_module()
class AspectJitterResize:
    """Cut a crop of random aspect ratio, as large as fits, at a random place; resize it.

    The paper gives the range alone. A ratio (width by height) is drawn log-uniformly from it, as
    random-resized crops draw theirs; with the default `scale` the crop has the full height or the
    full width of the image.

    Args:
        size: Side in pixels, or (H, W).
        ratio: Range of width / height of the crop; for a size that is not square, relative to its
            own ratio.
        scale: Range of the crop's area as a share of the largest one of its ratio. (1, 1) is the
            paper's table, which lists no scale.

    Raises:
        ValueError: If a range is empty or out of bounds.
    """

    def __init__(
        self,
        size: int | Sequence[int],
        ratio: tuple[float, float] = (0.75, 1.33),
        scale: tuple[float, float] = (1.0, 1.0),
    ) -> None:
        self.size = (size, size) if isinstance(size, int) else tuple(size)
        self.ratio, self.scale = tuple(ratio), tuple(scale)
        if len(self.size) != 2 or min(self.size) < 1:
            raise ValueError(f"size={size} is no side in pixels and no (H, W)")
        if not 0 < self.ratio[0] <= self.ratio[1]:
            raise ValueError(f"ratio={ratio} is no range of positive numbers; try (0.75, 1.33)")
        if not 0 < self.scale[0] <= self.scale[1] <= 1:
            raise ValueError(f"scale={scale} is no range within 0..1; try (1.0, 1.0)")

    def __call__(self, sample: dict[str, Any]) -> dict[str, Any]:
        """Replace 'img' (and 'instance_ids'), note 'view_yxyx'."""
        height, width = sample["img"].shape[:2]
        ratio = math.exp(random.uniform(math.log(self.ratio[0]), math.log(self.ratio[1])))
        ratio *= self.size[1] / self.size[0]
        shrink = math.sqrt(random.uniform(*self.scale))
        crop_h = min(height, width / ratio) * shrink
        crop_w = crop_h * ratio
        crop_h, crop_w = (min(max(1, round(v)), s) for v, s in ((crop_h, height), (crop_w, width)))
        top, left = random.randint(0, height - crop_h), random.randint(0, width - crop_w)
        return crop_and_resize(sample, (top, left, crop_h, crop_w), self.size)


@TRANSFORMS.register_module()
class ColorJitter:
    """Brightness, contrast, saturation and hue by random amounts, in random order.

    As torchvision's transform of the name: factors are uniform in 1 +- the number (not below 0),
    the hue shift in +- the number of a turn. Steps work in float32, each is cut to 0..255, and
    only the last result is rounded, where torchvision rounds each.

    Args:
        brightness: Factor range of all channels.
        contrast: Factor range of the distance to the mean grey.
        saturation: Factor range of the distance to each pixel's grey.
        hue: At most 0.5.

    Raises:
        ValueError: If a number is negative, or hue above 0.5.
    """

    def __init__(
        self,
        brightness: float = 0.32,
        contrast: float = 0.0,
        saturation: float = 0.32,
        hue: float = 0.0,
    ) -> None:
        numbers = (brightness, contrast, saturation, hue)
        if not (min(numbers) >= 0 and hue <= 0.5):
            raise ValueError(f"colour jitter {numbers} must not be negative, nor hue above 0.5")
        self.steps = [
            (function, amount, centre)
            for function, amount, centre in (
                (brightened, brightness, 1.0),
                (contrasted, contrast, 1.0),
                (saturated, saturation, 1.0),
                (hue_shifted, hue, 0.0),
            )
            if amount
        ]

    def __call__(self, sample: dict[str, Any]) -> dict[str, Any]:
        """Replace 'img'."""
        image_HW3 = sample["img"].astype(np.float32)
        for function, amount, centre in random.sample(self.steps, len(self.steps)):
            low = max(0.0, centre - amount) if centre else -amount
            image_HW3 = function(image_HW3, random.uniform(low, centre + amount))
            image_HW3 = image_HW3.clip(0, 255)
        return {**sample, "img": np.rint(image_HW3).astype(np.uint8)}


@TRANSFORMS.register_module()
class RandomMirror:
    """Mirror left to right.

    Args:
        prob: Probability.
    """

    def __init__(self, prob: float = 0.5) -> None:
        if not 0 <= prob <= 1:
            raise ValueError(f"prob={prob} is no probability")
        self.prob = prob

    def __call__(self, sample: dict[str, Any]) -> dict[str, Any]:
        """Mirror 'img' (and 'instance_ids'), note 'flip'."""
        if random.random() >= self.prob:
            return sample
        mirrored = {
            key: np.ascontiguousarray(sample[key][:, ::-1])
            for key in ("img", "instance_ids")
            if key in sample
        }
        return {**sample, **mirrored, "flip": not sample.get("flip", False)}


@TRANSFORMS.register_module()
class PackImages:
    """The form that MMEngine's loaders collate: 'inputs' (3, H, W) uint8 BGR and 'data_samples'.

    A data sample is a `BaseDataElement` with `instance_ids` (H, W) int32 where there are any, and
    `img_path`, `ori_shape`, `view_yxyx`, `flip`, `image_sha256` as metadata. A data preprocessor
    with bgr_to_rgb=True, mean 0 and deviation 255 makes the RGB in 0..1 that teachers take.
    """

    def __call__(self, sample: dict[str, Any]) -> dict[str, Any]:
        """Tensors."""
        element = BaseDataElement(
            metainfo={
                "img_path": sample.get("img_path", ""),
                "ori_shape": tuple(sample.get("ori_shape", sample["img"].shape[:2])),
                "img_shape": sample["img"].shape[:2],
                "view_yxyx": sample.get("view_yxyx", WHOLE),
                "flip": sample.get("flip", False),
                "image_sha256": sample.get("image_sha256"),
            }
        )
        if "instance_ids" in sample:
            element.instance_ids = torch.from_numpy(np.ascontiguousarray(sample["instance_ids"]))
        image_3HW = np.ascontiguousarray(sample["img"].transpose(2, 0, 1))
        return {"inputs": torch.from_numpy(image_3HW), "data_samples": element}


def crop_and_resize(
    sample: dict[str, Any], box_yxhw: tuple[int, int, int, int], size_hw: tuple[int, int]
) -> dict[str, Any]:
    """A new sample with a part of 'img' (and 'instance_ids') at a new size.

    Images are averaged over areas where they shrink and bilinear where they grow; ids are nearest.
    """
    top, left, crop_h, crop_w = box_yxhw
    height, width = sample["img"].shape[:2]
    y0, x0, y1, x1 = sample.get("view_yxyx", WHOLE)
    if sample.get("flip"):
        raise ValueError("the image is mirrored before it is cropped; put RandomMirror last")
    rows = (top / height, (top + crop_h) / height)
    columns = (left / width, (left + crop_w) / width)
    view = (
        y0 + rows[0] * (y1 - y0),
        x0 + columns[0] * (x1 - x0),
        y0 + rows[1] * (y1 - y0),
        x0 + columns[1] * (x1 - x0),
    )
    shrinks = size_hw[0] * size_hw[1] < crop_h * crop_w
    resized = {"view_yxyx": view}
    for key, mode in (
        ("img", cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR),
        ("instance_ids", cv2.INTER_NEAREST_EXACT),
    ):
        if key in sample:
            part = sample[key][top : top + crop_h, left : left + crop_w]
            resized[key] = cv2.resize(part, (size_hw[1], size_hw[0]), interpolation=mode)
    return {**sample, **resized}


def brightened(image_HW3: np.ndarray, factor: float) -> np.ndarray:
    """All channels times the factor."""
    return image_HW3 * np.float32(factor)


def contrasted(image_HW3: np.ndarray, factor: float) -> np.ndarray:
    """Distances to the image's mean grey times the factor."""
    grey = np.float32((image_HW3 @ _GREY_BGR).mean())
    return grey + (image_HW3 - grey) * np.float32(factor)


def saturated(image_HW3: np.ndarray, factor: float) -> np.ndarray:
    """Distances to each pixel's grey times the factor."""
    grey_HW1 = (image_HW3 @ _GREY_BGR)[..., None]
    return grey_HW1 + (image_HW3 - grey_HW1) * np.float32(factor)


def hue_shifted(image_HW3: np.ndarray, turn: float) -> np.ndarray:
    """Hues moved by a share of a full turn, in HSV."""
    hsv_HW3 = cv2.cvtColor(image_HW3 / np.float32(255), cv2.COLOR_BGR2HSV)
    hsv_HW3[..., 0] = (hsv_HW3[..., 0] + np.float32(360 * turn)) % 360
    return cv2.cvtColor(hsv_HW3, cv2.COLOR_HSV2BGR) * np.float32(255)
