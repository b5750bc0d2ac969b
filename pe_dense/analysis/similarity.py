"""How alike every token is to the one at a point that somebody clicked.

Shape legend: C feature width, h w token grid, H W pixels.
"""

from __future__ import annotations

import numpy as np


def token_at(
    point_xy: tuple[float, float], image_hw: tuple[int, int], grid_hw: tuple[int, int]
) -> tuple[int, int]:
    """Row and column of the token whose patch a point of the image lies in.

    Args:
        point_xy: In pixels of the image, x to the right and y down, 0-based.
        image_hw: Size of the image that the point is counted in.
        grid_hw: Size of the token grid that covers this image.

    Raises:
        ValueError: If the point lies outside the image.

    Example:
        >>> token_at((15, 16), (32, 48), (2, 3)), token_at((47, 0), (32, 48), (2, 3))
        ((1, 0), (0, 2))
    """
    (x, y), (height, width), (h, w) = point_xy, image_hw, grid_hw
    if not (0 <= x < width and 0 <= y < height):
        raise ValueError(
            f"point ({x:g}, {y:g}) lies outside the image of {width} x {height} px; give x in "
            f"0..{width - 1} and y in 0..{height - 1}"
        )
    return int(y * h / height), int(x * w / width)


def similarity_map(map_Chw: np.ndarray, feature_C: np.ndarray) -> np.ndarray:
    """Cosine of every token with a feature, (h, w) float64 in -1..1.

    A feature of length 0 has no direction: its cosine is 0 here.

    Args:
        map_Chw: Features of the same image as `feature_C`, or of another one.
        feature_C: The token at the point.

    Raises:
        ValueError: If widths differ.
    """
    if map_Chw.ndim != 3 or feature_C.shape != map_Chw.shape[:1]:
        raise ValueError(
            f"a feature of shape {feature_C.shape} cannot be compared with a map of shape "
            f"{map_Chw.shape}; take both from one encoder and layer"
        )
    map_Chw, feature_C = map_Chw.astype(np.float64), feature_C.astype(np.float64)
    length_hw = np.linalg.norm(map_Chw, axis=0) * np.linalg.norm(feature_C)
    dot_hw = np.einsum("chw,c->hw", map_Chw, feature_C)
    cosine_hw = dot_hw / np.where(length_hw > 0, length_hw, 1.0)
    return np.clip(np.where(length_hw > 0, cosine_hw, 0.0), -1.0, 1.0)
