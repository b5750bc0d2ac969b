"""RoIAlign in plain PyTorch: two small matrix products a box, on any device, with gradients.

Average RoIAlign is separable: rows and columns of the sampling grid do not depend on each other,
and neither do the two factors of a bilinear weight. With a matrix of row weights Wy (P, H) and
one of column weights Wx (P, W) a bin grid is Wy F Wx^T, exactly, also at the border.

Shape legend: B images, C channels, H W rows and columns of the map, R boxes, P bins of one axis.

Source: Mask R-CNN, arXiv:1703.06870, section 3; border and sampling rules as in mmcv 2.3
(RoIAlign, both values of `aligned`). Written from the description.
"""

from __future__ import annotations

import torch
from torch import Tensor

# Numbers in the largest intermediate array; boxes are handled in chunks that keep to it.
MAX_NUMBERS = 2**26


def roi_align_average(
    maps_BCHW: Tensor,
    rois_R5: Tensor,
    output_size: tuple[int, int],
    spatial_scale: float = 1.0,
    sampling_ratio: int = 0,
    aligned: bool = True,
) -> Tensor:
    """Mean of bilinear samples in every bin of every box.

    Sums run in float32 or wider; the result has the type of the maps. Boxes get no gradient. A box
    without area, or upside down, gives zeros with `aligned` and sampling ratio 0; samples at places
    that are not finite count as zero.

    Args:
        maps_BCHW: Feature maps, any floating type.
        rois_R5: Image index, then corners x1, y1, x2, y2 in pixels of the image.
        output_size: Rows and columns of bins.
        spatial_scale: Map pixels per image pixel.
        sampling_ratio: Samples of a bin along each axis; 0 takes ceil(size of the bin).
        aligned: Shift by half a pixel, so that pixel centres lie at 0.5. Without it boxes are at
            least one map pixel wide and high.

    Returns:
        (R, C, rows, columns).

    Raises:
        ValueError: If a box names an image that is not there.
    """
    rows, columns = output_size
    batch, channels, height, width = maps_BCHW.shape
    work_type = torch.promote_types(maps_BCHW.dtype, torch.float32)
    boxes = rois_R5.detach().to(work_type)
    image_R = rois_R5[:, 0].long()
    if len(image_R) and not 0 <= int(image_R.min()) <= int(image_R.max()) < batch:
        raise ValueError(
            f"RoIAlign got boxes of images {int(image_R.min())}..{int(image_R.max())} for a batch "
            f"of {batch}; the first column of the boxes must be the index of their image"
        )
    shift = 0.5 if aligned else 0.0
    corners_R4 = boxes[:, 1:] * spatial_scale - shift
    wx_RPW = _bin_weights(corners_R4[:, [0, 2]], columns, width, sampling_ratio, aligned)
    wy_RPH = _bin_weights(corners_R4[:, [1, 3]], rows, height, sampling_ratio, aligned)
    step = max(1, MAX_NUMBERS // max(1, channels * rows * width))
    parts, order = [], []
    for image in image_R.unique().tolist():
        index_R = (image_R == image).nonzero().squeeze(1)
        map_HM = maps_BCHW[image].to(work_type).transpose(0, 1).reshape(height, channels * width)
        for chunk in index_R.split(step):
            lines = (wy_RPH[chunk].reshape(-1, height) @ map_HM).view(-1, rows, channels, width)
            bins = lines @ wx_RPW[chunk].transpose(1, 2)[:, None]  # (R, rows, C, columns)
            parts.append(bins.transpose(1, 2).to(maps_BCHW.dtype))
            order.append(chunk)
    if not parts:
        return maps_BCHW.new_zeros((0, channels, rows, columns)) + 0 * maps_BCHW.sum()
    return torch.cat(parts)[torch.cat(order).argsort()]


def _bin_weights(
    ends_R2: Tensor, bins: int, size: int, sampling_ratio: int, aligned: bool
) -> Tensor:
    """Weight of every pixel of one axis in every bin: (R, bins, size); rows sum to 1 inside."""
    start_R, length_R = ends_R2[:, 0], ends_R2[:, 1] - ends_R2[:, 0]
    if not aligned:
        length_R = length_R.clamp(min=1.0)
    bin_R = length_R / bins
    if sampling_ratio > 0:
        samples_R = torch.full_like(bin_R, sampling_ratio)
    else:
        samples_R = bin_R.nan_to_num(0.0, 0.0, 0.0).ceil().clamp(min=0.0)
    most = int(samples_R.max()) if len(samples_R) else 0
    weights = ends_R2.new_zeros((len(ends_R2), bins, size))
    if most == 0:
        return weights
    sample_S = torch.arange(most, device=ends_R2.device, dtype=ends_R2.dtype)
    bin_P = torch.arange(bins, device=ends_R2.device, dtype=ends_R2.dtype)
    count_R = samples_R.clamp(min=1.0)
    inside_bin_RS = (sample_S + 0.5) * bin_R[:, None] / count_R[:, None]
    bin_start_RP = start_R[:, None] + bin_P * bin_R[:, None]
    place_RPS = bin_start_RP[..., None] + inside_bin_RS[:, None]
    # Up to one pixel outside the map, the border pixel counts; further out, nothing does.
    counts = (place_RPS >= -1.0) & (place_RPS <= size)
    counts &= (sample_S < samples_R[:, None])[:, None]
    place_RPS = torch.where(counts, place_RPS.clamp(0.0, size - 1.0), 0.0)
    low_RPS = place_RPS.floor()
    upper_RPS = place_RPS - low_RPS
    share_RPS = counts / count_R[:, None, None]
    low = low_RPS.long()
    weights.scatter_add_(2, low, (1.0 - upper_RPS) * share_RPS)
    weights.scatter_add_(2, (low + 1).clamp(max=size - 1), upper_RPS * share_RPS)
    return weights
