"""A table of images and objects by class and split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from pe_dense.data.checks.coco_split import CocoFacts
from pe_dense.data.checks.text_table import text_table

MAX_ROWS = 12


def class_table(
    splits: Mapping[str, CocoFacts],
    image_dirs: Mapping[str, Path],
    classes: Sequence[str] | None = None,
    max_rows: int = MAX_ROWS,
) -> str:
    """Images, images without objects, and for every class its objects and images, as text.

    Args:
        splits: Name of a column -> content.
        image_dirs: The same -> the folder of its images, where it is known.
        classes: Rows, in this order; by default the classes of the first split.
        max_rows: With more classes, only those with the most and the fewest objects are shown.

    Returns:
        Lines of equal width; 'boxes (images)' in each cell.
    """
    nothing = (0, 0, 0)
    if classes is None:
        classes = next(iter(splits.values())).classes
    total = {
        name: sum(facts.counts.get(name, nothing)[1] for facts in splits.values())
        for name in classes
    }
    shown = list(classes)
    if len(shown) > max_rows:
        by_count = sorted(classes, key=lambda name: -total[name])
        shown = [*by_count[: max_rows // 2], "", *by_count[-(max_rows // 2) :]]
    rows = [
        ["", *splits],
        ["images", *(f"{facts.num_images:,}" for facts in splits.values())],
        ["  without objects", *(f"{facts.num_empty:,}" for facts in splits.values())],
        ["boxes", *(f"{facts.num_annotations:,}" for facts in splits.values())],
    ]
    if image_dirs:
        rows.insert(1, ["images in", *(_short(image_dirs.get(name)) for name in splits)])
    unusable = [facts.num_unusable for facts in splits.values()]
    if any(unusable):
        rows.append(["  too small or outside", *(f"{count:,}" for count in unusable)])
    crowds = [facts.num_crowds for facts in splits.values()]
    if any(crowds):
        rows.append(["  crowds or ignored", *(f"{count:,}" for count in crowds)])
    rows.append([f"{len(classes)} classes: boxes (images)", *("" for _ in splits)])
    for name in shown:
        cells = [facts.counts.get(name, nothing) for facts in splits.values()]
        rows.append(
            [f"  {name}", *(f"{boxes:,} ({images:,})" for images, boxes, _ in cells)]
            if name
            else [f"  ... {len(classes) - len(shown) + 1} more", *("" for _ in splits)]
        )
    return text_table(rows)


def _short(folder: Path | None) -> str:
    """The last two parts of a folder's path."""
    return "" if folder is None else "/".join(folder.parts[-2:])
