"""Reading depth maps: 16-bit PNG files, so many steps per metre, 0 where nothing is known.

Shape legend: H, W pixels.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pe_dense.data.checks.rules import Rule, broken
from pe_dense.data.picture import stored
from pe_dense.data.picture_header import header_of

SUN_BIT_ROTATION = 3  # how SUN RGB-D stores depth; see `metres`
UNREADABLE = Rule(
    "depth-unreadable", "depth maps that cannot be read",
    "replace the file, or take it out of the list",
)  # fmt: skip
COLOUR = Rule(
    "depth-colour", "depth maps in colour",
    "a map holds one depth per pixel; a picture of colours shows depth but does not hold it",
)  # fmt: skip
NOT_16_BIT = Rule(
    "depth-not-16-bit", "depth maps that are not 16-bit",
    "fetch or write 16-bit PNG of whole steps; depth of 8 bits was made for looking at",
)  # fmt: skip
EMPTY = Rule("depth-empty", "depth maps without an annotated pixel", "take them out of the list")
SIZE = Rule(
    "depth-size", "depth maps of another size than their image",
    "they must agree, so write the map in the image's size",
)  # fmt: skip
FILE_RULES = (UNREADABLE, COLOUR, NOT_16_BIT, EMPTY, SIZE)


def read_depth_steps(path: str | Path) -> NDArray[np.uint16]:
    """The numbers of a depth PNG as they are in the file, (H, W).

    Raises:
        UnsoundError: If the file is missing, cannot be decoded, has several channels, is not
            of 16 bits, or is 0 everywhere.
    """
    import cv2

    try:
        content = np.fromfile(path, dtype=np.uint8)
    except FileNotFoundError as error:
        raise broken(UNREADABLE, path, "does not exist") from error
    except OSError as error:
        raise broken(UNREADABLE, path, f"cannot be read ({error.strerror})") from error
    is_jpeg_2000 = content[4:8].tobytes() == b"jP  "  # whose decoder in OpenCV ends the process
    usable = content.size > 0 and not is_jpeg_2000
    steps = cv2.imdecode(content, cv2.IMREAD_UNCHANGED) if usable else None
    if steps is None:
        raise broken(UNREADABLE, path, "cannot be decoded")
    try:
        header = header_of(content.tobytes(), "depth map")
    except ValueError as error:
        raise broken(UNREADABLE, path, "cannot be decoded") from error
    if steps.ndim != 2:
        raise broken(COLOUR, path, f"has {steps.shape[2]} channels")
    if steps.dtype != np.uint16:
        raise broken(NOT_16_BIT, path, f"is {steps.dtype} and not uint16")
    if header.bits != 16 or header.kind != "unsigned":  # OpenCV scales packed bits
        raise broken(NOT_16_BIT, path, f"has {header.kind} numbers of {header.bits} bits")
    if header.mode == "L;I":
        raise broken(UNREADABLE, path, "is a TIFF whose 0 is white, so that readers differ")
    if not steps.any():
        raise broken(EMPTY, path, "is 0 everywhere")
    return np.ascontiguousarray(stored(steps, header))


def require_size(path: str | Path, steps_HW: NDArray[np.uint16], image_hw: tuple[int, int]) -> None:
    """Refuse a depth map of another size than its image.

    Raises:
        UnsoundError: If it has.
    """
    if steps_HW.shape != image_hw:
        (h, w), (image_h, image_w) = steps_HW.shape, image_hw
        raise broken(SIZE, path, f"is {h}x{w} px but its image is {image_h}x{image_w}")


def metres(
    steps_HW: NDArray[np.uint16], scale: float, bit_rotation: int = 0
) -> NDArray[np.float32]:
    """Depth in metres; 0 stays 0 and means no annotation.

    Args:
        steps_HW: As in the file.
        scale: Steps per metre: 1000 for NYUv2 and SUN RGB-D, 256 for KITTI.
        bit_rotation: So many low bits of a step are stored as its high bits: 3 in the files of
            SUN RGB-D, 0 elsewhere.

    Raises:
        ValueError: If `scale` is not positive or `bit_rotation` not 0 to 15.

    Source: read3dPoints of the SUN RGB-D toolbox, as in
    zhyever/Monocular-Depth-Estimation-Toolbox @ d8aff50, depth/datasets/sunrgbd.py. Deviation:
    depth beyond 8 m is not set to 8 m, as they do; limit it where errors are computed.

    Example:
        >>> metres(np.array([[0, 2500]], np.uint16), 1000.0).tolist()
        [[0.0, 2.5]]
        >>> metres(np.array([[20000]], np.uint16), 1000.0, bit_rotation=3).tolist()
        [[2.5]]
    """
    if not scale > 0:
        raise ValueError(f"depth scale is {scale}; pass steps per metre, such as 1000 or 256")
    return turned_back(steps_HW, bit_rotation).astype(np.float32) / np.float32(scale)


def turned_back(steps_HW: NDArray[np.uint16], bit_rotation: int) -> NDArray[np.uint16]:
    """Steps whose lowest bits were stored as the highest.

    Raises:
        ValueError: If `bit_rotation` is not 0 to 15.
    """
    if not 0 <= bit_rotation <= 15:
        raise ValueError(f"bit_rotation is {bit_rotation}; pass 0, or 3 for SUN RGB-D")
    if not bit_rotation:
        return steps_HW
    return (steps_HW >> bit_rotation) | (steps_HW << (16 - bit_rotation))
