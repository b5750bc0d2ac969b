"""Pieces that pictures of predictions are made of: panels, headings, colours, scale bars, sheets.

Pure functions from arrays to pictures; all pictures are RGB uint8. Shape legend: H W pixels,
K classes.
"""

from __future__ import annotations

import colorsys
import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

# Bright hues that stay apart from each other and from most photographs; further classes follow.
_FIRST_COLOURS = (
    (0, 176, 255), (255, 138, 0), (0, 214, 98), (255, 64, 129), (255, 221, 0), (178, 102, 255),
    (0, 229, 215), (255, 82, 54), (160, 220, 40), (255, 160, 190),
)  # fmt: skip
_GOLDEN_RATIO = 0.618034
INK, PAPER, GREY = (24, 26, 30), (255, 255, 255), (110, 114, 122)
MARGIN, HEADER, FOOTER = 10, 34, 30
BAR = 46  # height of a scale bar with its numbers
MIN_SIDE, MAX_SIDE = 640, 1100
WIDE = 1.75  # images of this aspect or more are laid out in two columns


class Panel(NamedTuple):
    """A picture and the words above it."""

    picture_HW3: np.ndarray
    heading: str


class Grid(NamedTuple):
    """Panels on paper.

    Attributes:
        picture_HW3: Panels, headings and margins.
        columns: (left, right) of each column in pixels.
    """

    picture_HW3: np.ndarray
    columns: tuple[tuple[int, int], ...]


def class_colour(label: int) -> tuple[int, int, int]:
    """RGB of a class; always the same, and apart from those before it.

    Example:
        >>> class_colour(0), len({class_colour(k) for k in range(300)})
        ((0, 176, 255), 300)
    """
    if label < len(_FIRST_COLOURS):
        return _FIRST_COLOURS[label]
    hue = (label * _GOLDEN_RATIO) % 1.0
    saturation, value = ((0.85, 1.0), (0.55, 1.0), (0.9, 0.8))[label % 3]
    red, green, blue = (round(255 * part) for part in colorsys.hsv_to_rgb(hue, saturation, value))
    return red, green, blue


