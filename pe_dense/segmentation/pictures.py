"""Runs a trained segmentor over images and draws image, prediction, truth and errors.

Shape legend: H W pixels of the image file, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pe_dense.data.scored_images import ScoredImages
from pe_dense.pictures.drawing import (
    FOOTER,
    GREY,
    INK,
    MARGIN,
    Panel,
    below,
    class_colour,
    faint_grey,
    fitting,
    font,
    hatched,
    panel_grid,
    panel_scale,
    resized,
)
from pe_dense.pictures.folder import Look, read_image, write_looks
from pe_dense.pixelwise.mean_iou import image_counts

IGNORED = 255
WRONG = (225, 20, 40)
SHEET_SIDE = 300  # pixels of a panel there
LEGEND_ROW, MAX_LEGEND_ROWS = 22, 4


@dataclass(frozen=True)
class Segmented:
    """The maps of one image.

    Attributes:
        labels_HW: Predicted classes.
        truth_HW: Annotated classes, `IGNORED` where there are none; None without annotation.
    """

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
        segmented.labels_HW, segmented.truth_HW, num_classes, IGNORED
    ).astype(np.float64)
    union_K, total = predicted_K + truth_K - right_K, truth_K.sum()
    with np.errstate(divide="ignore", invalid="ignore"):
        accuracy = float(right_K.sum() / total)
        return ImageScores(right_K / union_K, truth_K / total, accuracy)


class Segmenter:
    """A trained segmentor with the images that its config tests on.

    Args:
        model: The model, in eval mode.
        images: Loads them.
    """

    def __init__(self, model: torch.nn.Module, images: ScoredImages) -> None:
        self.model, self.images = model, images

    def __call__(self, file: Path) -> Segmented:
        """Label one image.

        Raises:
            ValueError: If it is missing or cannot be decoded.
        """
        _, sample, is_annotated = self.images.predict(self.model, file)
        labels_HW = sample.pred_sem_seg.data[0].numpy()
        return Segmented(labels_HW, sample.gt_sem_seg.data[0].numpy() if is_annotated else None)


def images_of(dataset: Mapping[str, Any]) -> ScoredImages:
    """The images of a segmentation data set, given as in a resolved config."""
    return ScoredImages(dataset, "LoadAnnotations", "seg_map_path")


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
    segmented: Segmented,
    image_HW3: np.ndarray,
    classes: Sequence[str],
    palette_K3: np.ndarray,
    title: str,
) -> Look:
    """Scores of an image, and how it is drawn."""
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
        lambda side: draw_segmented(segmented, scores, image_HW3, classes, palette_K3, title, side),
    )


def write_pictures(
    out: Path,
    files: Sequence[Path],
    segment: Callable[[Path], Segmented],
    classes: Sequence[str],
    palette_K3: np.ndarray,
    on_progress: Callable[[int, int], None] | None = None,
) -> list[str]:
    """One PNG an image, a sheet of the worst ones by mIoU, and an index.

    The mIoU of an image is over the classes that are in its truth or its prediction; their mean is
    not the mIoU of the data set, which sums areas first.

    Args:
        out: Folder; new or empty.
        files: Images.
        segment: The segmentor.
        classes: Names, by label.
        palette_K3: Colours, by label.
        on_progress: Called with (images done, images to do).

    Returns:
        The lines of the index, the worst image first: mIoU, pixel accuracy, picture, image.

    Raises:
        ValueError: If the folder is not empty, or an image or label map cannot be used.
    """

    def look(file: Path) -> Look:
        segmented, image_HW3 = segment(file), read_image(file)
        try:
            return look_at(segmented, image_HW3, classes, palette_K3, file.name)
        except ValueError as error:
            raise ValueError(f"image {file}: {error}") from error

    return write_looks(out, files, look, SHEET_SIDE, on_progress)


def draw_segmented(
    segmented: Segmented,
    scores: ImageScores | None,
    image_HW3: np.ndarray,
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
        image_HW3: RGB, uint8.
        classes: Names, by label.
        palette_K3: Colours, by label.
        title: Shown at the bottom.
        side: Longer side of a panel in pixels; by default as `panel_scale` says.

    Returns:
        RGB uint8.

    Raises:
        ValueError: If a map has another size than the image.
    """
    for name, map_HW in (("prediction", segmented.labels_HW), ("label map", segmented.truth_HW)):
        if map_HW is not None and map_HW.shape != image_HW3.shape[:2]:
            raise ValueError(
                f"the {name} is {map_HW.shape} and the image {image_HW3.shape[:2]}; load "
                "annotations after resizing, so that both keep the size of the file"
            )
    scale = panel_scale(*image_HW3.shape[:2], side)
    picture = resized(image_HW3, scale)
    labels_HW = resized(segmented.labels_HW.astype(np.int32), scale, is_nearest=True)
    panels = [
        Panel(picture, "image"),
        Panel(coloured(labels_HW, picture, palette_K3), "prediction"),
    ]
    if segmented.truth_HW is not None:
        truth_HW = resized(segmented.truth_HW.astype(np.int32), scale, is_nearest=True)
        panels.append(Panel(coloured(truth_HW, picture, palette_K3), "truth"))
        panels.append(Panel(errors(labels_HW, truth_HW, picture), error_heading(scores)))
    entries = legend(segmented, scores, classes)
    return _with_legend(panel_grid(panels).picture_HW3, entries, palette_K3, title, scores)


