"""Nearest-centroid segmentation of frozen patches: the cheapest score of a student.

Each class is the mean of the unit vectors of the training patches in which most pixels have it; a
validation patch takes the class of the nearest centroid by cosine; every pixel takes the class of
its patch. No parameter is trained and nothing is drawn, so a score costs one pass over the images.
It is no published protocol and serves to watch a training alone.

Shape legend: C width, H W pixels, h w patch grid, N patches, K classes.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pe_dense.alignment.frozen_teacher import normalised
from pe_dense.alignment.teacher_cache import whole_image
from pe_dense.data.checks.repeated_images import repeated_images
from pe_dense.data.checks.rules import require_sound
from pe_dense.data.label_map import read_labels, require_map_size
from pe_dense.data.picture import read_picture

IGNORED = 255


def nearest_centroid_segmentation(
    encoder: nn.Module,
    data_root: str,
    num_classes: int,
    train: tuple[str, str] = ("images/training", "annotations/training"),
    val: tuple[str, str] = ("images/validation", "annotations/validation"),
    reduce_zero_label: bool = True,
    grid_side: int = 16,
    limit: int | None = None,
    layer: int = -1,
    bits: int | None = None,
) -> dict[str, float]:
    """Mean IoU and pixel accuracy of an encoder on folders of images and label maps.

    Args:
        encoder: Fulfils `contract.MapEncoder`; in eval mode.
        data_root: Folder that the pairs (images, label maps) are relative to.
        num_classes: K.
        train: Where centroids come from.
        val: What is scored.
        reduce_zero_label: Label 0 is ignored and label k is class k - 1.
        grid_side: Images are stretched to so many patches per side.
        limit: At most so many images of each; None takes all.
        layer: Block whose map is read.
        bits: Of 16-bit images; see `decode_picture`.

    Returns:
        'mIoU' over the classes that appear in labels or predictions, and 'aAcc', in 0..1.

    Raises:
        ValueError: If folders are missing or empty, an image of `val` is in `train` too, a label
            map is missing, unreadable or of another size, a label is out of range, or no training
            patch has a class.
    """
    require_sound(
        repeated_images(_images(data_root, train[0], limit), _images(data_root, val[0], limit))
    )
    like = next(encoder.parameters())
    totals_KC = torch.zeros(num_classes, encoder.embed_dim, device=like.device)

    def tokens_of(image_HW3: np.ndarray) -> Tensor:
        side = grid_side * encoder.patch_size
        images_13HW = whole_image(image_HW3, (side, side))[None].to(like)
        images_13HW = normalised(images_13HW, encoder.mean, encoder.std)
        map_Chw = encoder.forward_intermediates(images_13HW, (layer,))[0][0]
        return F.normalize(map_Chw.float().flatten(1).T, dim=-1)  # (N, C)

    grid_hw = (grid_side, grid_side)
    for image_HW3, labels_HW in _pairs(
        data_root, train, num_classes, reduce_zero_label, limit, bits
    ):
        label_N = majority(labels_HW, grid_hw, num_classes).flatten().to(like.device)
        known = label_N >= 0
        totals_KC.index_add_(0, label_N[known], tokens_of(image_HW3)[known])
    seen_K = totals_KC.abs().sum(1) > 0
    if not bool(seen_K.any()):
        raise ValueError(f"{data_root}: no training patch has a class; check reduce_zero_label")
    centroids_KC = F.normalize(totals_KC, dim=-1)
    confusion_KK = torch.zeros(num_classes, num_classes, dtype=torch.int64)
    for image_HW3, labels_HW in _pairs(data_root, val, num_classes, reduce_zero_label, limit, bits):
        cosine_NK = (tokens_of(image_HW3) @ centroids_KC.T).masked_fill(~seen_K, -2.0)
        map_11hw = cosine_NK.argmax(1).view(1, 1, *grid_hw).float().cpu()
        found_HW = F.interpolate(map_11hw, labels_HW.shape, mode="nearest-exact")[0, 0].long()
        known_HW = labels_HW >= 0
        pairs = labels_HW[known_HW] * num_classes + found_HW[known_HW]
        confusion_KK += pairs.bincount(minlength=num_classes**2).view_as(confusion_KK)
    return scores_of(confusion_KK)


def majority(labels_HW: Tensor, grid_hw: tuple[int, int], num_classes: int) -> Tensor:
    """The commonest class of every patch (h, w), -1 where most pixels have none.

    Example:
        >>> majority(torch.tensor([[0, 1, 1, -1]]), (1, 1), 2).tolist()
        [[1]]
    """
    shares = F.one_hot(labels_HW + 1, num_classes + 1).permute(2, 0, 1).float()  # (1 + K, H, W)
    return F.interpolate(shares[None], grid_hw, mode="area")[0].argmax(0) - 1


def scores_of(confusion_KK: Tensor) -> dict[str, float]:
    """Mean IoU and accuracy of a confusion matrix, rows the labels; 0 where it is empty.

    Example:
        >>> scores_of(torch.tensor([[1, 1], [0, 2]]))
        {'mIoU': 0.5833333333333333, 'aAcc': 0.75}
    """
    counts_KK = confusion_KK.double()
    right_K = counts_KK.diagonal()
    union_K = counts_KK.sum(0) + counts_KK.sum(1) - right_K
    present = union_K > 0
    if not bool(present.any()):
        return {"mIoU": 0.0, "aAcc": 0.0}
    return {
        "mIoU": (right_K[present] / union_K[present]).mean().item(),
        "aAcc": (right_K.sum() / counts_KK.sum()).item(),
    }


def _images(data_root: str, folder: str, limit: int | None) -> list[Path]:
    images = Path(data_root) / folder
    files = sorted(f for f in images.glob("*") if f.suffix in (".jpg", ".png"))[:limit]
    if not files:
        raise ValueError(f"{images} holds no .jpg or .png; check the probe's data_root")
    return files


def _pairs(
    data_root: str,
    folders: tuple[str, str],
    num_classes: int,
    reduce_zero_label: bool,
    limit: int | None,
    bits: int | None = None,
) -> Iterator[tuple[np.ndarray, Tensor]]:
    """Images (H, W, 3) BGR and labels (H, W), -1 where ignored."""
    maps = Path(data_root) / folders[1]
    for file in _images(data_root, folders[0], limit):
        target = maps / f"{file.stem}.png"
        image_HW3 = read_picture(file, as_stored=True, bits=bits)[..., ::-1].copy()
        raw_HW = read_labels(target)
        require_map_size(target, raw_HW, image_HW3.shape[:2])
        labels_HW = torch.from_numpy(raw_HW.astype(np.int64))
        ignored_HW = labels_HW == IGNORED
        if reduce_zero_label:
            ignored_HW |= labels_HW == 0
            labels_HW = labels_HW - 1
        labels_HW = labels_HW.masked_fill(ignored_HW, -1)
        if int(labels_HW.max()) >= num_classes:
            raise ValueError(
                f"{target} has class {int(labels_HW.max())}, but num_classes={num_classes}"
            )
        yield image_HW3, labels_HW
