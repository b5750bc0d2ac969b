"""Boxes of a COCO file: which are objects, and which are mistakes.

Training leaves out boxes of no width, height or area, and those outside their image; scores count
them as missed. So they are problems: put right, or accepted, and then left out of both.

Shape legend: A annotations.
"""

from __future__ import annotations

from collections import Counter

import numpy as np

from pe_dense.data.checks.coco_file import CocoFile
from pe_dense.data.checks.rules import Fault, Finding, FindingCollector, Rule

# Rounding takes boxes over the border by up to one pixel; more is a mistake.
BORDER_PX = 1.0
_LEFT_OUT = "left out of training and of scores"

IN_SHARES = Rule(
    "boxes-in-shares",
    "boxes in shares of the image, not in pixels",
    "boxes are x, y, w, h in pixels, so multiply x and w by the width, y and h by the height",
)
NEGATIVE = Rule(
    "negative-boxes",
    "boxes of negative width or height",
    "write x, y, w, h with x, y the upper left corner",
    _LEFT_OUT,
)
THIN = Rule("thin-boxes", "boxes thinner than 1 px", "draw them anew, or take them out", _LEFT_OUT)
AWAY = Rule(
    "outside-boxes",
    "boxes wholly outside their image",
    "write x, y, w, h in pixels of this image, or take them out",
    _LEFT_OUT,
)
OVER = Rule(
    "boxes-over-the-border",
    f"boxes that reach outside by more than {BORDER_PX:g} px",
    "write x, y, w, h (not x1, y1, x2, y2) in pixels, cut off at the border",
    "trained on with the part inside, scored as they are",
)
NEAR = Rule(
    "boxes-at-the-border",
    f"boxes that reach outside by up to {BORDER_PX:g} px",
    is_problem=False,
)
NO_AREA = Rule(
    "boxes-without-area",
    "boxes with an area of 0 or less in 'area'",
    "write the area of box or mask there",
    _LEFT_OUT,
)
COPIES = Rule(
    "repeated-boxes",
    "boxes given twice for one object",
    "take the copies out",
    "each trained on and scored as an object of its own",
)
REPEATED_IMAGES = Rule(
    "repeated-images",
    "images listed twice under different ids",
    "list each image once, with all its annotations",
    "each trained on and scored as an image of its own",
)
CROWDS = Rule("crowds", "crowds (not trained on, ignored in scores)", is_problem=False)
FLAGGED = Rule(
    "ignored-objects",
    "objects with the flag 'ignore' (not trained on, ignored in scores, as crowds)",
    is_problem=False,
)
EMPTY_IMAGES = Rule("empty-images", "images without annotations", is_problem=False)
UNUSED_CLASSES = Rule("unused-classes", "classes without any object", is_problem=False)
NO_IMAGES = Rule("no-images", "files without images", "an empty set cannot be used")
NO_ANNOTATIONS = Rule(
    "no-annotations",
    "files without annotations",
    "there is nothing to learn from or to score, so annotate the images",
)
ONLY_CROWDS = Rule(
    "only-crowds",
    "files in which every annotation is a crowd or has the flag 'ignore'",
    "there is nothing to learn from or to score, so write iscrowd 0 (and ignore 0) for objects",
)
NO_OBJECT = Rule(
    "no-usable-box",
    "files without a box that can be used",
    "a box is x, y, w, h in pixels, inside its image, with an area above 0",
)
# Accepting one of these leaves the objects out.
LEFT_OUT_RULES = (NEGATIVE, THIN, AWAY, NO_AREA)
# What published files break as well: there it is a note, since official scores count it.
BOX_RULES = (*LEFT_OUT_RULES, OVER, COPIES, REPEATED_IMAGES)
SPLIT_RULES = (IN_SHARES, NO_IMAGES, NO_ANNOTATIONS, ONLY_CROWDS, NO_OBJECT)


