"""Reading depth maps: 16-bit PNG files, a fixed number of steps per metre, 0 where nothing is known.

Shape legend: H, W pixels.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pe_dense.data.picture_header import picture_header

SUN_BIT_ROTATION = 3  # how SUN RGB-D stores depth; see `metres`


def read_depth_steps(path: str | Path) -> NDArray[np.uint16]:
    """The numbers of a depth PNG as they are in the file, (H, W).

    Raises:
        ValueError: If the file is missing, cannot be decoded, has several channels, is not of
            16 bits, or is 0 everywhere.
    """
    import cv2

    try:
        content = np.fromfile(path, dtype=np.uint8)
    except OSError as error:
        raise ValueError(
            f"depth map {path} is missing or cannot be read ({error.strerror}); check data_root "
            "and data_prefix"
        ) from error
    steps = cv2.imdecode(content, cv2.IMREAD_UNCHANGED) if content.size else None
    if steps is None:
        raise ValueError(
            f"depth map {path} cannot be decoded; replace the file or take it out of the list"
        )
    if steps.ndim != 2:
        raise ValueError(
            f"depth map {path} has {steps.shape[2]} channels; a map holds one depth per pixel "
            "(a picture of colours shows depth but does not hold it)"
        )
    if steps.dtype != np.uint16:
        raise ValueError(
            f"depth map {path} is {steps.dtype} and not uint16; depth of 8 bits was made for "
            "looking at, so fetch the 16-bit PNG"
        )
    if not steps.any():
        raise ValueError(
            f"depth map {path} is 0 everywhere, so no pixel of it is annotated; take it out of "
            "the list"
        )
    return steps


def require_size(path: str | Path, steps_HW: NDArray[np.uint16], image_hw: tuple[int, int]) -> None:
    """Refuse a depth map of another size than its image.

    Raises:
        ValueError: If it has.
    """
    if steps_HW.shape != image_hw:
        raise ValueError(
            f"depth map {path} is {steps_HW.shape[0]}x{steps_HW.shape[1]} px but its image is "
            f"{image_hw[0]}x{image_hw[1]}; they must agree"
        )


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
    if not 0 <= bit_rotation <= 15:
        raise ValueError(f"bit_rotation is {bit_rotation}; pass 0, or 3 for SUN RGB-D")
    if bit_rotation:
        steps_HW = (steps_HW >> bit_rotation) | (steps_HW << (16 - bit_rotation))
    return steps_HW.astype(np.float32) / np.float32(scale)


def picture_size(path: str | Path) -> tuple[int, int]:
    """Height and width of the stored pixels, from the head of a file.

    Raises:
        ValueError: If the file is missing or no picture.
    """
    width, height = picture_header(path).size
    return height, width
