"""Pictures of detections: the truth on the left, what was detected on the right.

An outline has the colour of its class. Solid means that truth and detection agree (IoU of 0.5 or
more), dashed that they do not: an object that was missed on the left, a false detection on the
right. Pure functions from arrays to pictures.

Shape legend: H W pixels, Q things drawn in one picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from pe_dense.pictures.drawing import (
    FOOTER,
    GREY,
    HEADER,
    INK,
    MARGIN,
    PAPER,
    class_colour,
    fitting,
    font,
    picture_scale,
)


@dataclass(frozen=True)
class Boxes:
    """What is drawn in one picture.

    Attributes:
        boxes_Q4: x1, y1, x2, y2 in pixels of the picture.
        labels_Q: Classes.
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
    panels = [draw_boxes(image_HW3, boxes, classes, scale) for boxes, _ in parts]
    height, width = panels[0].shape[:2]
    full_width = len(panels) * (width + MARGIN) + MARGIN
    canvas = Image.new("RGB", (full_width, HEADER + height + FOOTER), PAPER)
    draw = ImageDraw.Draw(canvas)
    for index, (panel, (_, heading)) in enumerate(zip(panels, parts, strict=True)):
        left = MARGIN + index * (width + MARGIN)
        canvas.paste(Image.fromarray(panel), (left, HEADER))
        draw.text((left, HEADER / 2), fitting(heading, width, 17), INK, font(17), anchor="lm")
    labels = {int(v) for boxes, _ in parts for v in boxes.labels_Q}
    _draw_footer(draw, sorted(labels), classes, title, HEADER + height, full_width)
    return np.asarray(canvas)


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
    image_HW3: np.ndarray, boxes: Boxes, classes: Sequence[str], scale: float = 1.0
) -> np.ndarray:
    """The image, scaled, with outlines and labels; RGB uint8."""
    import cv2

    height, width = (max(round(side * scale), 1) for side in image_HW3.shape[:2])
    way = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    picture = cv2.resize(image_HW3, (width, height), interpolation=way)
    agrees_Q = boxes.agrees_Q if boxes.agrees_Q is not None else np.ones(len(boxes.labels_Q), bool)
    crowd_Q = boxes.is_crowd_Q if boxes.is_crowd_Q is not None else np.zeros(len(agrees_Q), bool)
    # Large things first, so that small ones stay visible on top of them.
    areas_Q = np.prod(boxes.boxes_Q4[:, 2:] - boxes.boxes_Q4[:, :2], axis=1)
    order = np.argsort(-areas_Q, kind="stable")
    if boxes.masks_QHW is not None:
        for q in order:
            colour = GREY if crowd_Q[q] else class_colour(int(boxes.labels_Q[q]))
            _draw_mask(picture, boxes.masks_QHW[q], colour, scale)
    canvas = Image.fromarray(picture)
    draw = ImageDraw.Draw(canvas)
    corners_Q4 = np.round(boxes.boxes_Q4 * scale).astype(int)
    corners_Q4[:, 0::2] = corners_Q4[:, 0::2].clip(1, max(width - 2, 1))
    corners_Q4[:, 1::2] = corners_Q4[:, 1::2].clip(1, max(height - 2, 1))
    for q in order:
        colour = GREY if crowd_Q[q] else class_colour(int(boxes.labels_Q[q]))
        dash = 3 if crowd_Q[q] else None if agrees_Q[q] else 7
        _draw_outline(draw, tuple(corners_Q4[q].tolist()), colour, dash)
    placed: list[tuple[int, int, int, int]] = []
    scores = boxes.scores_Q
    for q in sorted(order, key=lambda q: -scores[q] if scores is not None else 0.0):
        text = _label(boxes, int(q), classes, bool(crowd_Q[q]))
        colour = GREY if crowd_Q[q] else class_colour(int(boxes.labels_Q[q]))
        place = _free_place(draw, text, tuple(corners_Q4[q].tolist()), placed, (width, height))
        placed.append(place)
        _draw_tag(draw, text, place, colour, is_filled=bool(agrees_Q[q]) and not crowd_Q[q])
    return np.asarray(canvas)


