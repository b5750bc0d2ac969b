"""Reading label maps: one number of 0 to 255 per pixel, as it is in the file.

The numbers of a palette picture are its labels, not their colours. Grey pictures of 1, 2 or 4 bits
hold labels from 0, too; decoders stretch them to 0..255, which is undone. Deeper pictures are read
if no label is above 255. Everything else is refused by name: colours, which no rule turns into
labels, and JPEG, which changes numbers.

Shape legend: H, W pixels.
"""

from __future__ import annotations

import io
import math
from collections.abc import Collection
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pe_dense.data.checks.rules import Rule, UnsoundError, broken
from pe_dense.data.picture import stored
from pe_dense.data.picture_header import header_of

IGNORED = 255
UNREADABLE = Rule(
    "label-map-unreadable", "label maps that cannot be decoded",
    "replace the file, or take it and its image out",
)  # fmt: skip
COLOUR = Rule(
    "label-map-colour", "label maps in colour",
    "a map holds one label per pixel, so turn colours into labels first",
)  # fmt: skip
LOSSY = Rule(
    "label-map-jpeg", "label maps saved as JPEG",
    "JPEG changes numbers, so write the labels anew from their source, as PNG",
)  # fmt: skip
DEEP = Rule(
    "label-map-deep", "label maps with numbers that are no whole numbers of 0 to 255",
    "write them as 8-bit PNG, with labels counted from 0",
)  # fmt: skip
SIZE = Rule(
    "label-map-size", "label maps of another size than their image",
    "they must agree, so write the map in the image's size",
)  # fmt: skip
RANGE = Rule(
    "label-range", "labels that are no class",
    "check reduce_zero_label and the list of classes, or number the labels anew",
)  # fmt: skip
FILE_RULES = (UNREADABLE, COLOUR, LOSSY, DEEP, SIZE, RANGE)


def read_labels(path: str | Path) -> NDArray[np.uint8]:
    """Labels of a file, (H, W).

    Raises:
        UnsoundError: If the file is missing, or as `decode_labels`.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise unreadable_map(path, error) from error
    return decode_labels(content, path)


def unreadable_map(path: str | Path, error: OSError) -> UnsoundError:
    """What to say of a file that cannot be opened."""
    is_absent = isinstance(error, FileNotFoundError)
    return broken(UNREADABLE, path, "is missing" if is_absent else f"has {error.strerror or error}")


def decode_labels(content: bytes, path: str | Path) -> NDArray[np.uint8]:
    """Labels of a file in memory, (H, W); `path` is how errors call it.

    Raises:
        UnsoundError: If it cannot be decoded, or holds what is no label; see the module.
    """
    try:
        header = header_of(content, "label map")
        with Image.open(io.BytesIO(content)) as picture:
            mode, values = picture.mode, stored(np.asarray(picture), header)
            is_lossy = "jpeg" in (picture.info.get("compression"), header.format.lower()[:4])
    except Exception as error:  # Pillow raises many kinds for a broken file
        raise broken(UNREADABLE, path, "is no picture, or is cut off") from error
    if values.ndim != 2:
        raise broken(COLOUR, path, f"has {values.shape[-1]} channels of colour")
    if header.mode == "L;I":
        raise broken(UNREADABLE, path, "is a TIFF whose 0 is white, so that readers differ")
    if is_lossy:
        raise broken(LOSSY, path, "is a JPEG")
    if values.dtype != np.uint8:
        return _in_eight_bits(path, values)
    white = header.largest or 2**header.bits - 1
    if mode == "L" and white < 255:  # stretched by the decoder
        return ((values.astype(np.uint16) * white + 127) // 255).astype(np.uint8)
    return values


def require_map_size(
    path: str | Path, labels_HW: NDArray[np.uint8], image_hw: tuple[int, int]
) -> None:
    """Refuse a label map of another size than its image.

    Raises:
        UnsoundError: If it has.
    """
    if labels_HW.shape != tuple(image_hw):
        (h, w), (image_h, image_w) = labels_HW.shape, image_hw
        turned = ", turned by its Exif entry?" if (h, w) == (image_w, image_h) else ""
        raise broken(SIZE, path, f"is {w}x{h} px but its image is {image_w}x{image_h}{turned}")


def require_labels(
    path: str | Path, labels_HW: NDArray[np.uint8], allowed: Collection[int]
) -> None:
    """Refuse a label that is neither a class nor ignored.

    Args:
        path: The file, for the message.
        labels_HW: What it holds.
        allowed: Every label that it may hold besides 255.

    Raises:
        UnsoundError: If there is one.
    """
    strange = np.bincount(labels_HW.ravel(), minlength=256) > 0
    strange[[*allowed, IGNORED]] = False
    if strange.any():
        raise broken(RANGE, path, strange_label(int(strange.argmax()), allowed))


def strange_label(label: int, allowed: Collection[int]) -> str:
    """What is wrong with a label that is not among those that a map may hold."""
    return f"holds label {label}, but its labels may be {ranges({*allowed, IGNORED})}"


def ranges(values: Collection[int]) -> str:
    """Whole numbers in words.

    Example:
        >>> ranges({0, 1, 2, 7, 255})
        '0 to 2, 7 and 255'
    """
    runs: list[list[int]] = []
    for value in sorted(values):
        if runs and value == runs[-1][-1] + 1:
            runs[-1][1:] = [value]
        else:
            runs.append([value])
    *words, last = [" to ".join(map(str, run)) for run in runs]
    return f"{', '.join(words)} and {last}" if words else last


def _in_eight_bits(path: str | Path, values_HW: NDArray) -> NDArray[np.uint8]:
    """16-bit, 1-bit and floating-point numbers that are labels, nevertheless."""
    with np.errstate(invalid="ignore"):
        labels_HW = values_HW.astype(np.uint8)
    wrong = values_HW[labels_HW != values_HW]
    if wrong.size:
        first = wrong[0].item()
        text = "nan" if math.isnan(first) else f"{first:g}"
        raise broken(DEEP, path, f"holds {text} ({values_HW.dtype})")
    return labels_HW