def picture_scale(
    height: int, width: int, min_side: int = MIN_SIDE, max_side: int = MAX_SIDE
) -> float:
    """Factor that brings the longer side between two limits; whole numbers for small images.

    Example:
        >>> picture_scale(256, 256), picture_scale(480, 640), picture_scale(2200, 1100)
        (3.0, 1.0, 0.5)
    """
    side = max(height, width)
    if side < min_side:
        return float(-(-min_side // side))
    return min(1.0, max_side / side)


def panel_scale(height: int, width: int, side: int | None = None) -> float:
    """Factor for panels in a row: the longer side is `side`, or 480 to 720 px (wide ones 960).

    Example:
        >>> panel_scale(256, 256), panel_scale(512, 640), panel_scale(1024, 2048)
        (2.0, 1.0, 0.46875)
    """
    if side is not None:
        return side / max(height, width)
    return picture_scale(height, width, 480, 960 if width / height >= WIDE else 720)


def resized(picture_HW: np.ndarray, scale: float, is_nearest: bool = False) -> np.ndarray:
    """A picture or map (H, W, ...), scaled; nearest for labels, which have no mean."""
    import cv2

    height, width = (max(round(side * scale), 1) for side in picture_HW.shape[:2])
    smooth = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    way = cv2.INTER_NEAREST if is_nearest else smooth
    return cv2.resize(picture_HW, (width, height), interpolation=way)


def faint_grey(image_HW3: np.ndarray, lightness: float = 0.35) -> np.ndarray:
    """The image in grey, faded towards white by `lightness` (0..1): a ground for colours."""
    grey_HW1 = image_HW3.astype(np.float32) @ np.array([[0.299], [0.587], [0.114]], np.float32)
    faded = grey_HW1 * (1 - lightness) + 255 * lightness
    return np.repeat(faded, 3, axis=2).round().astype(np.uint8)


def hatched(picture_HW3: np.ndarray, mask_HW: np.ndarray) -> np.ndarray:
    """The picture with diagonal grey stripes where the mask is true: nothing is known there."""
    rows, columns = np.indices(mask_HW.shape, sparse=True)
    is_dark_HW = (rows + columns) % 10 < 3
    stripes = np.where(is_dark_HW[..., None], np.uint8(150), np.uint8(205))
    return np.where(mask_HW[..., None], stripes, picture_HW3).astype(np.uint8)


def panel_grid(panels: Sequence[Panel]) -> Grid:
    """Panels of one size with their headings: in one row, or in two columns if they are wide.

    Raises:
        ValueError: If there is none, or sizes differ.
    """
    sizes = {panel.picture_HW3.shape for panel in panels}
    if len(sizes) != 1:
        raise ValueError(f"panels have sizes {sorted(sizes)}; pass one or more of the same size")
    height, width = panels[0].picture_HW3.shape[:2]
    num_columns = min(2, len(panels)) if width / height >= WIDE else len(panels)
    num_rows = -(-len(panels) // num_columns)
    lefts = [MARGIN + i * (width + MARGIN) for i in range(num_columns)]
    size = (lefts[-1] + width + MARGIN, num_rows * (HEADER + height))
    canvas = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(canvas)
    for number, (picture, heading) in enumerate(panels):
        left, top = lefts[number % num_columns], number // num_columns * (HEADER + height)
        words = fitting(heading, width, 17)
        draw.text((left, top + HEADER / 2), words, INK, font(17), anchor="lm")
        canvas.paste(Image.fromarray(picture), (left, top + HEADER))
    return Grid(np.asarray(canvas), tuple((left, left + width) for left in lefts))


def below(picture_HW3: np.ndarray, height: int) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    """A canvas with the picture at the top and `height` pixels of paper below, and its pen."""
    rows, columns = picture_HW3.shape[:2]
    canvas = Image.new("RGB", (columns, rows + height), PAPER)
    canvas.paste(Image.fromarray(picture_HW3), (0, 0))
    return canvas, ImageDraw.Draw(canvas)


def draw_scale_bar(
    canvas: Image.Image,
    place: tuple[int, int, int],
    colours_N3: np.ndarray,
    limits: tuple[float, float],
    unit: str,
    is_signed: bool = False,
) -> None:
    """A horizontal bar of colours with round numbers below it, in place.

    Args:
        canvas: What it is drawn on.
        place: Left, right, top in pixels; it is `BAR` high.
        colours_N3: RGB uint8 from the lower limit to the upper.
        limits: Values at both ends.
        unit: Behind the last number.
        is_signed: Write '+' before positive numbers.
    """
    left, right, top = place
    low, high = limits
    draw = ImageDraw.Draw(canvas)
    at = np.linspace(0, len(colours_N3) - 1, right - left).round().astype(int)
    bar = np.repeat(colours_N3[at][None], 14, axis=0)
    canvas.paste(Image.fromarray(bar), (left, top + 8))
    draw.rectangle((left, top + 8, right - 1, top + 22), None, GREY)
    values = round_values(low, high, most=max(2, min(7, (right - left) // 70)))
    texts = number_texts(values, is_signed)
    texts[-1] += f" {unit}"
    for value, text in zip(values, texts, strict=True):
        x = left + (value - low) / (high - low) * (right - 1 - left)
        draw.line((x, top + 22, x, top + 26), INK)
        half = font(13).getlength(text) / 2
        x = min(max(x, left + half), right - half)  # the ends stay below the bar
        draw.text((x, top + 36), text, INK, font(13), anchor="mm")


def round_values(low: float, high: float, most: int = 7) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten from low to high, at most so many.

    Raises:
        ValueError: If `low` is not below `high`.

    Example:
        >>> round_values(0.4, 9.7), round_values(-0.5, 0.5, 5)
        ([2.0, 4.0, 6.0, 8.0], [-0.4, -0.2, 0.0, 0.2, 0.4])
    """
    if not low < high:
        raise ValueError(f"a scale from {low} to {high} is empty; pass low < high")
    exponent = math.floor(math.log10((high - low) / most))
    steps = [factor * 10.0 ** (exponent + power) for power in (0, 1) for factor in (1, 2, 5)]
    for step in steps:
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        if last - first < most:
            break
    return [round(i * step, 12) + 0.0 for i in range(first, last + 1)]


def number_texts(values: Sequence[float], is_signed: bool = False) -> list[str]:
    """All with as many decimals as the one that needs most.

    Example:
        >>> number_texts([0.0, 2.5, 5.0]), number_texts([-20.0, 0.0, 20.0], is_signed=True)
        (['0.0', '2.5', '5.0'], ['-20', '0', '+20'])
    """
    decimals = max(len(f"{v:.9f}".rstrip("0").split(".")[1]) for v in values)
    return [f"{v:{'+' if is_signed and v else ''}.{decimals}f}" for v in values]


def contact_sheet(
    pictures: Sequence[np.ndarray], captions: Sequence[str], columns: int = 2
) -> np.ndarray:
    """Pictures in rows as they are, each with a line below it; RGB uint8.

    Raises:
        ValueError: If there is nothing to show.
    """
    if not pictures:
        raise ValueError("a contact sheet needs at least one picture")
    tiles, width = list(pictures), max(picture.shape[1] for picture in pictures)
    columns = min(columns, len(tiles))
    rows = [range(i, min(i + columns, len(tiles))) for i in range(0, len(tiles), columns)]
    heights = [max(tiles[i].shape[0] for i in row) + FOOTER for row in rows]
    sheet = Image.new("RGB", (columns * (width + MARGIN) + MARGIN, sum(heights) + MARGIN), PAPER)
    draw = ImageDraw.Draw(sheet)
    top = MARGIN
    for row, height in zip(rows, heights, strict=True):
        for column, i in enumerate(row):
            left = MARGIN + column * (width + MARGIN)
            sheet.paste(Image.fromarray(tiles[i]), (left, top))
            caption = fitting(captions[i], width, 15)
            y = top + tiles[i].shape[0] + 8
            draw.text((left + MARGIN // 2, y), caption, GREY, font(15), anchor="lm")
        top += height
    return np.asarray(sheet)


@functools.lru_cache(maxsize=8)
def font(size: int) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which matplotlib ships: it has the letters of most languages."""
    from matplotlib import font_manager

    return ImageFont.truetype(font_manager.findfont("DejaVu Sans"), size)


def fitting(text: str, width: float, size: int) -> str:
    """The text, cut where it would be wider than `width` pixels."""
    letters = font(size)
    if letters.getlength(text) <= width:
        return text
    while text and letters.getlength(text + "...") > width:
        text = text[:-1]
    return text + "..."
