"""Label maps of images as labels on a token grid, and soft labels of a grid as label maps.

`mixed_cells` makes the same maps of soft labels for many settings of a frame at once.

Shape legend: C labels with background, h w token grid, H W image.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from pe_dense.tracking.region_and_boundary import VOID


def labels_on_grid(
    label_map_HW: np.ndarray, grid_hw: tuple[int, int], num_labels: int | None = None
) -> Tensor:
    """One-hot labels of a label map, sampled at token centres.

    Args:
        label_map_HW: uint8; 0 is background, 255 (void) counts as background.
        grid_hw: Token grid.
        num_labels: C with background, or None for the highest label plus 1. Labels that fall
            between the samples keep an empty channel.

    Returns:
        float32 (C, h, w).

    Raises:
        ValueError: If the map is no uint8 image or has a label that C does not allow.
    """
    label_map_HW = np.asarray(label_map_HW)
    if label_map_HW.dtype != np.uint8 or label_map_HW.ndim != 2 or not label_map_HW.size:
        raise ValueError(
            f"label map of type {label_map_HW.dtype} and shape {label_map_HW.shape} "
            "must be uint8 (H, W)"
        )
    label_map_HW = np.where(label_map_HW == VOID, np.uint8(0), label_map_HW)
    highest = int(label_map_HW.max())
    num_labels = highest + 1 if num_labels is None else num_labels
    if highest >= num_labels:
        raise ValueError(
            f"label map has label {highest}, which num_labels = {num_labels} does not allow; "
            f"pass at least {highest + 1}"
        )
    labels_hw = torch.from_numpy(_nearest(label_map_HW, grid_hw).astype(np.int64))
    return F.one_hot(labels_hw, num_labels).permute(2, 0, 1).float()


def label_map_from_soft(
    soft_Chw: Tensor,
    image_hw: tuple[int, int],
    patch_size: int | None = None,
    stretch: bool = True,
) -> np.ndarray:
    """Label map at the size of the image.

    Args:
        soft_Chw: Soft labels on the token grid.
        image_hw: Size of the result.
        patch_size: Upsample bilinearly by this factor, take the best label and sample the image
            size from it (DINO); None upsamples to the image size directly (DINOv3).
        stretch: Stretch each upsampled channel to 0..1 first, as DINO does, not DINOv3.

    Returns:
        uint8 (H, W); the lowest of equally good labels.

    Raises:
        ValueError: If there are no or more than 255 labels.
    """
    if soft_Chw.ndim != 3 or not 0 < len(soft_Chw) <= VOID:
        raise ValueError(
            f"soft labels of shape {tuple(soft_Chw.shape)} must be (C, h, w), C from 1 to {VOID}"
        )
    height, width = soft_Chw.shape[1:]
    scale = dict(size=image_hw)
    if patch_size is not None:
        scale = dict(size=(height * patch_size, width * patch_size))
    soft_CHW = F.interpolate(soft_Chw[None], **scale, mode="bilinear", align_corners=False)[0]
    if stretch:
        soft_CHW = stretch_channels(soft_CHW)
    if soft_CHW.is_cuda:  # one launch; the lowest of equals, as on a CPU
        return _nearest(soft_CHW.argmax(0).to(torch.uint8).cpu().numpy(), image_hw)
    best_HW, labels_HW = soft_CHW[0], torch.zeros_like(soft_CHW[0], dtype=torch.uint8)
    for c in range(1, len(soft_CHW)):  # many times faster than argmax over the outer dimension
        labels_HW.masked_fill_(soft_CHW[c] > best_HW, c)
        best_HW = torch.maximum(best_HW, soft_CHW[c])
    labels_HW = labels_HW.cpu().numpy()
    return _nearest(labels_HW, image_hw)


def stretch_channels(x_CHW: Tensor) -> Tensor:
    """Each channel shifted and scaled to 0..1; one that is constant or nowhere positive stays.

    Source: `norm_mask` of facebookresearch/dino @ 7c446df. Deviation: a positive constant
    channel becomes nan there, and nan then wins every pixel.
    """
    low_C11, high_C11 = x_CHW.aminmax(dim=2, keepdim=True)
    low_C11, high_C11 = low_C11.amin(1, keepdim=True), high_C11.amax(1, keepdim=True)
    varied_C11 = (high_C11 > 0) & (high_C11 > low_C11)
    shifted_CHW = x_CHW - low_C11
    span_C11 = shifted_CHW.amax(dim=(1, 2), keepdim=True)
    return torch.where(varied_C11, shifted_CHW / span_C11, x_CHW)


def _nearest(labels_HW: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    """Label map of another size, sampled at pixel centres."""
    height, width = size_hw
    return np.asarray(Image.fromarray(labels_HW).resize((width, height), Image.Resampling.NEAREST))
