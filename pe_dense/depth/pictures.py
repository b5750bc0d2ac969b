"""Runs a trained depth estimator over images and draws image, prediction, truth and errors.

All depths are in metres. Shape legend: H W pixels, N colours.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pe_dense.data.scored_images import ScoredImages
from pe_dense.pictures.colours import (
    DEPTH_COLOURS,
    ERROR_COLOURS,
    UNKNOWN,
    colour_table,
    coloured,
    filled,
)
from pe_dense.pictures.drawing import (
    BAR,
    FOOTER,
    Panel,
    below,
    draw_footer,
    draw_scale_bar,
    panel_grid,
    panel_scale,
    resized,
)
from pe_dense.pictures.folder import Look
from pe_dense.pixelwise.depth_errors import depth_error_sums, scored_pixels

SPARSE = 0.3  # a smaller share of annotated pixels is a scan, drawn as dots
DOT_RADIUS = 1.5  # pixels of the picture
ERROR_LIMITS = (0.05, 0.1, 0.2, 0.5, 1.0)


@dataclass(frozen=True)
class Estimated:
    """What was estimated in one image.

    Attributes:
        image_HW3: RGB uint8, as the model saw it: some protocols crop it first.
        depth_HW: Predicted.
        truth_HW: Annotated, 0 where nothing is; None without annotation.
    """

    image_HW3: np.ndarray
    depth_HW: np.ndarray
    truth_HW: np.ndarray | None


@dataclass(frozen=True)
class ImageErrors:
    """Errors of one image, as its protocol scores it.

    Attributes:
        rmse: Metres; nan where no pixel counts.
        abs_rel: Mean of |prediction - truth| / truth; nan where no pixel counts.
        counts_HW: bool, pixels that are scored.
        relative_HW: (prediction - truth) / truth; 0 where nothing is scored.
    """

    rmse: float
    abs_rel: float
    counts_HW: np.ndarray
    relative_HW: np.ndarray


class Estimator:
    """A trained depth estimator with the images that its config tests on.

    Args:
        model: In eval mode.
        cfg: Its resolved config; images are loaded as it tests.
    """

    sheet_side = 300  # pixels of a panel on the sheet

    def __init__(self, model: torch.nn.Module, cfg: Mapping[str, Any]) -> None:
        dataset = cfg["test_dataloader"]["dataset"]
        self.model, self.images = model, ScoredImages(dataset, "LoadDepth", "depth_map_path")
        self.spread_files = self.images.spread_files
        self.look_at = functools.partial(look_at, scoring=scoring_of(cfg["test_evaluator"]))

    def see(self, file: Path) -> Estimated:
        """An image with its depth.

        Raises:
            ValueError: If it is missing or cannot be decoded.
        """
        import cv2

        loaded, sample, is_annotated = self.images.predict(self.model, file)
        depth_HW = sample.pred_depth_map.data[0].float().numpy()
        image_HW3 = loaded.numpy()[::-1].transpose(1, 2, 0).clip(0, 255).astype(np.uint8)
        image_HW3 = np.ascontiguousarray(image_HW3)
        if image_HW3.shape[:2] != depth_HW.shape:  # the pipeline resizes
            image_HW3 = cv2.resize(image_HW3, depth_HW.shape[::-1], interpolation=cv2.INTER_AREA)
        truth_HW = sample.gt_depth_map.data[0].float().numpy() if is_annotated else None
        return Estimated(image_HW3, depth_HW, truth_HW)


def scoring_of(evaluator: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Limits and crop with which a config scores depth; see `depth_error_sums`.

    Raises:
        ValueError: If it has no metric of type DepthErrors.
    """
    metrics = [evaluator] if isinstance(evaluator, Mapping) else list(evaluator)
    for metric in metrics:
        if metric["type"] == "DepthErrors":
            return {
                name: metric[name]
                for name in ("min_depth", "max_depth", "crop", "clamp")
                if name in metric
            }
    raise ValueError("test_evaluator of the config has no DepthErrors; use a config of depth/")


