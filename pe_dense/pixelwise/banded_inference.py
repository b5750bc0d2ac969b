"""Label maps from token logits, band by band: the K x H x W logits never exist.

Shape legend: K classes, h w token grid of a window, H W pixels of the image, P Q pixels of the
original image, R rows of one band.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from pe_dense.kernels import use_kernels
from pe_dense.pixelwise.upsampled_loss import band_numel, interpolation_matrix
from pe_dense.pixelwise.windows import PixelBox


def reference_labels(
    logits: Sequence[Tensor],
    windows: Sequence[PixelBox],
    image_hw: tuple[int, int],
    original_hw: tuple[int, int],
    flip: str | None = None,
) -> Tensor:
    """What `BandedLogits.labels` gives for (K, h, w) logits, slow and with all large logits."""
    size = max(w.bottom for w in windows), max(w.right for w in windows)
    sums_KHW, counts_HW = torch.zeros(len(logits[0]), *size), torch.zeros(size)
    for tokens, w in zip(logits, windows, strict=True):
        sums_KHW[(..., *w.slices)] += F.interpolate(tokens[None], w.size, mode="bilinear")[0]
        counts_HW[w.slices] += 1
    mean_KHW = (sums_KHW / counts_HW)[:, : image_hw[0], : image_hw[1]]
    if flip:
        mean_KHW = mean_KHW.flip(-1 if flip == "horizontal" else -2)
    return F.interpolate(mean_KHW[None], original_hw, mode="bilinear")[0].argmax(0)


LARGEST = 1e30  # what infinite logits count as


class BandedLogits:
    """Logits of one image from overlapping windows, made a few rows at a time.

    Token logits are upsampled to their windows, averaged where windows overlap, cut to the image
    and resized to the original size. All of it is linear and acts on rows and columns apart: one
    matrix per axis takes the tokens of a window to their pixels of the original image.

    Args:
        logits: (K, h, w) for each window, or (P, K, h, w) of many heads. A class may be ruled out
            by -inf; nan reaches every pixel whose weights share a product with it.
        windows: Their places: a grid, such as `slide_windows` gives, which must cover the image.
        image_hw: Size of the image without padding at the bottom and right.
        original_hw: Size P x Q of the label map.
        flip: 'horizontal' or 'vertical' if the image was mirrored.
    """

    def __init__(
        self,
        logits: Sequence[Tensor],
        windows: Sequence[PixelBox],
        image_hw: tuple[int, int],
        original_hw: tuple[int, int],
        flip: str | None = None,
    ) -> None:
        self.original_hw, self.heads_and_classes = original_hw, tuple(logits[0].shape[:-2])
        self.device = logits[0].device
        self._logits, self._windows = logits, windows
        self._axes = tuple(
            (
                tuple((getattr(w, start), getattr(w, end)) for w in windows),
                logits[0].shape[axis - 2],
                image_hw[axis],
                original_hw[axis],
                flip == mirror,
                self.device,
            )
            for axis, (start, end, mirror) in enumerate(
                (("top", "bottom", "vertical"), ("left", "right", "horizontal"))
            )
        )
        num = []
        for places, _, size, *_ in self._axes:
            reached = 0
            for begin, end in sorted(set(places)):
                assert begin <= reached, "windows leave pixels out"
                reached = max(reached, end)
            assert reached >= size, "windows leave pixels out"
            num.append(len(set(places)))
        assert num[0] * num[1] == len(windows), "windows are no grid"

    @functools.cached_property
    def _parts(self) -> list[_Part]:
        """Every window with its logits at its columns: rows of tokens are few."""
        down, across = (_axis(*axis) for axis in self._axes)
        parts = []
        for tokens, w in zip(self._logits, self._windows, strict=True):
            rows, columns = down[w.top, w.bottom], across[w.left, w.right]
            wide_KhC = _bounded(tokens) @ columns.weights.T
            parts.append(_Part(rows, columns.pixels, wide_KhC))
        return parts

    def rows(self, start: int, stop: int) -> Tensor:
        """Rows `start` to `stop` of the original image, (K, stop - start, Q) float32."""
        shape = *self.heads_and_classes, stop - start, self.original_hw[1]
        found = torch.zeros(shape, device=self.device)
        for rows, columns, wide_KhC in self._parts:
            first = rows.pixels.start
            top, bottom = max(first, start), min(rows.pixels.stop, stop)
            if top < bottom:
                band = slice(top - first, bottom - first)
                tokens = rows.tokens_of(band)
                part = rows.weights[band, tokens] @ wide_KhC[..., tokens, :]
                found[..., top - start : bottom - start, columns] += part
        return found

    def bands(self) -> list[tuple[int, int]]:
        """First and last + 1 row of every band that is made at a time."""
        height, width = self.original_hw
        band = max(1, band_numel(self.device) // (math.prod(self.heads_and_classes) * width))
        return [(start, min(start + band, height)) for start in range(0, height, band)]

    def labels(self) -> Tensor:
        """(P, Q) int64, one map per head where there are many: the best class of every pixel."""
        # `max`, not `argmax`: ten times as fast on a CPU, and it takes the first of equals.
        if use_kernels(self._logits[0]):
            return self._labels_of_kernel()
        found = [self.rows(*band).max(-3).indices for band in self.bands()]
        return torch.cat(found, -2)

    def _labels_of_kernel(self) -> Tensor:
        """What the bands give; no logit of a pixel is ever in memory."""
        from pe_dense.pixelwise.window_labels_kernel import ROWS, labels_of_rows

        rows, columns = (_dense_axis(*a, n) for a, n in zip(self._axes, (ROWS, 1), strict=True))
        down, across = len(rows.weights), len(columns.weights)
        classes, h, w = self._logits[0].shape[-3:]
        order = sorted(range(len(self._windows)), key=lambda i: self._windows[i])
        tokens = _bounded(torch.stack([self._logits[i] for i in order]))
        tokens = tokens.view(down, across, -1, classes, h, w).permute(0, 2, 3, 4, 1, 5)
        # All windows of a row at once: their tokens side by side, with the columns of each.
        columns_xW = columns.weights.transpose(1, 2).reshape(across * w, -1)
        wide_nPKhW = tokens.reshape(*tokens.shape[:4], across * w) @ columns_xW
        labels_PHW = labels_of_rows(
            wide_nPKhW, rows.weights, rows.taps, rows.windows, self.original_hw[0]
        )
        return labels_PHW.view(*self.heads_and_classes[:-1], *self.original_hw)


class _Part(NamedTuple):
    """One window: its rows, the columns under it, its logits at token rows and those columns."""

    rows: _Axis
    columns: slice
    wide_KhC: Tensor


class _Axis(NamedTuple):
    """A window along one axis: its pixels of the original image, their weights (pixels, tokens).

    Which weights are not 0 is kept on the host, where it is asked for every band.
    """

    pixels: slice
    weights: Tensor
    used: Tensor

    def tokens_of(self, band: slice) -> slice:
        """Tokens that some pixels of the window depend on."""
        return _support(self.used[band].any(0))


class _DenseAxis(NamedTuple):
    """All n windows along one axis, each at every pixel: weights (n, pixels, tokens).

    Pixels are filled up with weights of 0 to whole groups; `taps` (n, groups) and `windows`
    (groups,) are the first and last + 1 token and window whose weight is not 0.
    """

    weights: Tensor
    taps: tuple[Tensor, Tensor]
    windows: tuple[Tensor, Tensor]


def _bounded(logits: Tensor) -> Tensor:
    """Logits in float32 without infinities: times a weight of 0 they would be nan everywhere."""
    return logits.float().clamp(-LARGEST, LARGEST)


def _support(used: Tensor) -> slice:
    """From the first place that is used to the last."""
    places = used.nonzero()
    return slice(int(places[0]), int(places[-1]) + 1) if len(places) else slice(0, 0)


def _axis(
    places: Sequence[tuple[int, int]],
    tokens: int,
    size: int,
    original: int,
    is_mirrored: bool,
    device: torch.device,
) -> dict[tuple[int, int], _Axis]:
    """By start and end of a window; weights include the mean over windows that share a pixel."""
    like = torch.empty(0, device=device)
    resize_OI = interpolation_matrix(size, original, like)
    if is_mirrored:
        resize_OI = resize_OI.flip(0)
    counts_I = torch.zeros(size, device=device)
    for start, end in set(places):
        counts_I[start:end] += 1
    found = {}
    for start, end in set(places):
        inside = slice(start, max(min(end, size), start))  # the rest is padding
        upsampled = interpolation_matrix(tokens, end - start, like)[: inside.stop - start]
        weights = resize_OI[:, inside] @ (upsampled / counts_I[inside, None])
        used = (weights != 0).cpu()
        pixels = _support(used.any(1))
        found[start, end] = _Axis(pixels, weights[pixels], used[pixels])
    return found


@functools.lru_cache(maxsize=16)
def _dense_axis(
    places: tuple[tuple[int, int], ...],
    tokens: int,
    size: int,
    original: int,
    is_mirrored: bool,
    device: torch.device,
    group: int,
) -> _DenseAxis:
    """`_axis` without the host; kept, because images of one size follow one another."""
    windows = sorted(set(places))
    assert len({end - start for start, end in windows}) == 1, "windows differ in size"
    like = torch.empty(0)
    upsampled = interpolation_matrix(tokens, windows[0][1] - windows[0][0], like)
    weights = torch.zeros(len(windows), size, tokens)
    for weights_It, (start, end) in zip(weights, windows, strict=True):
        weights_It[start:end] = upsampled[: max(min(end, size) - start, 0)]
    counts_I = (weights != 0).any(2).sum(0)
    weights = (weights / counts_I[:, None]).to(device)
    if original != size:
        weights = interpolation_matrix(size, original, weights) @ weights
    if is_mirrored:
        weights = weights.flip(1)
    weights = F.pad(weights, (0, 0, 0, -original % group)).contiguous()
    used = (weights != 0).unflatten(1, (-1, group)).any(2)
    return _DenseAxis(weights, _from_to(used), _from_to(used.any(2).T))


def _from_to(used: Tensor) -> tuple[Tensor, Tensor]:
    """First and last + 1 place that is used along the last axis, int32; 0 and 0 where none is."""
    size = used.shape[-1]
    places = torch.arange(size, device=used.device)
    last = torch.where(used, places + 1, 0).amax(-1)
    first = torch.where(used, places, size).amin(-1).clamp(max=last)
    return first.int().contiguous(), last.int().contiguous()


def labels_of_views(views: Sequence[BandedLogits]) -> Tensor:
    """(P, Q) int64: the class of the largest mean probability over several views of one image.

    Views are the image at other scales, mirrored or not. The probabilities of a few rows exist at
    a time, whatever the number of views.

    Raises:
        ValueError: If there is no view, or views differ in original size or number of classes.

    Source: mmseg's SegTTAModel (onedl-mmsegmentation 1.4.2).
    """
    kinds = {(view.heads_and_classes[-1], view.original_hw) for view in views}
    if len(kinds) != 1:
        raise ValueError(
            f"views of one image have {len(kinds)} kinds of (classes, original size), "
            f"{sorted(kinds)}; they must share one"
        )
    labels = []
    for start, stop in views[0].bands():
        sums_KRQ = views[0].rows(start, stop).softmax(0)
        for view in views[1:]:
            sums_KRQ += view.rows(start, stop).softmax(0)
        labels.append(sums_KRQ.argmax(0))
    return torch.cat(labels)
