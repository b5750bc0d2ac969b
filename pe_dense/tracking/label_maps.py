"""Label maps of images as labels on a token grid, and soft labels of a grid as label maps.

`mixed_cells` makes the same maps of soft labels for many settings of a frame at once.

Shape legend: C labels with background, h w token grid, H W image.
"""

from __future__ import annotations

from functools import lru_cache

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
    labels_1HW = _best_labels(soft_Chw[None], image_hw, patch_size, stretch)
    return _nearest(labels_1HW[0].cpu().numpy(), image_hw)


def device_label_maps(
    soft_BChw: Tensor, image_hw: tuple[int, int], patch_size: int | None, stretch: bool
) -> Tensor:
    """`label_map_from_soft` of several at once, where they are: uint8 (B, H, W)."""
    labels_BHW = _best_labels(soft_BChw, image_hw, patch_size, stretch)
    for dim, size in enumerate(image_hw, start=1):
        if labels_BHW.shape[dim] != size:
            sources = nearest_sources(size, labels_BHW.shape[dim], labels_BHW.device)
            labels_BHW = labels_BHW.index_select(dim, sources)
    return labels_BHW


def _best_labels(
    soft_BChw: Tensor, image_hw: tuple[int, int], patch_size: int | None, stretch: bool
) -> Tensor:
    """uint8 label maps at the upsampled size."""
    scale = dict(size=image_hw)
    if patch_size is not None:
        scale = dict(size=tuple(side * patch_size for side in soft_BChw.shape[2:]))
    soft_BCHW = F.interpolate(soft_BChw, **scale, mode="bilinear", align_corners=False)
    if stretch:
        soft_BCHW = stretch_channels(soft_BCHW.flatten(0, 1)).view_as(soft_BCHW)
    best_BHW = soft_BCHW[:, 0]
    labels_BHW = torch.zeros_like(best_BHW, dtype=torch.uint8)
    for c in range(1, soft_BCHW.shape[1]):  # many times faster than argmax over the labels
        labels_BHW.masked_fill_(soft_BCHW[:, c] > best_BHW, c)
        best_BHW = torch.maximum(best_BHW, soft_BCHW[:, c])
    return labels_BHW


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


@lru_cache(maxsize=32)
def nearest_sources(size: int, source: int, device: torch.device) -> Tensor:
    """int64 (size,): where `_nearest` takes the pixels along an axis of `source` pixels from."""
    places = _nearest(np.arange(source, dtype=np.int32)[None], (1, size))
    return torch.from_numpy(places[0].astype(np.int64)).to(device)