def image_errors(estimated: Estimated, scoring: Mapping[str, Any]) -> ImageErrors | None:
    """Errors of one image under the rules of a protocol; None without annotation.

    Raises:
        ValueError: If sizes differ, or a prediction is not a positive number.
    """
    if estimated.truth_HW is None:
        return None
    truth_HW = estimated.truth_HW.astype(np.float64)
    depth_HW = estimated.depth_HW.astype(np.float64)
    sums = depth_error_sums(depth_HW, truth_HW, **scoring)
    rules = {name: value for name, value in scoring.items() if name != "clamp"}
    counts_HW = scored_pixels(torch.from_numpy(truth_HW), **rules).numpy()
    if scoring.get("clamp", True):
        depth_HW = depth_HW.clip(scoring.get("min_depth", 1e-3), scoring.get("max_depth"))
    relative_HW = np.zeros_like(truth_HW)
    relative_HW[counts_HW] = depth_HW[counts_HW] / truth_HW[counts_HW] - 1
    found = sums.metrics() if counts_HW.any() else dict(rmse=np.nan, abs_rel=np.nan)
    return ImageErrors(found["rmse"], found["abs_rel"], counts_HW, relative_HW)


def look_at(estimated: Estimated, title: str, scoring: Mapping[str, Any]) -> Look:
    """Errors of an image, and how it is drawn; the worst by RMSE comes first."""
    errors = image_errors(estimated, scoring)
    if errors is None:
        words, rank = "RMSE      - m  AbsRel     -", (2.0, 0.0)
    elif np.isnan(errors.rmse):
        words, rank = "RMSE      - m  AbsRel     -  nothing to score", (1.0, 0.0)
    else:
        words = f"RMSE {errors.rmse:6.3f} m  AbsRel {errors.abs_rel:.3f}"
        rank = (0.0, -errors.rmse)
    return Look(rank, words, lambda side: draw_estimated(estimated, errors, title, side))


def draw_estimated(
    estimated: Estimated, errors: ImageErrors | None, title: str = "", side: int | None = None
) -> np.ndarray:
    """Image, prediction, truth and errors with scale bars; without truth, the first two.

    Prediction and truth share one scale, that of the truth. Pixels that are not annotated, or not
    scored, are grey.

    Args:
        estimated: Maps of the size of the image.
        errors: Of the same; None without truth.
        title: Shown at the bottom.
        side: Longer side of a panel in pixels; by default as `panel_scale` says.

    Returns:
        RGB uint8.
    """
    scale = panel_scale(*estimated.depth_HW.shape, side)
    limits = depth_limits(estimated)
    depth_colours = colour_table(DEPTH_COLOURS)
    prediction = coloured(estimated.depth_HW, limits, depth_colours)
    panels = [
        Panel(resized(estimated.image_HW3, scale), "image"),
        Panel(resized(prediction, scale), "prediction"),
    ]
    bars = [(1, 2, depth_colours, limits, "m", False)]
    if estimated.truth_HW is not None:
        truth_HW, is_known_HW, dots = _dense(
            estimated.truth_HW, estimated.truth_HW > 0, scale, "truth"
        )
        picture = coloured(truth_HW, limits, depth_colours)
        panels.append(Panel(filled(picture, ~is_known_HW, UNKNOWN), dots))
        relative_HW, is_known_HW, dots = _dense(
            errors.relative_HW, errors.counts_HW, scale, error_heading(errors)
        )
        limit = error_limit(errors)
        error_colours = colour_table(ERROR_COLOURS)
        picture = coloured(relative_HW, (-limit, limit), error_colours)
        panels.append(Panel(filled(picture, ~is_known_HW, UNKNOWN), dots))
        percents = (-100 * limit, 100 * limit)
        bars = [(1, 3, depth_colours, limits, "m", False)]
        bars.append((3, 4, error_colours, percents, "%", True))
    grid = panel_grid(panels)
    if len(grid.columns) < len(panels):  # two columns: depth below the left, errors the right
        bars = [(i, i + 1, *bar[2:]) for i, bar in enumerate(bars)]
    canvas, draw = below(grid.picture_HW3, BAR + FOOTER)
    top, width = grid.picture_HW3.shape[:2]
    for first, stop, colours, ends, unit, is_signed in bars:
        place = (grid.columns[first][0], grid.columns[stop - 1][1], top)
        draw_scale_bar(canvas, place, colours, ends, unit, is_signed)
    draw_footer(draw, top + BAR + FOOTER / 2, width, footer_words(errors), title)
    return np.asarray(canvas)


