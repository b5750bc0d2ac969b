"""Masks of objects as people have them -> object ids.

    indexed PNG                 its indices are ids, 255 is void (DAVIS, YouTube-VOS)
    grey, 0 and another value   one object, id 1; 255 or any other single value stands for it
    grey, 0 to 14               ids
    colours of DAVIS's palette  their places in it: an indexed PNG that was saved as RGB
    black and white             one object
    a folder for each object    objects in the order of the folders' names, or the numbers in them

Anything else is refused: colours or greys that were resized or saved with loss name no object.

Shape legend: H W pixels.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from pe_dense.mini_world.formats import davis_palette
from pe_dense.tracking.frames import MAX_GREY_ID
from pe_dense.tracking.region_and_boundary import VOID

MAX_OBJECTS = VOID - 1


def read_own_mask(path: Path) -> np.ndarray:
    """Object ids uint8 (H, W) of one file: 0 is background, 255 is void.

    Raises:
        ValueError: If the file is missing, cannot be decoded, or its values name no objects.
    """
    try:
        with Image.open(path) as image:
            mode = image.mode
            hides = mode in ("RGBA", "LA", "PA") and _hides(image.convert("RGBA"))
            values_HWC = np.asarray(image if mode in ("P", "L", "RGB", "RGBA") else _plain(image))
    except FileNotFoundError as error:
        raise ValueError(f"mask {path} is missing") from error
    except Exception as error:  # Pillow raises many kinds for a broken file
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"mask {path} cannot be decoded ({reason}); replace the file") from error
    if hides:
        raise ValueError(
            f"mask {path} has transparent pixels that are not black, so it is unknown where the "
            "object is; save it without alpha, background 0"
        )
    if mode == "P":
        return values_HWC
    if values_HWC.ndim == 3:
        return _of_colours(values_HWC[..., :3], path)
    return _of_greys(values_HWC, path)


def read_object_masks(paths: Mapping[int, Path]) -> np.ndarray:
    """Object ids uint8 (H, W) of one mask for each object, by id; what is not 0 is the object.

    Where masks overlap, the pixel is that of the lowest id.

    Raises:
        ValueError: If a file cannot be read, sizes differ, or one is no mask of a single object.
    """
    labels_HW: np.ndarray | None = None
    for identity in sorted(paths, reverse=True):
        values_HW = read_own_mask(paths[identity])
        labels_HW = np.zeros_like(values_HW) if labels_HW is None else labels_HW
        if values_HW.shape != labels_HW.shape:
            raise ValueError(
                f"mask {paths[identity]} has {values_HW.shape[0]} x {values_HW.shape[1]} px, the "
                f"mask of another object {labels_HW.shape[0]} x {labels_HW.shape[1]}; save masks "
                "of a video at one size"
            )
        if len(found := np.unique(values_HW[values_HW > 0])) > 1:
            raise ValueError(
                f"mask {paths[identity]} is that of one object by its folder, and holds "
                f"{len(found)}; save one object in each, or all in one indexed PNG"
            )
        labels_HW[values_HW > 0] = identity
    assert labels_HW is not None, "there is at least one object"
    return labels_HW


def object_ids(folders: Sequence[str]) -> dict[str, int]:
    """Ids of objects by the names of their folders: the numbers in them where these will do.

    Raises:
        ValueError: If there are more objects than ids.

    Example:
        >>> object_ids(["002", "010"]), object_ids(["car", "bike"]), object_ids(["0", "1"])
        ({'002': 2, '010': 10}, {'bike': 1, 'car': 2}, {'0': 1, '1': 2})
    """
    if len(folders) > MAX_OBJECTS:
        raise ValueError(f"{len(folders)} objects are more than the {MAX_OBJECTS} of a label map")
    numbers = [[int(n) for n in re.findall("[0-9]+", name)] for name in folders]
    lasts = [found[-1] if found else 0 for found in numbers]
    if len(set(lasts)) == len(lasts) and all(0 < n <= MAX_OBJECTS for n in lasts):
        return dict(zip(folders, lasts, strict=True))
    return {name: k for k, name in enumerate(sorted(folders), start=1)}


def _hides(image: Image.Image) -> bool:
    """Whether an RGBA image has pixels that are seen only without its alpha."""
    values_HW4 = np.asarray(image)
    return bool(((values_HW4[..., 3] == 0) & values_HW4[..., :3].any(axis=2)).any())


def _plain(image: Image.Image) -> Image.Image:
    """Other modes as grey or colours, without losing values."""
    if image.mode == "1":
        return image.convert("L")
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        values_HW = np.asarray(image)
        if values_HW.min() < 0 or (values_HW != values_HW.astype(np.int64)).any():
            raise ValueError(f"values of mode {image.mode} are no ids")
        known = np.unique(values_HW)
        if known.max(initial=0) > VOID and len(known) <= 2:  # one object of 16 bits
            return Image.fromarray(np.where(values_HW > 0, 255, 0).astype(np.uint8))
        if known.max(initial=0) > VOID:
            raise ValueError(f"it has the value {known.max()}, and ids go to {MAX_OBJECTS}")
        return Image.fromarray(values_HW.astype(np.uint8))
    return image.convert("L" if image.mode == "LA" else "RGB")


def _of_greys(values_HW: np.ndarray, path: Path) -> np.ndarray:
    known = np.unique(values_HW)
    above = known[known > 0]
    if len(above) == 1:  # whatever stands for the object, it is the only one
        is_id = above[0] <= MAX_GREY_ID
        return values_HW if is_id else (values_HW > 0).astype(np.uint8)
    ids = above[above != VOID]
    if ids.max(initial=0) > MAX_GREY_ID:
        raise ValueError(
            f"mask {path} is grey with {len(above)} values up to {above.max()}, which name no "
            f"objects: give ids 1 to {MAX_GREY_ID}, one value for a single object, or an indexed "
            "PNG (mode P); masks that were resized or saved with loss have values between"
        )
    return values_HW


def _of_colours(values_HW3: np.ndarray, path: Path) -> np.ndarray:
    codes_HW = (values_HW3.astype(np.uint32) * [1 << 16, 1 << 8, 1]).sum(axis=2)
    codes, places_HW = np.unique(codes_HW, return_inverse=True)
    if len(codes) <= 2 and set(codes.tolist()) <= {0, 0xFFFFFF}:
        return (codes_HW > 0).astype(np.uint8)
    palette = davis_palette().reshape(-1, 3).astype(np.uint32) @ [1 << 16, 1 << 8, 1]
    ids = {int(code): k for k, code in reversed(list(enumerate(palette.tolist())))}
    unknown = [code for code in codes.tolist() if code not in ids]
    if unknown:
        colour = tuple(unknown[0] >> shift & 255 for shift in (16, 8, 0))
        raise ValueError(
            f"mask {path} holds colours, and {colour} is none of DAVIS's palette, so it names no "
            "object; save masks as indexed PNGs (mode P)"
        )
    return np.array([ids[code] for code in codes.tolist()], np.uint8)[places_HW].reshape(
        codes_HW.shape
    )
