"""What the names at the top of a config may hold, where a library would misread or stumble.

mmcv takes an image scale of (0, 0) or (-32, 32) and trains on images of a pixel.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _are_sides(value: Any) -> bool:
    return _is_pair(value) and all(map(_is_whole, value))


def _is_scale(value: Any) -> bool:
    return _is_whole(value) or _are_sides(value)


def _are_factors(value: Any) -> bool:
    if not _is_pair(value) or not all(isinstance(item, int | float) for item in value):
        return False
    return 0 < value[0] <= value[1] < math.inf


def _is_pair(value: Any) -> bool:
    return isinstance(value, list | tuple) and len(value) == 2


_COUNT = _is_whole, "a whole number of at least 1"
_SIDES = _are_sides, "two whole numbers of at least 1, such as 64,64"
_SCALE = _is_scale, "one or two whole numbers of at least 1, such as 64,64"
_RULES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "batch_size": _COUNT,
    "max_epochs": _COUNT,
    "max_iters": _COUNT,
    "val_interval": _COUNT,
    "crop_size": _SIDES,
    "image_scale": _SCALE,
    "train_scale": _SCALE,
    "ratio_range": (_are_factors, "a lower and an upper factor above 0, such as 0.5,2.0"),
}


def require_values(names: Mapping[str, Any], path: object) -> None:
    """Refuse a value that its name cannot have.

    Args:
        names: Names at the top of a config and their values, references filled in.
        path: How errors call the config.

    Raises:
        ValueError: Naming the first such.
    """
    for name, (is_right, words) in _RULES.items():
        if name in names and not is_right(names[name]):
            raise ValueError(f"{name}={names[name]!r} of config {path} must be {words}; correct it")


# Data sets that are drawn as a run starts, into data_root.
DRAWN = ("MiniCaptionedImages",)


def require_data_root(names: Mapping[str, Any]) -> None:
    """Refuse a run whose data are not there, before weights are fetched for it.

    A pattern, or a list of places, is left to its reader, and data that a run draws itself
    (`DRAWN`) are made where they are missing.

    Raises:
        ValueError: If `data_root` is no file or folder.
    """
    loader = names.get("train_dataloader") or {}
    if loader and (loader.get("dataset") or {}).get("type") in DRAWN:
        return
    root = names.get("data_root")
    if not isinstance(root, str) or not root or any(sign in root for sign in "*?[{,"):
        return
    if not Path(root).expanduser().exists():
        raise ValueError(
            f"data_root {root} does not exist; name the folder with --cfg-options data_root=DIR"
        )
