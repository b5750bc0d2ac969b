"""Label maps of images as labels on a token grid, and soft labels of a grid as label maps.

Soft labels become a label map by one of three rules:

* DINO's script (facebookresearch/dino @ 7c446df): bilinear by the patch size, each label stretched
  to 0..1, the best label, sampled to the size of the image.
* DINOv3's paper (arXiv:2508.10104, appendix D): bilinear to the size of the image, the best label.
* DINOv3's notebook (facebookresearch/dinov3 @ 6876159, notebooks/segmentation_tracking.ipynb): each
  pixel takes its token's labels, each label is stretched to 0..1, then the best label.

`mixed_cells` makes the maps of the second rule for many settings of a frame at once.

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

SAMPLINGS = ("pillow", "torch")


def labels_on_grid(
    label_map_HW: np.ndarray,
    grid_hw: tuple[int, int],
    num_labels: int | None = None,
    sampling: str = "pillow",
) -> Tensor:
    """One-hot labels of a label map, sampled at token centres.

    A token centre that lies between two pixels, as a third of them do where 480 rows become 90,
    counts as one or the other by the rounding of whoever samples.

    Args:
        label_map_HW: uint8; 0 is background, 255 (void) counts as background.
        grid_hw: Token grid.
        num_labels: C with background, or None for the highest label plus 1. Labels that fall
            between the samples keep an empty channel.
        sampling: 'pillow', its nearest resizing, as DINO's script has it; 'torch', its
            nearest-exact interpolation, as DINOv3's notebook has it.

    Returns:
        float32 (C, h, w).

    Raises:
        ValueError: If the map is no uint8 image or has a label that C does not allow, or the
            sampling is another.
    """
    if sampling not in SAMPLINGS:
        raise ValueError(f"sampling={sampling!r} is unknown; choose one of {', '.join(SAMPLINGS)}")
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
    if sampling == "pillow":
        labels_hw = torch.from_numpy(_nearest(label_map_HW, grid_hw).astype(np.int64))
    else:
        whole_11HW = torch.from_numpy(label_map_HW)[None, None].float()
        labels_hw = F.interpolate(whole_11HW, grid_hw, mode="nearest-exact")[0, 0].long()
    return F.one_hot(labels_hw, num_labels).permute(2, 0, 1).float()


def label_map_from_soft(
    soft_Chw: Tensor,
    image_hw: tuple[int, int],
    patch_size: int | None = None,
    stretch: bool = True,
    nearest: bool = False,
) -> np.ndarray:
    """Label map at the size of the image.

    Args:
        soft_Chw: Soft labels on the token grid.
        image_hw: Size of the result.
        patch_size: Upsample bilinearly by this factor, take the best label and sample the image
            size from it (DINO's script); None upsamples to the image size directly (DINOv3).
        stretch: Stretch each upsampled channel to 0..1 before the best is taken, as DINO's script
            and DINOv3's notebook do; DINOv3's paper does not say so. A channel without any
            variation stays as it is, and with `nearest` becomes 0, as in the notebook.
        nearest: Each pixel takes the labels of its token, without interpolation (DINOv3's
            notebook); without a patch size.

    Returns:
        uint8 (H, W); the lowest of equally good labels.

    Raises:
        ValueError: If there are no or more than 255 labels, or `nearest` comes with a patch size.
    """
    if soft_Chw.ndim != 3 or not 0 < len(soft_Chw) <= VOID:
        raise ValueError(
            f"soft labels of shape {tuple(soft_Chw.shape)} must be (C, h, w), C from 1 to {VOID}"
        )
    if nearest:
        _no_patch_size(patch_size)
        return _token_label_maps(soft_Chw[None], image_hw, stretch)[0].cpu().numpy()
    labels_1HW = _best_labels(soft_Chw[None], image_hw, patch_size, stretch)
    return _nearest(labels_1HW[0].cpu().numpy(), image_hw)


def device_label_maps(
    soft_BChw: Tensor,
    image_hw: tuple[int, int],
    patch_size: int | None,
    stretch: bool,
    nearest: bool = False,
) -> Tensor:
    """`label_map_from_soft` of several at once, where they are: uint8 (B, H, W)."""
    if nearest:
        _no_patch_size(patch_size)
        return _token_label_maps(soft_BChw, image_hw, stretch)
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
    return _first_best(soft_BCHW)


def _no_patch_size(patch_size: int | None) -> None:
    if patch_size is not None:
        raise ValueError(
            f"nearest goes straight to the image size, and patch_size={patch_size} does not apply; "
            "leave it None"
        )


def _token_label_maps(soft_BChw: Tensor, image_hw: tuple[int, int], stretch: bool) -> Tensor:
    """uint8 (B, H, W) by the rule of DINOv3's notebook.

    Pixels of a token are equal, so the best label is taken among tokens: stretched to the range of
    the tokens that some pixel shows, which are all of them unless the image has fewer pixels.
    """
    grid_hw = soft_BChw.shape[2:]
    for dim, size in enumerate(image_hw, start=2):
        shown, _ = shown_tokens(size, soft_BChw.shape[dim], soft_BChw.device)
        if len(shown) < soft_BChw.shape[dim]:
            soft_BChw = soft_BChw.index_select(dim, shown)
    labels_BHW = _first_best(scale_channels(soft_BChw) if stretch else soft_BChw)
    for dim, size in enumerate(image_hw, start=1):
        _, places = shown_tokens(size, grid_hw[dim - 1], labels_BHW.device)
        labels_BHW = labels_BHW.index_select(dim, places)
    return labels_BHW


def _first_best(soft_BCHW: Tensor) -> Tensor:
    """uint8 (B, H, W) best label, the lowest of equally good ones."""
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


def scale_channels(x_BCHW: Tensor) -> Tensor:
    """Each channel shifted and scaled to 0..1; one that is constant becomes 0.

    Source: `postprocess_probs` of facebookresearch/dinov3 @ 6876159,
    notebooks/segmentation_tracking.ipynb; in float32 equal to it in the last digit.
    """
    low_BC11, high_BC11 = x_BCHW.amin((2, 3), keepdim=True), x_BCHW.amax((2, 3), keepdim=True)
    span_BC11 = high_BC11 - low_BC11
    return torch.where(span_BC11 > 0, (x_BCHW - low_BC11) / span_BC11, 0)


def _nearest(labels_HW: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    """Label map of another size, sampled at pixel centres."""
    height, width = size_hw
    return np.asarray(Image.fromarray(labels_HW).resize((width, height), Image.Resampling.NEAREST))


@lru_cache(maxsize=32)
def nearest_sources(size: int, source: int, device: torch.device) -> Tensor:
    """int64 (size,): where `_nearest` takes the pixels along an axis of `source` pixels from."""
    places = _nearest(np.arange(source, dtype=np.int32)[None], (1, size))
    return torch.from_numpy(places[0].astype(np.int64)).to(device)


@lru_cache(maxsize=32)
def shown_tokens(size: int, source: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Tokens that pixels along an axis take in torch's interpolation mode 'nearest'.

    Returns:
        int64 tokens that some pixel takes, rising, and (size,) the place among them of each
        pixel's own.

    Example:
        >>> [places.tolist() for places in shown_tokens(5, 2, torch.device("cpu"))]
        [[0, 1], [0, 0, 0, 1, 1]]
    """
    tokens = torch.arange(source, dtype=torch.float32)[None, None]
    taken = F.interpolate(tokens, size=size, mode="nearest")[0, 0].long()
    shown, places = taken.unique(return_inverse=True)
    return shown.to(device), places.to(device)