def _label(boxes: Boxes, q: int, classes: Sequence[str], is_crowd: bool) -> str:
    name = "crowd" if is_crowd else classes[int(boxes.labels_Q[q])]
    name = name if len(name) <= 24 else name[:22] + "..."
    return name if boxes.scores_Q is None else f"{name} {boxes.scores_Q[q]:.2f}"


def _draw_mask(
    picture_HW3: np.ndarray, mask_HW: np.ndarray, colour: tuple[int, int, int], scale: float
) -> None:
    """A thin outline and a faint fill, in place."""
    import cv2

    height, width = picture_HW3.shape[:2]
    scaled = cv2.resize(mask_HW.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    inside_HW = scaled >= 0.5
    if not inside_HW.any():
        return
    tint = np.array(colour, dtype=np.float32)
    picture_HW3[inside_HW] = (0.75 * picture_HW3[inside_HW] + 0.25 * tint).astype(np.uint8)
    outlines, _ = cv2.findContours(
        inside_HW.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE
    )
    cv2.polylines(picture_HW3, outlines, True, colour, 1, cv2.LINE_AA)


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


def _free_place(
    draw: ImageDraw.ImageDraw,
    text: str,
    box: tuple[int, int, int, int],
    placed: Sequence[tuple[int, int, int, int]],
    size: tuple[int, int],
) -> tuple[int, int, int, int]:
    """Where a label covers the least of the labels before it: at a corner, outside or inside."""
    left, top, right, bottom = box
    width, height = round(font(12).getlength(text)) + 8, 17
    corners = [
        (left - 1, top - height), (right - width + 1, top - height), (left - 1, bottom),
        (right - width + 1, bottom), (left + 2, top + 2), (right - width - 2, bottom - height - 2),
    ]  # fmt: skip
    best, least = (0, 0, width, height), float("inf")
    for x, y in corners:
        x = min(max(x, 0), max(size[0] - width, 0))
        y = min(max(y, 0), max(size[1] - height, 0))
        place = (x, y, x + width, y + height)
        covered = sum(_common_area(place, other) for other in placed)
        if covered < least:
            best, least = place, covered
    return best


def _common_area(a: tuple[int, int, int, int], b: tuple[int, int, int, int]) -> int:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    return max(width, 0) * max(height, 0)


def _draw_tag(
    draw: ImageDraw.ImageDraw,
    text: str,
    place: tuple[int, int, int, int],
    colour: tuple[int, int, int],
    is_filled: bool,
) -> None:
    """Dark on the class colour where truth and detection agree, the other way round if not."""
    ground, ink = (colour, INK) if is_filled else (INK, colour)
    left, top, right, bottom = place
    draw.rectangle((left, top, right - 1, bottom - 1), ground, colour)
    draw.text((left + 4, (top + bottom) / 2), text, ink, font(12), anchor="lm")


def _draw_footer(
    draw: ImageDraw.ImageDraw,
    labels: Sequence[int],
    classes: Sequence[str],
    title: str,
    top: int,
    full_width: int,
) -> None:
    """Colours of the classes that appear, and the name of the image at the right."""
    letters, middle = font(13), top + FOOTER / 2
    room = letters.getlength(title) + 2 * MARGIN
    x = float(MARGIN)
    for label in labels:
        name = classes[label] if len(classes[label]) <= 24 else classes[label][:22] + "..."
        if x + 20 + letters.getlength(name) > full_width - room:
            draw.text((x, middle), "...", GREY, letters, anchor="lm")
            break
        draw.rectangle((x, middle - 6, x + 12, middle + 6), class_colour(label), INK)
        draw.text((x + 18, middle), name, INK, letters, anchor="lm")
        x += 18 + letters.getlength(name) + 16
    draw.text((full_width - MARGIN, middle), title, GREY, letters, anchor="rm")
