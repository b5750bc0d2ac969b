"""Parts of an image: what of it is padding, windows that run apart, and their mean.

Shape legend: B images, N windows, H W pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor


class PixelBox(NamedTuple):
    """Rows top..bottom - 1 and columns left..right - 1 of an image; may reach beyond it."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """Index of the last two axes: `depth_HW[box.slices]`."""
        return slice(self.top, self.bottom), slice(self.left, self.right)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.bottom - self.top, self.right - self.left


def windows_of(test_cfg: Mapping[str, Any], image_hw: tuple[int, int]) -> list[PixelBox]:
    """Windows of an image as a model's `test_cfg` says.

    Args:
        test_cfg: mode 'whole' (the default), or 'slide' with crop_size and stride.
        image_hw: Size of the image.

    Raises:
        ValueError: If the mode is another, or see `strides`.
    """
    mode = test_cfg.get("mode", "whole")
    if mode == "whole":
        return [PixelBox(0, image_hw[0], 0, image_hw[1])]
    if mode != "slide":
        raise ValueError(f"model.test_cfg.mode={mode!r} is neither 'whole' nor 'slide'")
    crop = tuple(test_cfg["crop_size"])
    return slide_windows(image_hw, crop, strides(crop, test_cfg["stride"]))


def strides(crop_hw: tuple[int, int], stride: float | Sequence[int]) -> tuple[int, int]:
    """Steps of sliding windows in pixels.

    Args:
        crop_hw: Height and width of a window.
        stride: Two steps in pixels, or one share of the window in (0, 1], rounded down: protocols
            that fix the number of tokens have windows of another size for every patch.

    Raises:
        ValueError: If a step is not positive, or a share is outside (0, 1].

    Example:
        >>> strides((512, 512), 2 / 3), strides((448, 448), 2 / 3), strides((8, 8), (4, 2))
        ((341, 341), (298, 298), (4, 2))
    """
    if isinstance(stride, (int, float)):
        if not 0 < stride <= 1:
            raise ValueError(
                f"model.test_cfg.stride={stride} is one number outside (0, 1]; give a share of "
                "crop_size, or two steps in pixels"
            )
        steps = (int(crop_hw[0] * stride), int(crop_hw[1] * stride))
    else:
        steps = (stride[0], stride[1])
    if min(steps) < 1:
        raise ValueError(
            f"model.test_cfg.stride={stride} is a step of {min(steps)} pixels; raise it"
        )
    return steps


def slide_windows(
    image_hw: tuple[int, int], crop_hw: tuple[int, int], stride_hw: tuple[int, int]
) -> list[PixelBox]:
    """Windows of sliding inference, row by row; the last ones are moved back inside the image.

    Source: mmseg's `slide_inference`.

    Example:
        >>> [w.left for w in slide_windows((4, 10), (4, 4), (4, 3))]
        [0, 3, 6]
    """
    places = []
    for size, crop, stride in zip(image_hw, crop_hw, stride_hw, strict=True):
        count = max(size - crop + stride - 1, 0) // stride + 1
        ends = [min(i * stride + crop, size) for i in range(count)]
        places.append([(max(end - crop, 0), end) for end in ends])
    rows, columns = places
    return [PixelBox(top, bottom, left, right) for top, bottom in rows for left, right in columns]


def window_outputs(
    model: Callable[[Tensor], Tensor],
    images_BCHW: Tensor,
    windows: Sequence[PixelBox],
    at_once: int = 8,
) -> Tensor:
    """What `model` gives for the windows of all images, (N, B, ...).

    Args:
        model: From (n, C, height, width), windows of one size, to (n, ...).
        images_BCHW: Images.
        windows: All of one size, as those of `windows_of`.
        at_once: Windows that run together, of whichever images.
    """
    crops_NBCHW = torch.stack([images_BCHW[(..., *w.slices)] for w in windows])
    outputs = torch.cat([model(part) for part in crops_NBCHW.flatten(0, 1).split(at_once)])
    return outputs.unflatten(0, (len(windows), -1))


def mean_of_windows(maps: Sequence[Tensor], windows: Sequence[PixelBox]) -> Tensor:
    """(..., H, W): maps of windows in their places, averaged where windows overlap."""
    if len(windows) == 1:
        return maps[0]
    size = max(w.bottom for w in windows), max(w.right for w in windows)
    sums = maps[0].new_zeros(*maps[0].shape[:-2], *size)
    counts_HW = maps[0].new_zeros(size)
    for values, w in zip(maps, windows, strict=True):
        sums[(..., *w.slices)] += values
        counts_HW[w.slices] += 1
    assert bool((counts_HW > 0).all()), "windows leave pixels out"
    return sums / counts_HW


def padding_of(sample: Any) -> tuple[int, int, int, int]:
    """Pixels that the data preprocessor has added: left, right, top, bottom."""
    sides = sample.get("img_padding_size", sample.get("padding_size", (0, 0, 0, 0)))
    left, right, top, bottom = map(int, sides)
    return left, right, top, bottom


def unpadded_size(sample: Any, padded_hw: tuple[int, int], reader: str) -> tuple[int, int]:
    """Height and width of an image without its padding at the right and bottom.

    Args:
        sample: An MMEngine data element.
        padded_hw: Size with padding.
        reader: Whose rule it is, for the error: 'probes expect'.

    Raises:
        ValueError: If the image is padded at the left or top.
    """
    left, right, top, bottom = padding_of(sample)
    if left or top:
        raise ValueError(
            f"image {sample.get('img_path', '?')} is padded at the left or top; {reader} padding "
            "at the right and bottom"
        )
    return padded_hw[0] - bottom, padded_hw[1] - right


def mirrored(sample: Any) -> str | None:
    """'horizontal' or 'vertical' if the pipeline has flipped the image."""
    return sample.get("flip_direction") if sample.get("flip") else None
