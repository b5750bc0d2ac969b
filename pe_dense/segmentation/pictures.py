"""Runs a trained segmentor over images and draws image, prediction, truth and errors.

Shape legend: H W pixels of the image file, K classes.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pe_dense.data.picture import read_picture
from pe_dense.data.scored_images import ScoredImages
from pe_dense.pictures.colours import WRONG, class_colour, faint_grey, hatched
from pe_dense.pictures.drawing import (
    Panel,
    panel_grid,
    panel_scale,
    resized,
    short_name,
    with_legend,
)
from pe_dense.pictures.folder import Look
from pe_dense.pictures.masks import VOID, class_map
from pe_dense.pixelwise.mean_iou import image_counts


@dataclass(frozen=True)
class Segmented:
    """An image and its maps.

    Attributes:
        image_HW3: RGB uint8.
        labels_HW: Predicted classes.
        truth_HW: Annotated classes, `VOID` where there are none; None without annotation.
    """

    image_HW3: np.ndarray
    labels_HW: np.ndarray
    truth_HW: np.ndarray | None


@dataclass(frozen=True)
class ImageScores:
    """How prediction and truth agree in one image; all 0..1.

    Attributes:
        iou_K: nan of classes that are in neither map.
        truth_K: Share of the annotated pixels that a class has.
        accuracy: Share of the annotated pixels that are right; nan without any.
    """

    iou_K: np.ndarray
    truth_K: np.ndarray
    accuracy: float

    @property
    def miou(self) -> float:
        """Mean over the classes that are in either map; nan without annotated pixels."""
        is_there = ~np.isnan(self.iou_K)
        return float(self.iou_K[is_there].mean()) if is_there.any() else float("nan")


def image_scores(segmented: Segmented, num_classes: int) -> ImageScores | None:
    """Scores of one image; None without annotation.

    Raises:
        ValueError: If sizes differ, or a class is out of range.
    """
    if segmented.truth_HW is None:
        return None
    right_K, predicted_K, truth_K = image_counts(
        segmented.labels_HW, segmented.truth_HW, num_classes, VOID
    ).astype(np.float64)
    union_K, total = predicted_K + truth_K - right_K, truth_K.sum()
    with np.errstate(divide="ignore", invalid="ignore"):
        accuracy = float(right_K.sum() / total)
        return ImageScores(right_K / union_K, truth_K / total, accuracy)


def palette_of(dataset: Mapping[str, Any], classes: Sequence[str]) -> np.ndarray:
    """Colours (K, 3) uint8: the data set's own where it has some, else distinct ones.

    Args:
        dataset: The data set of a resolved config; a palette in its metainfo comes first.
        classes: Names, by label.
    """
    from mmseg.registry import DATASETS

    kind = DATASETS.get(dataset["type"])
    known, given = getattr(kind, "METAINFO", {}), dataset.get("metainfo") or {}
    if len(given.get("palette") or ()) == len(classes):
        return np.array(given["palette"], dtype=np.uint8)
    colours = dict(zip(known.get("classes") or (), known.get("palette") or (), strict=False))
    if all(name in colours for name in classes):
        return np.array([colours[name] for name in classes], dtype=np.uint8)
    return np.array([class_colour(k) for k in range(len(classes))], dtype=np.uint8)


def look_at(
    segmented: Segmented, title: str, classes: Sequence[str], palette_K3: np.ndarray
) -> Look:
    """Scores of an image, and how it is drawn; the worst by mIoU comes first.

    The mIoU of an image is over the classes that are in its truth or its prediction; their mean is
    not the mIoU of the data set, which sums areas first.
    """
    scores = image_scores(segmented, len(classes))
    if scores is None:
        words, rank = "mIoU    -  accuracy    -", (2.0, 0.0)
    elif np.isnan(scores.miou):
        words, rank = "mIoU    -  accuracy    -  nothing annotated", (1.0, 0.0)
    else:
        words = f"mIoU {scores.miou:.2f}  accuracy {scores.accuracy:.2f}"
        rank = (0.0, scores.miou)
    return Look(
        rank,
        words,
        lambda side: draw_segmented(segmented, scores, classes, palette_K3, title, side),
    )


class Segmenter:
    """A trained segmentor with the images that its config tests on.

    Args:
        model: In eval mode.
        cfg: Its resolved config; images are loaded as it tests.
    """

    sheet_side = 300  # pixels of a panel on the sheet

    def __init__(self, model: torch.nn.Module, cfg: Mapping[str, Any]) -> None:
        dataset, classes = cfg["test_dataloader"]["dataset"], cfg["classes"]
        self.model, self.images = model, ScoredImages(dataset, "LoadAnnotations", "seg_map_path")
        self.spread_files, palette_K3 = self.images.spread_files, palette_of(dataset, classes)
        self.bits = cfg.get("image_bits")
        self.look_at = functools.partial(look_at, classes=classes, palette_K3=palette_K3)

    def see(self, file: Path) -> Segmented:
        """An image with its maps.

        Raises:
            ValueError: If it is missing or cannot be decoded.
        """
        _, sample, is_annotated = self.images.predict(self.model, file)
        truth_HW = sample.gt_sem_seg.data[0].numpy() if is_annotated else None
        image_HW3 = read_picture(file, as_stored=True, bits=self.bits)  # as it was loaded
        return Segmented(image_HW3, sample.pred_sem_seg.data[0].numpy(), truth_HW)


def draw_segmented(
    segmented: Segmented,
    scores: ImageScores | None,
    classes: Sequence[str],
    palette_K3: np.ndarray,
    title: str = "",
    side: int | None = None,
) -> np.ndarray:
    """Image, prediction, truth and errors with a legend; without truth, the first two.

    Wrong pixels are red on the grey image, and pixels that are not annotated are hatched.

    Args:
        segmented: Maps of the size of the image.
        scores: Of the same; None without truth.
        classes: Names, by label.
        palette_K3: Colours, by label.
        title: Shown at the bottom.
        side: Longer side of a panel in pixels; by default as `panel_scale` says.

    Returns:
        RGB uint8.

    Raises:
        ValueError: If a map has another size than the image.
    """
    size = segmented.image_HW3.shape[:2]
    for name, map_HW in (("prediction", segmented.labels_HW), ("label map", segmented.truth_HW)):
        if map_HW is not None and map_HW.shape != size:
            raise ValueError(
                f"the {name} is {map_HW.shape} and the image {size}; load annotations after "
                "resizing, so that both keep the size of the file"
            )
    scale = panel_scale(*size, side)
    picture = resized(segmented.image_HW3, scale)
    labels_HW = resized(segmented.labels_HW.astype(np.int32), scale, is_nearest=True)
    panels = [
        Panel(picture, "image"),
        Panel(class_map(labels_HW, picture, palette_K3), "prediction"),
    ]
    if segmented.truth_HW is not None:
        truth_HW = resized(segmented.truth_HW.astype(np.int32), scale, is_nearest=True)
        panels.append(Panel(class_map(truth_HW, picture, palette_K3), "truth"))
        panels.append(Panel(errors(labels_HW, truth_HW, picture), error_heading(scores)))
    entries = [(palette_K3[k].tolist(), text) for k, text in legend(segmented, scores, classes)]
    facts = []
    if scores is not None and not np.isnan(scores.miou):
        facts = ["numbers: IoU in this image", f"mIoU {scores.miou:.2f}"]
    return with_legend(panel_grid(panels).picture_HW3, entries, facts, title)


def errors(labels_HW: np.ndarray, truth_HW: np.ndarray, image_HW3: np.ndarray) -> np.ndarray:
    """Wrong pixels in red on the grey image, pixels that are not annotated hatched."""
    ground = faint_grey(image_HW3)
    is_wrong_HW = (labels_HW != truth_HW) & (truth_HW != VOID)
    red = 0.8 * np.array(WRONG, dtype=np.float32) + 0.2 * ground
    picture = np.where(is_wrong_HW[..., None], red.round().astype(np.uint8), ground)
    return hatched(picture, truth_HW == VOID)


def error_heading(scores: ImageScores) -> str:
    """Words above the errors.

    Example:
        >>> error_heading(ImageScores(np.array([0.5]), np.array([1.0]), 0.875))
        'errors: 12.5 % of annotated pixels'
    """
    if np.isnan(scores.accuracy):
        return "errors: nothing is annotated"
    return f"errors: {100 * (1 - scores.accuracy):.1f} % of annotated pixels"


def legend(
    segmented: Segmented, scores: ImageScores | None, classes: Sequence[str]
) -> list[tuple[int, str]]:
    """Classes in the picture with their IoU, by area: those in the truth first.

    Example:
        >>> image = np.zeros((1, 3, 3), np.uint8)
        >>> maps = Segmented(image, np.array([[0, 1, 1]]), np.array([[0, 0, 0]]))
        >>> legend(maps, image_scores(maps, 3), ["sky", "wall", "sea"])
        [(0, 'sky 0.33'), (1, 'wall 0.00')]
    """
    predicted_K = np.bincount(segmented.labels_HW.ravel(), minlength=len(classes))
    truth_K = np.zeros(len(classes)) if scores is None else np.nan_to_num(scores.truth_K)
    order = np.lexsort((-predicted_K, -truth_K))
    shown = [int(k) for k in order if predicted_K[k] or truth_K[k]]
    iou_K = np.full(len(classes), np.nan) if scores is None else scores.iou_K
    return [
        (k, short_name(classes[k]) + ("" if np.isnan(iou_K[k]) else f" {iou_K[k]:.2f}"))
        for k in shown
    ]
