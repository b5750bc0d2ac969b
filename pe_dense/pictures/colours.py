"""Colours of all pictures: inks, classes, identities, maps of values, and grounds for them.

Pure functions; all pictures are RGB uint8. Shape legend: H W pixels, N colours.
"""

from __future__ import annotations

import colorsys
import functools

import numpy as np

INK, PAPER, GREY = (24, 26, 30), (255, 255, 255), (110, 114, 122)
UNKNOWN = (150, 154, 160)  # pixels of which nothing is known
OUTSIDE = (235, 235, 235)  # what is left out of a picture
WRONG = (225, 20, 40)
# Bright hues that stay apart from each other and from most photographs; further classes follow.
_FIRST_COLOURS = (
    (0, 176, 255), (255, 138, 0), (0, 214, 98), (255, 64, 129), (255, 221, 0), (178, 102, 255),
    (0, 229, 215), (255, 82, 54), (160, 220, 40), (255, 160, 190),
)  # fmt: skip
_GOLDEN_RATIO = 0.618034

DEPTH_COLOURS = "magma_r"  # near is bright, far is dark
ERROR_COLOURS = "RdBu_r"  # too near is blue, too far is red
SHARE_COLOURS = "viridis"


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


def id_colour(identity: int) -> tuple[int, int, int]:
    """RGB of an identity, the same in every frame and picture.

    Example:
        >>> id_colour(1), id_colour(1) == id_colour(2)
        ((0, 176, 255), False)
    """
    return class_colour(max(int(identity) - 1, 0))


def readable_on(colour: tuple[int, int, int]) -> tuple[int, int, int]:
    """Dark ink on light colours, paper on dark ones."""
    red, green, blue = colour
    return INK if 0.299 * red + 0.587 * green + 0.114 * blue > 120 else PAPER


@functools.lru_cache(maxsize=4)
def colour_table(name: str) -> np.ndarray:
    """(256, 3) uint8 of one of matplotlib's colour maps."""
    import matplotlib  # heavy, and only needed once something is drawn

    colours = matplotlib.colormaps[name](np.linspace(0, 1, 256))
    return (255 * colours[:, :3]).round().astype(np.uint8)


def coloured(
    values_HW: np.ndarray, limits: tuple[float, float], colours_N3: np.ndarray
) -> np.ndarray:
    """RGB uint8 of a map; values outside the limits have the colour of the end."""
    low, high = limits
    share_HW = np.nan_to_num((values_HW - low) / (high - low), nan=0.0, posinf=1.0, neginf=0.0)
    return colours_N3[(share_HW.clip(0, 1) * (len(colours_N3) - 1)).round().astype(int)]


def filled(
    picture_HW3: np.ndarray, mask_HW: np.ndarray, colour: tuple[int, int, int]
) -> np.ndarray:
    """The picture with one colour where the mask is true."""
    return np.where(mask_HW[..., None], np.array(colour, np.uint8), picture_HW3)


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
