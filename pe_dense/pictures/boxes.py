"""Boxes of objects: the truth on the left, what was detected on the right, or one panel alone.

An outline has the colour of its class, or of its identity in a video. Solid means that truth and
detection agree (IoU of 0.5 or more), dashed that they do not: an object that was missed on the
left, a false detection on the right. Pure functions from arrays to pictures.

Shape legend: H W pixels, Q things drawn in one picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from pe_dense.pictures.colours import GREY, INK, class_colour, id_colour
from pe_dense.pictures.drawing import (
    Panel,
    draw_tag,
    free_place,
    panel_grid,
    picture_scale,
    resized,
    short_name,
    tag_size,
    with_legend,
)
from pe_dense.pictures.masks import tint_mask


@dataclass(frozen=True)
class Boxes:
    """What is drawn in one picture.

    Attributes:
        boxes_Q4: x1, y1, x2, y2 in pixels of the picture.
        labels_Q: Classes, or identities.
        agrees_Q: bool, solid or dashed; None draws all solid.
        scores_Q: 0..1, shown behind the class; None for the truth.
        masks_QHW: bool, drawn as outlines; None where there are none.
        is_crowd_Q: bool, drawn dotted and grey; None for none.
    """

    boxes_Q4: np.ndarray
    labels_Q: np.ndarray
    agrees_Q: np.ndarray | None = None
    scores_Q: np.ndarray | None = None
    masks_QHW: np.ndarray | None = None
    is_crowd_Q: np.ndarray | None = None


def side_by_side(
    image_HW3: np.ndarray,
    truth: Boxes | None,
    detected: Boxes,
    classes: Sequence[str],
    title: str = "",
    side: int | None = None,
) -> np.ndarray:
    """One picture with truth and detections, or the detections alone.

    Args:
        image_HW3: RGB, uint8. Small images are scaled up, large ones down.
        truth: What is there; None where that is not known.
        detected: What was detected.
        classes: Names, by label.
        title: Shown at the bottom.
        side: Longer side of the scaled image in pixels; by default as `picture_scale` says.

    Returns:
        RGB uint8.
    """
    height, width = image_HW3.shape[:2]
    scale = picture_scale(height, width) if side is None else side / max(height, width)
    parts = [] if truth is None else [(truth, truth_heading(truth))]
    parts.append((detected, detected_heading(detected, truth is not None)))
    panels = [Panel(draw_boxes(image_HW3, boxes, classes, scale), text) for boxes, text in parts]
    labels = sorted({int(v) for boxes, _ in parts for v in boxes.labels_Q})
    entries = [(class_colour(label), short_name(classes[label])) for label in labels]
    return with_legend(panel_grid(panels).picture_HW3, entries, title=title, max_rows=1)


def truth_heading(truth: Boxes) -> str:
    """Words above the truth.

    Example:
        >>> boxes = np.zeros((2, 4))
        >>> truth_heading(Boxes(boxes, np.zeros(2, int), agrees_Q=np.array([True, False])))
        'truth: 2 objects, 1 missed (dashed)'
    """
    is_crowd = truth.is_crowd_Q if truth.is_crowd_Q is not None else np.zeros(len(truth.labels_Q))
    count = int((np.asarray(is_crowd) == 0).sum())
    text = f"truth: {count} object{'' if count == 1 else 's'}"
    if truth.agrees_Q is not None:
        missed = int((~truth.agrees_Q & (np.asarray(is_crowd) == 0)).sum())
        text += f", {missed} missed (dashed)" if missed else ", all found" if count else ""
    return text


def detected_heading(detected: Boxes, is_compared: bool) -> str:
    """Words above the detections."""
    count = len(detected.labels_Q)
    text = f"detected: {count}"
    if is_compared and detected.agrees_Q is not None and count:
        wrong = int((~detected.agrees_Q).sum())
        text += f", {wrong} false (dashed)" if wrong else ", all right"
    return text


def draw_boxes(
    image_HW3: np.ndarray, boxes: Boxes, classes: Sequence[str] | None, scale: float = 1.0
) -> np.ndarray:
    """The image, scaled, with outlines and tags.

    Args:
        image_HW3: RGB uint8.
        boxes: In pixels of the image.
        classes: Names, by label; None where labels are identities, which are their own names.
        scale: Factor of the size.

    Returns:
        RGB uint8.
    """
    picture = resized(image_HW3, scale).copy()
    height, width = picture.shape[:2]
    labels = [int(label) for label in boxes.labels_Q]
    agrees_Q = boxes.agrees_Q if boxes.agrees_Q is not None else np.ones(len(labels), bool)
    crowd_Q = boxes.is_crowd_Q if boxes.is_crowd_Q is not None else np.zeros(len(labels), bool)
    colour_of = id_colour if classes is None else class_colour
    colours = [
        GREY if is_crowd else colour_of(k) for k, is_crowd in zip(labels, crowd_Q, strict=True)
    ]
    # Large things first, so that small ones stay visible on top of them.
    areas_Q = np.prod(boxes.boxes_Q4[:, 2:] - boxes.boxes_Q4[:, :2], axis=1)
    order = np.argsort(-areas_Q, kind="stable").tolist()
    if boxes.masks_QHW is not None:
        for q in order:
            smooth_HW = resized(boxes.masks_QHW[q].astype(np.float32), scale)
            tint_mask(picture, smooth_HW >= 0.5, colours[q], share=0.25, line=1)
    canvas = Image.fromarray(picture)
    draw = ImageDraw.Draw(canvas)
    corners_Q4 = np.round(boxes.boxes_Q4 * scale).astype(int)
    corners_Q4[:, 0::2] = corners_Q4[:, 0::2].clip(1, max(width - 2, 1))
    corners_Q4[:, 1::2] = corners_Q4[:, 1::2].clip(1, max(height - 2, 1))
    for q in order:
        dash = 3 if crowd_Q[q] else None if agrees_Q[q] else 7
        _draw_outline(draw, tuple(corners_Q4[q].tolist()), colours[q], dash)
    placed: list[tuple[float, ...]] = []
    scores = boxes.scores_Q
    for q in sorted(order, key=lambda q: -scores[q] if scores is not None else 0.0):
        name = str(labels[q]) if classes is None else short_name(classes[labels[q]])
        text = "crowd" if crowd_Q[q] else name
        text += "" if scores is None else f" {scores[q]:.2f}"
        (left, top, right, bottom), (wide, high) = corners_Q4[q].tolist(), tag_size(text)
        corners = [  # outside, then inside
            (left - 1, top - high), (right - wide + 1, top - high), (left - 1, bottom),
            (right - wide + 1, bottom), (left + 2, top + 2), (right - wide - 2, bottom - high - 2),
        ]  # fmt: skip
        placed.append(free_place(corners, (wide, high), placed, (width, height)))
        is_filled = bool(agrees_Q[q]) and not crowd_Q[q]
        draw_tag(draw, text, placed[-1][:2], colours[q], is_filled)
    return np.asarray(canvas)


def _draw_outline(
    draw: ImageDraw.ImageDraw,
    box: tuple[int, int, int, int],
    colour: tuple[int, int, int],
    dash: int | None,
) -> None:
    """A coloured line of 2 px on a dark one of 4, so that it shows on any ground."""
    left, top, right, bottom = box
    sides = ((left, top, right, top), (right, top, right, bottom),
             (right, bottom, left, bottom), (left, bottom, left, top))  # fmt: skip
    for ink, width in ((INK, 4), (colour, 2)):
        for x1, y1, x2, y2 in sides:
            for a, b in _strokes(max(abs(x2 - x1), abs(y2 - y1)), dash):
                length = max(abs(x2 - x1), abs(y2 - y1), 1)
                dx, dy = (x2 - x1) / length, (y2 - y1) / length
                ends = (x1 + a * dx, y1 + a * dy, x1 + b * dx, y1 + b * dy)
                draw.line(tuple(round(v) for v in ends), ink, width)


def _strokes(length: int, dash: int | None) -> list[tuple[int, int]]:
    """From and to of each stroke of a line; gaps are as long as dashes."""
    if dash is None or length < 3 * dash:
        return [(0, length)]
    return [(a, min(a + dash, length)) for a in range(0, length, 2 * dash)]
