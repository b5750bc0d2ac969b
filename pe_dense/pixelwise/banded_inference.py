"""Label maps from token logits, band by band: the K x H x W logits never exist.

Shape legend: K classes, h w token grid of a window, H W pixels of the image, P Q pixels of the
original image, R rows of one band.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pe_dense.pixelwise.upsampled_loss import BAND_NUMEL, interpolation_matrix


@dataclass(frozen=True)
class Window:
    """One square or rectangle of an image: pixel rows [top, bottom), columns [left, right)."""

    top: int
    left: int
    bottom: int
    right: int


def windows_of(test_cfg: Mapping[str, Any], image_hw: tuple[int, int]) -> list[Window]:
    """Windows of an image as a model's `test_cfg` says.

    Args:
        test_cfg: mode 'whole' (the default), or 'slide' with crop_size and stride.
        image_hw: Size of the image.

    Raises:
        ValueError: If the mode is another, or see `strides`.
    """
    mode = test_cfg.get("mode", "whole")
    if mode == "whole":
        return [Window(0, 0, *image_hw)]
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
) -> list[Window]:
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
    return [Window(top, left, bottom, right) for top, bottom in rows for left, right in columns]


class BandedLogits:
    """Logits of one image from overlapping windows, made a few rows at a time.

    Token logits are upsampled to their windows, averaged where windows overlap, cut to the image
    and resized to the original size: all linear, so that no step needs the whole image.

    Args:
        logits: (K, h, w) for each window.
        windows: Their places, which must cover the image.
        image_hw: Size of the image without padding at the bottom and right.
        original_hw: Size P x Q of the label map.
        flip: 'horizontal' or 'vertical' if the image was mirrored.
    """

    def __init__(
        self,
        logits: Sequence[Tensor],
        windows: Sequence[Window],
        image_hw: tuple[int, int],
        original_hw: tuple[int, int],
        flip: str | None = None,
    ) -> None:
        height, width = image_hw
        self.windows, self.image_hw, self.original_hw = windows, image_hw, original_hw
        self.device, self.num_classes = logits[0].device, logits[0].shape[0]
        self._counts_HW = torch.zeros(height, width, device=self.device)
        for w in windows:
            self._counts_HW[w.top : w.bottom, w.left : w.right] += 1
        assert bool((self._counts_HW > 0).all()), "windows leave pixels out"
        self._rows_PH = interpolation_matrix(height, original_hw[0], logits[0])
        self._columns_WQ = interpolation_matrix(width, original_hw[1], logits[0]).T.contiguous()
        if flip == "vertical":
            self._rows_PH = self._rows_PH.flip(1)
        if flip == "horizontal":
            self._columns_WQ = self._columns_WQ.flip(0)
        self._keeps_rows, self._keeps_columns = (
            image_hw[axis] == original_hw[axis] and not flip for axis in (0, 1)
        )
        self._wide = [  # columns first: rows of tokens are few
            tokens.float() @ interpolation_matrix(tokens.shape[2], w.right - w.left, tokens).T
            for tokens, w in zip(logits, windows, strict=True)
        ]
        self._upright = [
            interpolation_matrix(tokens.shape[1], w.bottom - w.top, tokens)
            for tokens, w in zip(logits, windows, strict=True)
        ]

    def rows(self, start: int, stop: int, as_means: bool = True) -> Tensor:
        """Rows `start` to `stop` of the original image, (K, stop - start, Q) float32.

        Without `as_means` the logits of a pixel may still have to be divided by the number of
        windows over it; its best class is the same.
        """
        height, width = self.image_hw
        if self._keeps_rows:
            first, last = start, min(stop, height)
        else:
            used = self._rows_PH[start:stop].any(0).nonzero()
            first, last = int(used[0]), int(used[-1]) + 1
        sums_KRW = torch.zeros(self.num_classes, last - first, width, device=self.device)
        for w, wide_KhW, rows_Hh in zip(self.windows, self._wide, self._upright, strict=True):
            top, bottom = max(w.top, first), min(w.bottom, last, height)
            if top >= bottom:
                continue
            right = min(w.right, width)
            part = rows_Hh[top - w.top : bottom - w.top] @ wide_KhW[:, :, : right - w.left]
            sums_KRW[:, top - first : bottom - first, w.left : right] += part
        resized = not (self._keeps_rows and self._keeps_columns)
        if len(self.windows) > 1 and (resized or as_means):
            sums_KRW /= self._counts_HW[first:last]
        if not self._keeps_rows:
            sums_KRW = self._rows_PH[start:stop, first:last] @ sums_KRW
        if not self._keeps_columns:
            sums_KRW = sums_KRW @ self._columns_WQ
        return sums_KRW

    def labels(self) -> Tensor:
        """(P, Q) int64: the best class of every pixel."""
        bands = _bands([self])
        return torch.cat([self.rows(*band, as_means=False).argmax(0) for band in bands])


def labels_of_windows(
    logits: Sequence[Tensor],
    windows: Sequence[Window],
    image_hw: tuple[int, int],
    original_hw: tuple[int, int],
    flip: str | None = None,
) -> Tensor:
    """(P, Q) int64: best class of every pixel; arguments as those of `BandedLogits`."""
    return BandedLogits(logits, windows, image_hw, original_hw, flip).labels()


def labels_of_views(views: Sequence[BandedLogits]) -> Tensor:
    """(P, Q) int64: the class of the largest mean probability over several views of one image.

    Views are the image at other scales, mirrored or not. The probabilities of a few rows exist at
    a time, whatever the number of views.

    Raises:
        ValueError: If there is no view, or views differ in original size or number of classes.

    Source: mmseg's SegTTAModel (onedl-mmsegmentation 1.4.2).
    """
    kinds = {(view.num_classes, view.original_hw) for view in views}
    if len(kinds) != 1:
        raise ValueError(
            f"views of one image have {len(kinds)} kinds of (classes, original size), "
            f"{sorted(kinds)}; they must share one"
        )
    labels = []
    for start, stop in _bands(views):
        sums_KRQ = views[0].rows(start, stop).softmax(0)
        for view in views[1:]:
            sums_KRQ += view.rows(start, stop).softmax(0)
        labels.append(sums_KRQ.argmax(0))
    return torch.cat(labels)


def _bands(views: Sequence[BandedLogits]) -> list[tuple[int, int]]:
    """First and last + 1 row of every band, so that one view's band keeps to the budget."""
    numel = BAND_NUMEL.get(views[0].device.type, BAND_NUMEL["default"])
    height, width = views[0].original_hw
    widest = max(width, *(view.image_hw[1] for view in views))
    band = max(1, numel // (views[0].num_classes * widest))
    return [(start, min(start + band, height)) for start in range(0, height, band)]
