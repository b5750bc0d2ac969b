"""Masks of a COCO file: there, of the size of their image, in it, and about in their box.

Shape legend: A annotations; M those of them with a sound mask.
"""

from __future__ import annotations

import numpy as np

from pe_dense.data.checks.coco_file import CocoFile
from pe_dense.data.checks.coco_segmentations import (
    BAD_RUNS,
    MISSING,
    NO_MASK,
    NOT_FINITE,
    RLE,
    SHORT_POLYGON,
)
from pe_dense.data.checks.rules import Finding, FindingCollector, Rule

# Rounding takes masks over the border of image or box a little; more is a mistake.
BORDER_PX = 1.0
BESIDE_PX, BESIDE_SHARE = 1.0, 0.1

ABSENT = Rule(
    "missing-masks",
    "objects without a mask",
    "draw it (segmentation), or use a config for boxes (vitdet_custom.py: masks=False)",
)
OTHER_SIZE = Rule(
    "masks-of-other-size",
    "run lengths for another size than their image has",
    "write the masks for the size of the image",
)
NO_PIXEL = Rule(
    "empty-masks", "masks without a pixel", "draw them, in pixels, or take the objects out"
)
OUTSIDE_IMAGE = Rule(
    "masks-outside",
    f"masks that reach out of their image by more than {BORDER_PX:g} px",
    "put the polygons right, in pixels of this image",
)
BESIDE_BOX = Rule(
    "masks-beside-boxes",
    "masks that end elsewhere than their box",
    "make each box that of its mask",
    "used as they are",
)
MASK_RULES = (
    ABSENT, NO_MASK, SHORT_POLYGON, NOT_FINITE, BAD_RUNS, OTHER_SIZE, NO_PIXEL, OUTSIDE_IMAGE,
    BESIDE_BOX,
)  # fmt: skip


def mask_findings(coco: CocoFile) -> list[Finding]:
    """Masks that are missing, faulty, of another size than their image, or not in it or their box.

    Args:
        coco: A file; only its sound entries are looked at.
    """
    found, masks = FindingCollector(coco.path), coco.masks
    found.add_marked(
        ABSENT, masks.kind_A == MISSING, lambda a: (coco.annotation(a), "has no segmentation")
    )
    of_A = np.flatnonzero(masks.has_mask())
    sizes_M2 = coco.sizes_I2[coco.image_index()[of_A]]
    low_M2, high_M2 = masks.bounds_M4[:, :2], masks.bounds_M4[:, 2:]
    is_rle_M = masks.kind_A[of_A] == RLE
    is_other_M = is_rle_M & (masks.sizes_M2 != sizes_M2).any(1)

    def of_other_size(m: int) -> tuple[str, str]:
        (own_w, own_h), (width, height) = masks.sizes_M2[m], sizes_M2[m]
        value = f"has run lengths for {own_w} x {own_h} px, its image has {width} x {height}"
        return coco.annotation(of_A[m]), value

    found.add_marked(OTHER_SIZE, is_other_M, of_other_size)
    found.add_marked(
        NOT_FINITE,
        np.isinf(masks.bounds_M4).any(1),
        lambda m: (coco.annotation(of_A[m]), "has a polygon with a coordinate that is none"),
    )
    is_finite_M = np.isfinite(masks.bounds_M4).all(1)
    # A pixel is in a mask if its centre is.
    is_beyond_M = ((low_M2 > sizes_M2 - 0.5) | (high_M2 < 0.5)).any(1) & ~is_rle_M & is_finite_M
    beyond_M = np.maximum(-low_M2, high_M2 - sizes_M2).max(1, initial=-np.inf)
    is_outside_M = is_finite_M & ~is_other_M & (beyond_M > BORDER_PX)
    is_empty_M = np.isnan(masks.bounds_M4).any(1) | (is_beyond_M & ~is_outside_M)
    found.add_marked(
        NO_PIXEL, is_empty_M, lambda m: (coco.annotation(of_A[m]), "has a mask without a pixel")
    )

    def bounds(m: int) -> str:
        x0, y0, x1, y1 = (f"{value:g}" for value in masks.bounds_M4[m])
        return f"has a mask from ({x0}, {y0}) to ({x1}, {y1})"

    def outside(m: int) -> tuple[str, str]:
        width, height = sizes_M2[m]
        return coco.annotation(of_A[m]), f"{bounds(m)} in an image of {width} x {height}"

    found.add_marked(OUTSIDE_IMAGE, is_outside_M, outside)
    box_low_M2, side_M2 = coco.boxes_A4[of_A, :2], np.abs(coco.boxes_A4[of_A, 2:])
    off_M2 = np.maximum(np.abs(low_M2 - box_low_M2), np.abs(high_M2 - box_low_M2 - side_M2))
    is_off_M = (off_M2 > BESIDE_PX + BESIDE_SHARE * side_M2).any(1)
    is_proper_M = (coco.boxes_A4[of_A, 2:] > 0).all(1)  # others have a finding of their own
    is_left_M = is_finite_M & ~(is_empty_M | is_other_M | is_outside_M)
    is_beside_M = is_left_M & is_proper_M & is_off_M

    def beside(m: int) -> tuple[str, str]:
        box = coco.boxes_A4[of_A[m]].tolist()
        return coco.annotation(of_A[m]), f"{bounds(m)} and bbox {box}"

    found.add_marked(BESIDE_BOX, is_beside_M, beside)
    return [*masks.findings, *found.findings()]
