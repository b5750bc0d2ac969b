"""What is wrong with the boxes, names and images of a COCO file, beyond its form.

Whatever mmdet and the metric tolerate is a note; what makes training or scoring fail, or silently
wrong, is a problem.

Shape legend: I images, A annotations.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from pe_dense.data.checks.coco_file import CocoFile
from pe_dense.data.checks.findings import MAX_EXAMPLES, Finding, FindingCollector
from pe_dense.data.image_files import (
    decoded_size,
    existing_files,
    known_to_be_absent,
    spread,
)

# Rounding takes boxes over the border by up to one pixel; more is a mistake.
BORDER_PX = 1.0


def box_findings(coco: CocoFile, outside_is_problem: bool = True) -> list[Finding]:
    """Boxes that reach outside, are degenerate, repeated or normalised, and crowds.

    Args:
        coco: A file; only its sound entries are looked at.
        outside_is_problem: Whether boxes that reach outside by more than a pixel are.
    """
    if not coco.num_annotations:
        return [Finding("annotations", 0, (f"{coco.path} has none",))]
    low_A2, side_A2 = coco.boxes_A4[:, :2], coco.boxes_A4[:, 2:]
    sizes_A2 = coco.sizes_I2[coco.image_index()]
    found = FindingCollector()

    def add(
        kind: str, where_A: np.ndarray, words: Callable[[int], str] | None, is_problem: bool = True
    ) -> None:
        def example(a: int) -> str:
            start = f"annotation {coco.annotation_ids_A[a]} has bbox {coco.boxes_A4[a].tolist()}"
            return f"{start}{words(a)}"

        found.add_marked(kind, where_A, words and example, is_problem)

    if coco.boxes_A4.max() <= 1.5 and sizes_A2.min() > 10:
        add(
            "boxes in shares of the image, not in pixels",
            np.ones(coco.num_annotations, dtype=bool),
            lambda a: "multiply x and w by the width, y and h by the height",
        )
        return found.findings()
    is_negative_A = (side_A2 < 0).any(1)
    add("boxes of negative width or height", is_negative_A, lambda a: "")
    is_thin_A = (side_A2 < 1).any(1) & ~is_negative_A
    add("boxes thinner than 1 px (left out in training)", is_thin_A, lambda a: "", False)
    is_proper_A = ~is_negative_A & ~is_thin_A
    beyond_A = np.maximum(-low_A2, low_A2 + side_A2 - sizes_A2).max(1)
    inside_A2 = np.minimum(low_A2 + side_A2, sizes_A2) - np.maximum(low_A2, 0)
    is_away_A = is_proper_A & (inside_A2 <= 0).any(1)

    def beyond(a: int) -> str:
        width, height = sizes_A2[a]
        return f" reaches {beyond_A[a]:g} px out of an image of {width} x {height}"

    add(
        "boxes wholly outside their image (left out in training)",
        is_away_A, beyond, outside_is_problem,
    )  # fmt: skip
    is_over_A = is_proper_A & ~is_away_A & (beyond_A > BORDER_PX)
    add(
        f"boxes that reach outside by more than {BORDER_PX:g} px",
        is_over_A, beyond, outside_is_problem,
    )  # fmt: skip
    is_near_A = is_proper_A & ~is_away_A & (beyond_A > 0) & (beyond_A <= BORDER_PX)
    add(f"boxes that reach outside by up to {BORDER_PX:g} px", is_near_A, None, False)
    is_void_A = is_proper_A & (coco.areas_A <= 0)
    add(
        "boxes with an area of 0 or less in 'area' (left out in training)",
        is_void_A,
        lambda a: f" has an area of {coco.areas_A[a]:g}; the area of box or mask belongs there",
    )
    is_copy_A = np.ones(coco.num_annotations, dtype=bool)
    is_copy_A[np.unique(_keys(coco), return_index=True)[1]] = False
    add("boxes given twice for one object", is_copy_A, lambda a: "", False)
    add("crowds (not trained on, ignored in scores)", coco.is_crowd_A, None, False)
    return found.findings()


def _keys(coco: CocoFile) -> np.ndarray:
    """(A,) a number that is the same for equal image, class and box; 64 bits, so else it differs.

    Sorting whole rows would take several times the memory of the columns.
    """
    keys = np.zeros(coco.num_annotations, dtype=np.uint64)
    columns = [coco.image_ids_A, coco.category_ids_A, *coco.boxes_A4.T]
    for column in columns:
        keys = (keys ^ np.ascontiguousarray(column).view(np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
        keys ^= keys >> np.uint64(29)
    return keys


def content_findings(coco: CocoFile) -> list[Finding]:
    """Images without annotations, names given twice, classes without objects: all notes."""
    findings = []
    empty = coco.num_empty_images()
    if empty:
        findings.append(Finding("images without annotations", empty, (), False))
    repeated = [name for name, count in Counter(coco.file_names).items() if count > 1]
    if repeated:
        kind = "images listed twice under different ids (detections count as false in one)"
        findings.append(Finding(kind, len(repeated), tuple(repeated[:MAX_EXAMPLES]), False))
    unused = [name for name, (_, boxes) in coco.class_counts().items() if not boxes]
    if unused:
        shown = (", ".join(unused[:10]) + (" ..." if len(unused) > 10 else ""),)
        findings.append(Finding("classes without any object", len(unused), shown, False))
    return findings


def image_findings(
    coco: CocoFile,
    image_dir: Path,
    naming: str = "coco",
    num_decoded: int = 200,
    on_progress: Callable[[int, int], None] | None = None,
) -> list[Finding]:
    """Images that are missing, cannot be decoded, or have another size than the file says.

    Args:
        coco: The file.
        image_dir: What its names are relative to.
        naming: As in `read_coco_file`.
        num_decoded: So many images, evenly spread, are decoded; all are looked for.
        on_progress: Called with (images done, images to do).
    """
    found = FindingCollector()
    indices = [i for i, name in enumerate(coco.file_names) if not known_to_be_absent(name, naming)]
    present = existing_files(image_dir, coco.file_names)
    here = [i for i in indices if present[i]]
    for i in indices:
        if not present[i]:
            found.add("images without a file", f"{image_dir / coco.file_names[i]} does not exist")
    if len(indices) < coco.num_images:
        absent = coco.num_images - len(indices)
        found.add("images that no copy of the data set has", f"{absent} are left out", False)
    chosen = here if len(here) <= num_decoded else [here[k] for k in spread(len(here), num_decoded)]
    for done, i in enumerate(chosen, start=1):
        file, expected = image_dir / coco.file_names[i], tuple(coco.sizes_I2[i].tolist())
        try:
            size = decoded_size(file)
        except ValueError as error:
            found.add("images that cannot be decoded", str(error))
        else:
            if size != expected:
                turned = ", turned by its EXIF entry?" if size == expected[::-1] else ""
                found.add(
                    f"images of another size than the JSON says (of {len(chosen)} decoded)",
                    f"{file} has {size[0]} x {size[1]} px, not {expected[0]} x {expected[1]}"
                    f"{turned}",
                )
        if on_progress is not None:
            on_progress(done, len(chosen))
    return found.findings()


def leak_findings(train: CocoFile, train_dir: Path, val: CocoFile, val_dir: Path) -> list[Finding]:
    """Images that are both trained on and scored."""
    known = {os.path.normpath(train_dir / name) for name in train.file_names}
    both = [name for name in val.file_names if os.path.normpath(val_dir / name) in known]
    if not both:
        return []
    return [Finding("images in both train and val", len(both), tuple(both[:MAX_EXAMPLES]))]