def depth_limits(estimated: Estimated) -> tuple[float, float]:
    """Ends of the colours: all but 0.5 % at each end of the truth, or of the prediction.

    Example:
        >>> depth = np.full((2, 2), 4.0)
        >>> depth_limits(Estimated(np.zeros((2, 2, 3), np.uint8), depth, None))
        (3.9, 4.1)
    """
    truth_HW = estimated.truth_HW
    values = estimated.depth_HW[np.isfinite(estimated.depth_HW)]
    if truth_HW is not None and (truth_HW > 0).any():
        values = truth_HW[truth_HW > 0]
    if not values.size:
        return 0.0, 1.0
    low, high = (float(v) for v in np.percentile(values, (0.5, 99.5)))
    return (low, high) if high - low > 1e-3 else (low - 0.1, high + 0.1)


def error_limit(errors: ImageErrors) -> float:
    """End of the colours of relative errors: the least round share that holds 95 % of them."""
    if not errors.counts_HW.any():
        return ERROR_LIMITS[-1]
    most = np.percentile(np.abs(errors.relative_HW[errors.counts_HW]), 95)
    return next((limit for limit in ERROR_LIMITS if most <= limit), ERROR_LIMITS[-1])


def error_heading(errors: ImageErrors) -> str:
    """Words above the errors."""
    if np.isnan(errors.abs_rel):
        return "errors: nothing to score"
    return f"relative error, mean {100 * errors.abs_rel:.1f} %"


def footer_words(errors: ImageErrors | None) -> str:
    """Scores of the image, and what the colours of errors mean."""
    if errors is None:
        return ""
    colours = "blue: too near, red: too far, grey: not annotated or not scored"
    if np.isnan(errors.rmse):
        return colours
    return f"RMSE {errors.rmse:.3f} m, AbsRel {errors.abs_rel:.3f}; {colours}"


def _dense(
    values_HW: np.ndarray, is_known_HW: np.ndarray, scale: float, heading: str
) -> tuple[np.ndarray, np.ndarray, str]:
    """A map at the size of the picture; the points of a scan become dots, and the heading says so.

    A dot has the value of the nearest known pixel.
    """
    import cv2

    height, width = (max(round(side * scale), 1) for side in values_HW.shape)
    if not is_known_HW.any() or is_known_HW.mean() >= SPARSE:
        size, way = (width, height), cv2.INTER_NEAREST
        known = cv2.resize(is_known_HW.astype(np.uint8), size, interpolation=way)
        return cv2.resize(values_HW, size, interpolation=way), known.astype(bool), heading
    rows, columns = np.nonzero(is_known_HW)
    points_HW = np.zeros((height, width), values_HW.dtype)
    is_empty_HW = np.ones((height, width), np.uint8)
    at = ((rows + 0.5) * scale).astype(int), ((columns + 0.5) * scale).astype(int)
    at = at[0].clip(max=height - 1), at[1].clip(max=width - 1)
    points_HW[at], is_empty_HW[at] = values_HW[rows, columns], 0
    distance_HW, nearest_HW = cv2.distanceTransformWithLabels(
        is_empty_HW, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    value_of = np.zeros(int(nearest_HW.max()) + 1, values_HW.dtype)
    value_of[nearest_HW[is_empty_HW == 0]] = points_HW[is_empty_HW == 0]
    radius = max(DOT_RADIUS, 0.5 * scale)
    return value_of[nearest_HW], distance_HW <= radius, f"{heading} (points enlarged)"
