"""Masks and label maps over an image: classes as a coloured map, identities as tinted objects.

Shape legend: H W pixels, K classes.
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from pe_dense.pictures.colours import faint_grey, hatched, id_colour
from pe_dense.pictures.drawing import draw_tag, free_place, resized, tag_size

VOID = 255  # neither an object nor background, not annotated
TINT = 0.45  # share of the colour inside the mask of an identity


def class_map(labels_HW: np.ndarray, image_HW3: np.ndarray, palette_K3: np.ndarray) -> np.ndarray:
    """Colours of classes with a trace of the image; hatched where nothing is annotated.

    Args:
        labels_HW: Classes 0..K-1, `VOID` where there is none.
        image_HW3: RGB uint8, the ground.
        palette_K3: Colours uint8, by class.
    """
    void_HW = labels_HW == VOID
    colours = palette_K3[np.where(void_HW, 0, labels_HW)].astype(np.float32)
    ground = faint_grey(image_HW3, lightness=0.0).astype(np.float32)
    return hatched((0.8 * colours + 0.2 * ground).round().astype(np.uint8), void_HW)


def tint_mask(
    picture_HW3: np.ndarray,
    mask_HW: np.ndarray,
    colour: tuple[int, int, int],
    share: float,
    line: int,
) -> None:
    """Mixes a share (0..1) of the colour into a mask, and outlines it `line` px wide, in place."""
    import cv2

    inside_HW = mask_HW.astype(bool)
    mixed = picture_HW3[inside_HW] * (1 - share) + np.array(colour) * share
    picture_HW3[inside_HW] = mixed.round().astype(np.uint8)
    outlines, _ = cv2.findContours(
        inside_HW.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE
    )
    cv2.drawContours(picture_HW3, outlines, -1, colour, line, cv2.LINE_AA)


def draw_identities(image_HW3: np.ndarray, labels_HW: np.ndarray, scale: float) -> np.ndarray:
    """The image, scaled, with tinted and outlined objects and their ids.

    Args:
        image_HW3: RGB uint8.
        labels_HW: uint8 ids; 0 is background, `VOID` void, neither is drawn.
        scale: Factor of the size.

    Raises:
        ValueError: If sizes differ.
    """
    if labels_HW.shape != image_HW3.shape[:2]:
        raise ValueError(
            f"label map of shape {labels_HW.shape} does not fit an image of shape "
            f"{image_HW3.shape}; pass both at one size"
        )
    picture = resized(image_HW3, scale).copy()
    large_HW = resized(labels_HW, scale, is_nearest=True)
    masks = {i: large_HW == i for i in np.unique(large_HW).tolist() if i not in (0, VOID)}
    for identity, mask_HW in masks.items():
        tint_mask(picture, mask_HW, id_colour(identity), TINT, 2)
    canvas = Image.fromarray(picture)
    draw = ImageDraw.Draw(canvas)
    placed: list[tuple[float, ...]] = []
    for identity, mask_HW in masks.items():
        tag = tag_size(str(identity))
        placed.append(free_place(_tag_corners(mask_HW, tag), tag, placed, canvas.size))
        draw_tag(draw, str(identity), placed[-1][:2], id_colour(identity))
    return np.asarray(canvas)


def _tag_corners(mask_HW: np.ndarray, tag: tuple[int, int]) -> list[tuple[float, float]]:
    """Deepest inside a mask where that leaves some of it to see, else around it, above first."""
    import cv2

    mask, (wide, high) = mask_HW.astype(np.uint8), tag
    depth_HW = cv2.distanceTransform(np.pad(mask, 1), cv2.DIST_L2, 3)[1:-1, 1:-1]
    y, x = np.unravel_index(int(depth_HW.argmax()), mask.shape)
    left, top, width, height = cv2.boundingRect(mask)
    middle, centre = left + (width - wide) / 2, top + (height - high) / 2
    around = [
        (middle, top - high - 2), (middle, top + height + 2), (left - wide - 2, centre),
        (left + width + 2, centre),
    ]  # fmt: skip
    deepest = (float(x) - wide / 2, float(y) - high / 2)
    return [deepest, *around] if depth_HW[y, x] >= 1.5 * high else around
