"""Images whose sides are multiples of the patch: padded, cut, or refused.

Shape legend: B images, C channels, H W pixels.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch.nn.functional as F
from torch import Tensor

Place = Literal["bottom_right", "centre"]
REMAINDERS = ("error", "pad", "floor")


class Margins(NamedTuple):
    """Rows and columns of padding around an image, in the order of `torch.nn.functional.pad`."""

    left: int
    right: int
    top: int
    bottom: int

    def cut(self, padded_HW: Tensor) -> Tensor:
        """(..., H, W) without the margins."""
        height, width = padded_HW.shape[-2:]
        return padded_HW[..., self.top : height - self.bottom, self.left : width - self.right]


def pad_to_multiple(
    images_BCHW: Tensor, multiple: int, place: Place = "bottom_right"
) -> tuple[Tensor, Margins]:
    """Images padded with zeros until both sides are multiples, and how much was added.

    Zero is the mean colour of normalised images. An image that fits is returned as it is.

    Args:
        images_BCHW: Images of any channels.
        multiple: In pixels, 1 or more.
        place: 'bottom_right' of the image, or 'centre': half on either side, the odd pixel at
            the bottom and right.

    Raises:
        ValueError: If the place is unknown or the multiple not positive.

    Example:
        >>> import torch
        >>> pad_to_multiple(torch.ones(1, 3, 4, 7), 4, "centre")[1]
        Margins(left=0, right=1, top=0, bottom=0)
    """
    if place not in ("bottom_right", "centre"):
        raise ValueError(f"pad place {place!r} is neither 'bottom_right' nor 'centre'")
    if multiple < 1:
        raise ValueError(f"pad divisor {multiple} is not positive; use the patch size")
    rows, columns = (-side % multiple for side in images_BCHW.shape[-2:])
    top, left = (rows // 2, columns // 2) if place == "centre" else (0, 0)
    margins = Margins(left, columns - left, top, rows - top)
    return (F.pad(images_BCHW, margins) if any(margins) else images_BCHW), margins


def fit_to_patches(images_B3HW: Tensor, patch_size: int, remainder: str) -> Tensor:
    """Images that an encoder can cut into patches.

    Args:
        images_B3HW: RGB images, (B, 3, H, W).
        patch_size: Side of a patch in pixels.
        remainder: What happens to a side that is no multiple of it: 'error', 'pad' (zeros at the
            bottom and right) or 'floor' (the rest is dropped).

    Raises:
        ValueError: If the shape is none of RGB images, a side is smaller than the patch, or it
            does not fit and `remainder` is 'error'.
    """
    if images_B3HW.ndim != 4 or images_B3HW.shape[1] != 3:
        raise ValueError(f"expected images (B, 3, H, W), got {tuple(images_B3HW.shape)}")
    height, width = images_B3HW.shape[-2:]
    if min(height, width) < patch_size:
        raise ValueError(f"image {height}x{width} is smaller than one {patch_size}-pixel patch")
    if remainder == "pad":
        return pad_to_multiple(images_B3HW, patch_size)[0]
    rows, columns = height % patch_size, width % patch_size
    if (rows or columns) and remainder == "error":
        raise ValueError(
            f"image {height}x{width} is not a multiple of patch {patch_size}; resize it, or "
            "build the encoder with remainder='pad' or 'floor'"
        )
    return images_B3HW[..., : height - rows, : width - columns]