def coloured(labels_HW: np.ndarray, image_HW3: np.ndarray, palette_K3: np.ndarray) -> np.ndarray:
    """Colours of classes with a trace of the image; hatched where nothing is annotated."""
    ignored_HW = labels_HW == IGNORED
    colours = palette_K3[np.where(ignored_HW, 0, labels_HW)].astype(np.float32)
    ground = faint_grey(image_HW3, lightness=0.0).astype(np.float32)
    return hatched((0.8 * colours + 0.2 * ground).round().astype(np.uint8), ignored_HW)


def errors(labels_HW: np.ndarray, truth_HW: np.ndarray, image_HW3: np.ndarray) -> np.ndarray:
    """Wrong pixels in red on the grey image, pixels that are not annotated hatched."""
    ground = faint_grey(image_HW3)
    is_wrong_HW = (labels_HW != truth_HW) & (truth_HW != IGNORED)
    red = 0.8 * np.array(WRONG, dtype=np.float32) + 0.2 * ground
    picture = np.where(is_wrong_HW[..., None], red.round().astype(np.uint8), ground)
    return hatched(picture, truth_HW == IGNORED)


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
        >>> maps = Segmented(np.array([[0, 1, 1]]), np.array([[0, 0, 0]]))
        >>> legend(maps, image_scores(maps, 3), ["sky", "wall", "sea"])
        [(0, 'sky 0.33'), (1, 'wall 0.00')]
    """
    predicted_K = np.bincount(segmented.labels_HW.ravel(), minlength=len(classes))
    truth_K = np.zeros(len(classes)) if scores is None else np.nan_to_num(scores.truth_K)
    order = np.lexsort((-predicted_K, -truth_K))
    shown = [int(k) for k in order if predicted_K[k] or truth_K[k]]
    if scores is None:
        return [(k, _short(classes[k])) for k in shown]
    return [
        (k, _short(classes[k]) + ("" if np.isnan(scores.iou_K[k]) else f" {scores.iou_K[k]:.2f}"))
        for k in shown
    ]


def _short(name: str) -> str:
    return name if len(name) <= 24 else name[:22] + "..."


def _with_legend(
    grid_HW3: np.ndarray,
    entries: Sequence[tuple[int, str]],
    palette_K3: np.ndarray,
    title: str,
    scores: ImageScores | None,
) -> np.ndarray:
    """The grid with colours, names and IoU below it, then the title and the scores."""
    width, letters = grid_HW3.shape[1], font(13)
    rows: list[list[tuple[int, str, float]]] = [[]]
    x, num_shown = float(MARGIN), 0
    for label, text in entries:
        needed = 18 + letters.getlength(text) + 18
        if x + needed > width and rows[-1]:
            if len(rows) == MAX_LEGEND_ROWS:
                break
            rows, x = [*rows, []], float(MARGIN)
        rows[-1].append((label, text, x))
        x, num_shown = x + needed, num_shown + 1
    hidden = len(entries) - num_shown
    canvas, draw = below(grid_HW3, 6 + len(rows) * LEGEND_ROW + FOOTER)
    top = grid_HW3.shape[0] + 6
    for number, row in enumerate(rows):
        middle = top + (number + 0.5) * LEGEND_ROW
        for label, text, x in row:
            colour = tuple(palette_K3[label].tolist())
            draw.rectangle((x, middle - 6, x + 12, middle + 6), colour, INK)
            draw.text((x + 18, middle), text, INK, letters, anchor="lm")
    middle = top + len(rows) * LEGEND_ROW + FOOTER / 2
    facts = [f"{hidden} more class{'' if hidden == 1 else 'es'}"] if hidden else []
    if scores is not None and not np.isnan(scores.miou):
        facts += ["numbers: IoU in this image", f"mIoU {scores.miou:.2f}"]
    words = "; ".join(facts)
    draw.text((MARGIN, middle), words, GREY, letters, anchor="lm")
    room = width - 3 * MARGIN - letters.getlength(words)
    draw.text((width - MARGIN, middle), fitting(title, room, 13), GREY, letters, anchor="rm")
    return np.asarray(canvas)
