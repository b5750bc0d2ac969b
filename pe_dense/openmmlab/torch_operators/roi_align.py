"""RoIAlign by sums of weighted map pixels: average or maximum, on any device, with gradients.

Every sample of every bin is four pixels with weights; `embedding_bag` adds them up without an array
of what it read. The slow form, two matrices a box, is in `roi_align_matrices.py`.

Shape legend: B images, C channels, H W rows and columns of the map, R boxes, r boxes with one
number of samples, P Q bins (rows and columns), S T samples of a bin along y and x.

Source: Mask R-CNN, arXiv:1703.06870, section 3; border and sampling rules as in mmcv 2.3
(RoIAlign, both values of `aligned`, both kinds of pooling). Written from the description.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

MAX_ENTRIES = 2**22  # pixels with weights that are listed at once: 50 MB
FLOOR = -10000.0  # the maximum of no sample, as mmcv has it


class BoxGrid(NamedTuple):
    """How the bins of boxes are cut: bins of one axis have `size` pixels of the map.

    Attributes:
        bins: P, Q.
        scale: Map pixels per image pixel.
        samples: Samples of a bin along each axis; 0 takes ceil(size of the bin).
        aligned: Shift by half a pixel, so that pixel centres lie at 0.5. Without it boxes are at
            least one map pixel wide and high.
    """

    bins: tuple[int, int]
    scale: float = 1.0
    samples: int = 0
    aligned: bool = True


class _Samples(NamedTuple):
    """Samples of boxes that have equally many: pixels and weights (r, P, Q, S, T, 2, 2).

    `y` (r, P, S) and `x` (r, Q, T) are their places; nan where a sample does not count.
    """

    boxes: Tensor
    pixels: Tensor
    weights: Tensor
    y: Tensor
    x: Tensor


def roi_align(maps_BCHW: Tensor, rois_R5: Tensor, grid: BoxGrid, mode: str = "avg") -> Tensor:
    """Mean ('avg') or maximum ('max') of bilinear samples in every bin of every box.

    Sums run in float32 or wider; the result has the type of the maps. Boxes get no gradient. A box
    without area, or upside down, has no sample with `aligned` and 0 samples: its mean is 0 and its
    maximum -10000. Samples at places that are not finite count as zero.

    Args:
        maps_BCHW: Feature maps, any floating type.
        rois_R5: Image index, then corners x1, y1, x2, y2 in pixels of the image.
        grid: Bins and their samples.
        mode: 'avg' or 'max'.

    Returns:
        (R, C, P, Q).

    Raises:
        ValueError: If a box names an image that is not there.
    """
    if mode == "max":
        return roi_align_max(maps_BCHW, rois_R5, grid)[0]
    table_NC = _table(maps_BCHW)
    parts, order = [], []
    for samples in _samples(maps_BCHW.shape, rois_R5, grid, table_NC.dtype):
        parts.append(_mean(table_NC, samples).to(maps_BCHW.dtype))
        order.append(samples.boxes)
    return _in_order(parts, order, maps_BCHW, grid)


def roi_align_max(
    maps_BCHW: Tensor, rois_R5: Tensor, grid: BoxGrid
) -> tuple[Tensor, Tensor, Tensor]:
    """Maxima, and the places y, x on the map where they were sampled: three (R, C, P, Q).

    Of equal samples the first counts. A place is nan where no sample did. The maximum of nan and
    others is nan (the compiled form passes it over).
    """
    table_NC = _table(maps_BCHW)
    values, down, across, order = [], [], [], []
    for samples in _samples(maps_BCHW.shape, rois_R5, grid, table_NC.dtype):
        value, y, x = _maximum(table_NC, samples)
        values.append(value.to(maps_BCHW.dtype))
        down.append(y)
        across.append(x)
        order.append(samples.boxes)
    nowhere = maps_BCHW.detach()
    places = [_in_order(parts, order, nowhere, grid) for parts in (down, across)]
    return _in_order(values, order, maps_BCHW, grid), *places


def spread_maxima(
    gradient_RCPQ: Tensor, y_RCPQ: Tensor, x_RCPQ: Tensor, image_R: Tensor, maps_BCHW: Tensor
) -> None:
    """Adds the gradient of maxima to that of the maps, in place, at the places of the maxima."""
    channels, height, width = maps_BCHW.shape[1:]
    counts = y_RCPQ.isfinite() & x_RCPQ.isfinite()
    channel_C11 = torch.arange(channels, device=image_R.device)[:, None, None]
    plane = image_R.long()[:, None, None, None] * channels + channel_C11
    gradient = torch.where(counts, gradient_RCPQ, 0.0)
    rows, row_weights = _neighbours(torch.where(counts, y_RCPQ, 0.0), height)
    columns, column_weights = _neighbours(torch.where(counts, x_RCPQ, 0.0), width)
    flat = maps_BCHW.view(-1)
    for i in (0, 1):
        for j in (0, 1):
            pixel = (plane * height + rows[..., i]) * width + columns[..., j]
            part = gradient * (row_weights[..., i] * column_weights[..., j])
            flat.index_add_(0, pixel.flatten(), part.flatten().to(flat.dtype))


def _table(maps_BCHW: Tensor) -> Tensor:
    """Pixels of all maps as rows, in float32 or wider: (B H W, C)."""
    kind = torch.promote_types(maps_BCHW.dtype, torch.float32)
    return maps_BCHW.permute(0, 2, 3, 1).reshape(-1, maps_BCHW.shape[1]).to(kind)


def _samples(
    shape: torch.Size, rois_R5: Tensor, grid: BoxGrid, kind: torch.dtype
) -> Iterator[_Samples]:
    """The samples of all boxes; those with equally many come together."""
    batch, _, height, width = shape
    image_R = rois_R5[:, 0].long()
    if len(image_R) and not 0 <= int(image_R.min()) <= int(image_R.max()) < batch:
        raise ValueError(
            f"RoIAlign got boxes of images {int(image_R.min())}..{int(image_R.max())} for a batch "
            f"of {batch}; the first column of the boxes must be the index of their image"
        )
    corners_R4 = rois_R5.detach()[:, 1:].to(kind) * grid.scale - (0.5 if grid.aligned else 0.0)
    sizes_R2 = corners_R4[:, [3, 2]] - corners_R4[:, [1, 0]]  # height, width
    if not grid.aligned:
        sizes_R2 = sizes_R2.clamp(min=1.0)
    bins_R2 = sizes_R2 / torch.tensor(grid.bins, device=sizes_R2.device, dtype=kind)
    counts_R2 = bins_R2.nan_to_num(0.0, 0.0, 0.0).ceil().clamp(min=0.0).long()
    if grid.samples > 0:
        counts_R2 = torch.full_like(counts_R2, grid.samples)
    kinds_K2, kind_R = counts_R2.unique(dim=0, return_inverse=True)
    for which, (down, across) in enumerate(kinds_K2.tolist()):
        step = max(1, MAX_ENTRIES // (grid.bins[0] * grid.bins[1] * max(1, 4 * down * across)))
        for box_r in (kind_R == which).nonzero().squeeze(1).split(step):
            y_rPS = _places(corners_R4[box_r, 1], bins_R2[box_r, 0], grid.bins[0], down, height)
            x_rQT = _places(corners_R4[box_r, 0], bins_R2[box_r, 1], grid.bins[1], across, width)
            (rows, row_weights), (columns, column_weights) = (
                _neighbours(y_rPS, height), _neighbours(x_rQT, width),
            )  # fmt: skip
            first_r = (image_R[box_r] * height).view(-1, *[1] * 6)
            rows = rows[:, :, None, :, None, :, None] + first_r
            pixels = rows * width + columns[:, None, :, None, :, None, :]
            weights = row_weights[:, :, None, :, None, :, None]
            weights = weights * column_weights[:, None, :, None, :, None, :]
            yield _Samples(box_r, pixels, weights, y_rPS, x_rQT)


def _places(start_r: Tensor, bin_r: Tensor, bins: int, samples: int, size: int) -> Tensor:
    """Places of samples along one axis: (r, bins, samples), nan where one does not count."""
    bin_P = torch.arange(bins, device=start_r.device, dtype=start_r.dtype)
    sample_S = torch.arange(samples, device=start_r.device, dtype=start_r.dtype)
    inside_r1S = (sample_S + 0.5) * bin_r[:, None, None] / max(samples, 1)
    place_rPS = start_r[:, None, None] + (bin_P * bin_r[:, None])[..., None] + inside_r1S
    # Up to one pixel outside the map, the border pixel counts; further out, nothing does.
    counts_rPS = (place_rPS >= -1.0) & (place_rPS <= size)
    return torch.where(counts_rPS, place_rPS, torch.nan)


def _neighbours(places: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """The two pixels around each place and their weights, both (..., 2); nan has no weight."""
    inside = places.nan_to_num(0.0).clamp(0.0, size - 1.0)
    low = inside.long()
    upper = inside - low
    weights = torch.stack([1.0 - upper, upper], -1) * places.isfinite()[..., None]
    return torch.stack([low, (low + 1).clamp(max=size - 1)], -1), weights


def _bags(table_NC: Tensor, samples: _Samples, of_bag: int) -> Tensor:
    """Weighted sums of so many pixels each: (bags, C)."""
    return F.embedding_bag(
        samples.pixels.reshape(-1, of_bag), table_NC, mode="sum",
        per_sample_weights=samples.weights.reshape(-1, of_bag),
    )  # fmt: skip


def _mean(table_NC: Tensor, samples: _Samples) -> Tensor:
    """(r, C, P, Q)."""
    boxes, rows, columns, down, across = samples.pixels.shape[:5]
    if down * across == 0:
        return table_NC.new_zeros(boxes, table_NC.shape[1], rows, columns)
    sums = _bags(table_NC, samples, down * across * 4).view(boxes, rows, columns, -1)
    return sums.permute(0, 3, 1, 2) / (down * across)


def _maximum(table_NC: Tensor, samples: _Samples) -> tuple[Tensor, Tensor, Tensor]:
    """Values, y and x, each (r, C, P, Q)."""
    boxes, rows, columns, down, across = samples.pixels.shape[:5]
    shape = boxes, table_NC.shape[1], rows, columns
    if down * across == 0:
        nowhere = table_NC.new_full(shape, torch.nan)
        return table_NC.new_full(shape, FLOOR), nowhere, nowhere
    values = _bags(table_NC, samples, 4).view(boxes, rows, columns, down * across, -1)
    best, index_rPQC = values.max(3)
    y_rPQC = samples.y[:, :, None].expand(-1, -1, columns, -1).gather(3, index_rPQC // across)
    x_rPQC = samples.x[:, None].expand(-1, rows, -1, -1).gather(3, index_rPQC % across)
    above = ~(best <= FLOOR)  # nan stays nan
    best = torch.where(above, best, FLOOR)
    y_rPQC = torch.where(above, y_rPQC, torch.nan)
    return tuple(array.permute(0, 3, 1, 2) for array in (best, y_rPQC, x_rPQC))


def _in_order(parts: list[Tensor], order: list[Tensor], maps: Tensor, grid: BoxGrid) -> Tensor:
    """The boxes in the order in which they were given; none keeps the graph of the maps."""
    if not parts:
        return maps.new_zeros((0, maps.shape[1], *grid.bins)) + 0 * maps.sum()
    return torch.cat(parts)[torch.cat(order).argsort()]
