"""Which objects of a COCO file exist: the one rule of data sets, metrics and pictures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def is_ignored(annotation: Mapping[str, Any]) -> bool:
    """Whether an annotation is a region that is neither trained on nor scored.

    Crowds are ('iscrowd'), and so is what carries the flag 'ignore', of which COCO's evaluator
    knows nothing: no object to learn, and what is found there is no mistake.

    Raises:
        ValueError: If a flag is neither 0 nor 1.

    Example:
        >>> is_ignored({"iscrowd": 0, "ignore": 1}), is_ignored({})
        (True, False)
    """
    for name in ("iscrowd", "ignore"):
        if annotation.get(name, 0) not in (0, 1):
            raise ValueError(
                f"annotation {annotation.get('id')} has {name} {annotation[name]!r}; write 0 or 1"
            )
    return bool(annotation.get("iscrowd") or annotation.get("ignore"))


def is_trainable(annotation: Mapping[str, Any], width: int, height: int) -> bool:
    """Whether mmdet trains on a box: sides of 1 px, an area above 0, part of it in the image.

    Args:
        annotation: With 'bbox' (x, y, w, h in pixels) and 'area'.
        width: Of its image, in pixels.
        height: Of its image.

    Source: mmdet 3.5.1, CocoDataset.parse_data_info.
    """
    x, y, w, h = annotation["bbox"]
    across, down = min(x + w, width) - max(x, 0), min(y + h, height) - max(y, 0)
    return min(across, down) > 0 and min(w, h) >= 1 and annotation["area"] > 0