def box_findings(coco: CocoFile) -> list[Finding]:
    """Boxes that reach outside, are degenerate, repeated or in shares, and crowds.

    Args:
        coco: A file; only its sound entries are looked at.
    """
    found = FindingCollector(coco.path)
    if not coco.num_images:
        found.add(NO_IMAGES, "", "lists no images")
    elif not coco.num_annotations:
        found.add(NO_ANNOTATIONS, "", f"has no annotations for its {coco.num_images:,} images")
    if not coco.num_annotations:
        return found.findings()
    low_A2, side_A2 = coco.boxes_A4[:, :2], coco.boxes_A4[:, 2:]
    sizes_A2 = coco.sizes_I2[coco.image_index()]

    def add(rule: Rule, where_A: np.ndarray, words: object = None) -> None:
        def example(a: int) -> tuple[str, str]:
            tail = words(a) if callable(words) else ""
            return coco.annotation(a), f"has bbox {coco.boxes_A4[a].tolist()}{tail}"

        found.add_marked(rule, where_A, example)

    if coco.boxes_A4.max() <= 1.5 and sizes_A2.min() > 10:
        add(IN_SHARES, np.ones(coco.num_annotations, dtype=bool))
        return found.findings()
    is_negative_A = (side_A2 < 0).any(1)
    add(NEGATIVE, is_negative_A)
    is_thin_A = (side_A2 < 1).any(1) & ~is_negative_A
    add(THIN, is_thin_A)
    is_proper_A = ~is_negative_A & ~is_thin_A
    beyond_A = np.maximum(-low_A2, low_A2 + side_A2 - sizes_A2).max(1)
    inside_A2 = np.minimum(low_A2 + side_A2, sizes_A2) - np.maximum(low_A2, 0)
    is_away_A = is_proper_A & (inside_A2 <= 0).any(1)

    def beyond(a: int) -> str:
        width, height = sizes_A2[a]
        return f", which reaches {beyond_A[a]:g} px out of an image of {width} x {height}"

    add(AWAY, is_away_A, beyond)
    is_inside_A = is_proper_A & ~is_away_A
    add(OVER, is_inside_A & (beyond_A > BORDER_PX), beyond)
    found.add_count(NEAR, int((is_inside_A & (beyond_A > 0) & (beyond_A <= BORDER_PX)).sum()))
    is_void_A = is_proper_A & (coco.areas_A <= 0)
    add(NO_AREA, is_void_A, lambda a: f" and an area of {coco.areas_A[a]:g}")
    is_copy_A = np.ones(coco.num_annotations, dtype=bool)
    is_copy_A[np.unique(_keys(coco), return_index=True)[1]] = False
    add(COPIES, is_copy_A & ~coco.is_crowd_A, lambda a: ", like another of the class")
    found.add_count(CROWDS, int(coco.is_crowd_A.sum()) - coco.num_flagged)
    found.add_count(FLAGGED, coco.num_flagged)
    if coco.is_crowd_A.all():
        found.add(ONLY_CROWDS, "", f"has {coco.num_annotations:,} annotations, none an object")
    elif not (coco.is_usable() & ~coco.is_crowd_A).any():
        first = f"{coco.boxes_A4[0].tolist()} with area {coco.areas_A[0]:g}"
        value = f"has {coco.num_annotations:,} boxes, of which none can be used, first {first}"
        found.add(NO_OBJECT, "", value)
    return found.findings()


def _keys(coco: CocoFile) -> np.ndarray:
    """(A,) a number of 64 bits, the same for equal image, class, box and mask, and else another.

    Sorting whole rows would take several times the memory of the columns.
    """
    keys = np.zeros(coco.num_annotations, dtype=np.uint64)
    columns = [coco.image_ids_A, coco.category_ids_A, *coco.boxes_A4.T, coco.masks.hash_A]
    for column in columns:
        keys = (keys ^ np.ascontiguousarray(column).view(np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
        keys ^= keys >> np.uint64(29)
    return keys


def content_findings(coco: CocoFile) -> list[Finding]:
    """Images without annotations, images listed twice, classes without objects."""
    found = FindingCollector(coco.path)
    found.add_count(EMPTY_IMAGES, coco.num_empty_images())
    for name, count in Counter(coco.file_names).items():
        if count > 1:
            found.add(REPEATED_IMAGES, f"image {name}", f"is listed {count} times")
    unused = [name for name, (_, boxes, _) in coco.class_counts().items() if not boxes]
    findings = found.findings()
    if unused:
        shown = ", ".join(unused[:10]) + (" ..." if len(unused) > 10 else "")
        place = Fault(str(coco.path), "", f"has no object of {shown}")
        findings.append(Finding(UNUSED_CLASSES, len(unused), (place,)))
    return findings
