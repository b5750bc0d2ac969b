"""Label maps of many heads from token logits of one window, a band of rows at a time.

Shape legend: P heads, K classes, h w token grid, H W pixels of the padded image, Q Z pixels of the
label map, R rows of one band.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from pe_dense.pixelwise.upsampled_loss import BAND_NUMEL, interpolation_matrix


def label_bands(
    logits_PKhw: Tensor,
    padded_hw: tuple[int, int],
    image_hw: tuple[int, int],
    label_hw: tuple[int, int],
    flip: str | None = None,
) -> Iterator[tuple[slice, Tensor]]:
    """Rows of the label map, and the best class of every head there, (P, R, Z) int64.

    The labels of `pixelwise.banded_inference.labels_of_windows` for one window that covers the
    image, all heads at once: upsampling to the padded image, the cut to the image and the resize
    to the label map are one product an axis. Ties go to the first class.

    Args:
        logits_PKhw: Token logits of the heads.
        padded_hw: Size that the tokens cover.
        image_hw: Size without padding at the bottom and right.
        label_hw: Size of the label map.
        flip: 'horizontal' or 'vertical' if the image was mirrored.
    """
    heads, classes, h, w = logits_PKhw.shape
    logits = logits_PKhw.float()
    rows_Qh, columns_Zw = (
        interpolation_matrix(image, label, logits) @ interpolation_matrix(n, padded, logits)[:image]
        for n, padded, image, label in zip((h, w), padded_hw, image_hw, label_hw, strict=True)
    )
    if flip == "vertical":
        rows_Qh = rows_Qh.flip(0)
    if flip == "horizontal":
        columns_Zw = columns_Zw.flip(0)
    wide_hN = (logits.permute(2, 1, 0, 3) @ columns_Zw.T).reshape(h, -1)  # N = K * P * Z
    budget = BAND_NUMEL.get(logits.device.type, BAND_NUMEL["default"])
    band = max(1, budget // wide_hN.shape[1])
    for start in range(0, label_hw[0], band):
        rows_Rh = rows_Qh[start : start + band]
        scores_RKPZ = (rows_Rh @ wide_hN).view(len(rows_Rh), classes, heads, label_hw[1])
        # A running maximum goes through memory in order; torch's argmax over an inner axis jumps.
        best_RPZ = scores_RKPZ[:, 0].clone()
        label_RPZ = torch.zeros_like(best_RPZ, dtype=torch.int16)
        for k in range(1, classes):
            better = scores_RKPZ[:, k] > best_RPZ
            label_RPZ.masked_fill_(better, k)
            torch.maximum(best_RPZ, scores_RKPZ[:, k], out=best_RPZ)
        yield slice(start, start + len(rows_Rh)), label_RPZ.transpose(0, 1).long()
