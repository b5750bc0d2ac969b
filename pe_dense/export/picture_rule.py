"""How a config's test pipeline turns a picture into the model's input, as facts for a runtime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

# Steps that change no pixel of a picture.
_PIXELS_STAY = (
    "LoadImage", "LoadAnnotations", "LoadPolygons", "LoadDepth", "PackSegInputs", "PackDetInputs",
    "PackDepthInputs",
)  # fmt: skip


def picture_rule(pipeline: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What becomes of a picture before it is normalised and padded.

    Args:
        pipeline: Of the test data set, resolved.

    Returns:
        `resize`: steps one after another, each `{scale: [longest, shortest], keep_ratio, backend}`
        (without keep_ratio the scale is width and height) or `{short, longest, backend}`; backend
        is 'cv2' or 'pillow', whose bilinear interpolation averages where it shrinks. `not_done`:
        names of steps that a runtime is not told how to do.

    Example:
        >>> picture_rule([dict(type="LoadImage"), dict(type="Resize", scale=(64, 32))])["resize"]
        [{'scale': [64, 32], 'keep_ratio': False, 'backend': 'cv2'}]
    """
    resize: list[dict[str, Any]] = []
    not_done: list[str] = []
    for step in pipeline:
        kind = step["type"]
        if (
            kind == "Resize"
            and "scale" in step
            and step.get("interpolation", "bilinear") == ("bilinear")
        ):
            backend = "pillow" if step.get("antialias") else step.get("backend", "cv2")
            rule = dict(
                scale=[int(side) for side in step["scale"]],
                keep_ratio=bool(step.get("keep_ratio", False)),
                backend=backend,
            )
            if step.get("antialias"):
                rule["rounding"] = "one_division"
            resize.append(rule)
        elif kind == "DETAResize" and step.get("view") is None and _one_short(step):
            resize.append(_short_rule(step))
        elif kind == "Compose":
            inner = picture_rule(step.get("transforms") or [])
            resize += inner["resize"]
            not_done += inner["not_done"]
        elif kind not in _PIXELS_STAY:
            not_done.append(kind)
    return dict(resize=resize, not_done=not_done)


def _one_short(step: Mapping[str, Any]) -> bool:
    return "canvas" in step or isinstance(step.get("short"), int)


def _short_rule(step: Mapping[str, Any]) -> dict[str, Any]:
    from pe_dense.detection.deta_transforms import MARGIN

    if step.get("canvas") is not None:
        short = longest = step["canvas"] - MARGIN
    else:
        short, longest = step["short"], step.get("longest")
    return dict(short=short, longest=longest, backend=step.get("backend", "pillow"))
