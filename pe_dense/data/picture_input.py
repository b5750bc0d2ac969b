"""From a picture to what the image tower sees: squashed to its square, or cropped from the middle.

Shape legend: H W pixels, S side of the tower's square.

Source: facebookresearch/perception_models @ 3e352cc (core/vision_encoder/transforms.py): bilinear
with antialias, as Pillow resamples; squash is its default. PE's paper (arXiv:2504.13181) takes the
better of both for each data set, so its tables are a maximum of two protocols. Written from the
description.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

FITS = ("squash", "crop")


def fitted(picture_HW3: np.ndarray, side: int, fit: str) -> np.ndarray:
    """(S, S, 3) uint8.

    Args:
        picture_HW3: RGB uint8.
        side: S.
        fit: 'squash' resizes to the square, whatever becomes of the shape of things. 'crop'
            resizes the short side to S (the long one in proportion, cut to whole pixels) and takes
            the middle (offsets rounded to even where half a pixel is left).

    Raises:
        ValueError: If `fit` is unknown, or the picture is empty.
    """
    if fit not in FITS:
        raise ValueError(f"fit={fit!r} is unknown; choose one of {', '.join(FITS)}")
    height, width = picture_HW3.shape[:2]
    if not height or not width:
        raise ValueError(f"a picture of {height} x {width} px shows nothing")
    picture = Image.fromarray(picture_HW3)
    if fit == "squash":
        return np.asarray(picture.resize((side, side), Image.Resampling.BILINEAR))
    short = min(height, width)
    new_wh = int(width * side / short), int(height * side / short)
    picture = picture.resize(new_wh, Image.Resampling.BILINEAR)
    left, top = (round((length - side) / 2) for length in new_wh)
    return np.asarray(picture.crop((left, top, left + side, top + side)))


def tower_input(
    pictures: Sequence[np.ndarray], mean: Sequence[float], std: Sequence[float]
) -> Tensor:
    """(B, 3, S, S) float32 from fitted pictures; mean and std are of RGB in 0..1."""
    bytes_BSS3 = torch.from_numpy(np.stack(pictures))
    pixels_B3SS = bytes_BSS3.permute(0, 3, 1, 2).float() / 255
    mean_311, std_311 = (torch.tensor(values).view(3, 1, 1) for values in (mean, std))
    return (pixels_B3SS - mean_311) / std_311
