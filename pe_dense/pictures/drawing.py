"""Layout of all pictures: panels, headings, scale bars, legends, footers, sheets.

Pure functions from arrays to pictures; all pictures are RGB uint8. Shape legend: H W pixels,
N colours.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from pe_dense.pictures.colours import GREY, INK, PAPER, readable_on

MARGIN, HEADER, FOOTER = 10, 34, 30
BAR = 46  # height of a scale bar with its numbers
KEY_ROW = 22  # height of a row of a legend
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


def with_scale_bar(
    picture_HW3: np.ndarray,
    right: int,
    colours_N3: np.ndarray,
    limits: tuple[float, float],
    words: str,
    unit: str = "",
    is_signed: bool = False,
) -> np.ndarray:
    """The picture with a scale bar below it that ends at `right` px, and words beside the bar."""
    top, width = picture_HW3.shape[:2]
    canvas, draw = below(picture_HW3, BAR + MARGIN)
    draw_scale_bar(canvas, (MARGIN, right, top), colours_N3, limits, unit, is_signed)
    words = fitting(words, width - right - 2 * MARGIN, 13)
    draw.text((right + MARGIN, top + 15), words, INK, font(13), anchor="lm")
    return np.asarray(canvas)


def draw_footer(
    draw: ImageDraw.ImageDraw, middle: float, width: int, words: str, title: str
) -> None:
    """A grey line across a picture of that width: words at the left, its title at the right."""
    draw.text((MARGIN, middle), words, GREY, font(13), anchor="lm")
    title = fitting(title, width - 3 * MARGIN - font(13).getlength(words), 13)
    draw.text((width - MARGIN, middle), title, GREY, font(13), anchor="rm")


def with_legend(
    picture_HW3: np.ndarray,
    entries: Sequence[tuple[tuple[int, int, int], str]],
    facts: Sequence[str] = (),
    title: str = "",
    max_rows: int = 4,
) -> np.ndarray:
    """The picture with rows of colours and names below it, then facts and the title.

    Args:
        picture_HW3: RGB uint8.
        entries: Colour and name of each class; those that do not fit are counted.
        facts: Shown at the bottom left.
        title: Shown at the bottom right, beside the names where there is room and no fact.
        max_rows: Of names.
    """
    (top, width), letters = picture_HW3.shape[:2], font(13)
    places: list[tuple[float, int]] = []
    x, row = float(MARGIN), 0
    for _, text in entries:
        needed = 36 + letters.getlength(text)
        if x + needed > width and x > MARGIN:
            if row + 1 == max_rows:
                break
            x, row = float(MARGIN), row + 1
        places.append((x, row))
        x += needed
    hidden = len(entries) - len(places)
    more = [f"{hidden} more class{'' if hidden == 1 else 'es'}"] if hidden else []
    words, bottom = "; ".join([*more, *facts]), top + 6 + (row + 1) * KEY_ROW
    is_beside = not words and x + letters.getlength(title) + MARGIN <= width
    canvas, draw = below(picture_HW3, bottom - top + (MARGIN if is_beside else FOOTER))
    footer = bottom - KEY_ROW / 2 if is_beside else bottom + FOOTER / 2
    draw_footer(draw, footer, width, words, title)
    for (colour, text), (x, row) in zip(entries, places, strict=False):
        middle = top + 6 + (row + 0.5) * KEY_ROW
        draw.rectangle((x, middle - 6, x + 12, middle + 6), tuple(colour), INK)
        draw.text((x + 18, middle), text, INK, letters, anchor="lm")
    return np.asarray(canvas)


def tag_size(text: str) -> tuple[int, int]:
    """Width and height of a tag in pixels."""
    return round(font(12).getlength(text)) + 8, 17


def draw_tag(
    draw: ImageDraw.ImageDraw,
    text: str,
    corner: tuple[float, float],
    colour: tuple[int, int, int],
    is_filled: bool = True,
) -> None:
    """A name on a plate of its colour, or in its colour on a dark plate; left and top are given."""
    left, top = corner
    width, height = tag_size(text)
    ground, ink = (colour, readable_on(colour)) if is_filled else (INK, colour)
    draw.rectangle((left, top, left + width - 1, top + height - 1), ground, colour)
    draw.text((left + 4, top + height / 2), text, ink, font(12), anchor="lm")


def free_place(
    corners: Sequence[tuple[float, float]],
    tag: tuple[int, int],
    placed: Sequence[tuple[float, ...]],
    size: tuple[int, int],
) -> tuple[float, ...]:
    """Where a tag covers the least of the tags before it; the earlier corner, if several do.

    Args:
        corners: Left and top of the places to choose from; moved into the picture.
        tag: Its width and height.
        placed: Left, top, right, bottom of those before.
        size: Width and height of the picture.

    Returns:
        Left, top, right, bottom.
    """

    def inside(corner: tuple[float, float]) -> tuple[float, ...]:
        left, top = (
            min(max(c, 0), max(s - t, 0)) for c, s, t in zip(corner, size, tag, strict=True)
        )
        return left, top, left + tag[0], top + tag[1]

    def covered(place: tuple[float, ...]) -> float:
        sides = [
            (min(place[2], p[2]) - max(place[0], p[0]), min(place[3], p[3]) - max(place[1], p[1]))
            for p in placed
        ]
        return sum(max(width, 0) * max(height, 0) for width, height in sides)

    return min(map(inside, corners), key=covered)


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


def stacked(pictures: Sequence[np.ndarray]) -> np.ndarray:
    """Pictures below each other; paper fills the rows of those that are less wide."""
    width = max(picture.shape[1] for picture in pictures)
    full = [
        np.pad(p, ((0, 0), (0, width - p.shape[1]), (0, 0)), constant_values=PAPER[0])
        for p in pictures
    ]
    return np.concatenate(full)


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


def short_name(name: str) -> str:
    """The name, cut where it is longer than 24 letters."""
    return name if len(name) <= 24 else name[:22] + "..."
