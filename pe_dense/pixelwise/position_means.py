"""What position alone says of a map: means over many maps, at the places of one small grid.

A picture of any size is laid over the grid, its left edge on the left edge. Nothing here sees a
picture: these are the predictors that a trained one has to beat.

Shape legend: G cells of a side, K classes, F features, H W pixels.
"""

from __future__ import annotations

import numpy as np

GRID = 64  # cells of a side


def sampled(map_HW: np.ndarray, grid: int = GRID) -> np.ndarray:
    """(G, G) values in the middle of each cell, without mixing any."""
    height, width = map_HW.shape[:2]
    rows, columns = (
        ((np.arange(grid) + 0.5) * side / grid).astype(int) for side in (height, width)
    )
    return map_HW[rows[:, None], columns]


def spread(map_GG: np.ndarray, height: int, width: int) -> np.ndarray:
    """(H, W): the value of the cell that the middle of each pixel lies in."""
    sides = map_GG.shape[:2]
    rows, columns = (
        ((np.arange(side) + 0.5) * cells / side).astype(int)
        for side, cells in zip((height, width), sides, strict=True)
    )
    return map_GG[rows[:, None], columns]


class LabelCounts:
    """How often each class is at each place.

    Args:
        num_classes: K.
        ignore_index: Label that says nothing.
        grid: G.
    """

    def __init__(self, num_classes: int, ignore_index: int = 255, grid: int = GRID) -> None:
        self.ignore_index, self.grid = ignore_index, grid
        self.counts_GGK = np.zeros((grid, grid, num_classes), np.int64)
        self.pixels_K = np.zeros(num_classes, np.int64)

    def add(self, labels_HW: np.ndarray) -> None:
        """Count one map of classes.

        Raises:
            ValueError: If a class is out of range.
        """
        num_classes = len(self.pixels_K)
        found, pixels = np.unique(labels_HW, return_counts=True)
        known = found != self.ignore_index
        if known.any() and (found[known].min() < 0 or found[known].max() >= num_classes):
            raise ValueError(f"a label map holds {found[known].tolist()}, of {num_classes} classes")
        self.pixels_K[found[known].astype(np.int64)] += pixels[known]
        labels_GG = sampled(labels_HW, self.grid)
        rows, columns = np.nonzero(labels_GG != self.ignore_index)
        self.counts_GGK[rows, columns, labels_GG[rows, columns].astype(np.int64)] += 1

    def best_constant(self) -> int:
        """The class with the most training pixels.

        Raises:
            ValueError: If no pixel was counted.
        """
        if not self.pixels_K.any():
            raise ValueError("no training pixel has a class")
        return int(self.pixels_K.argmax())

    def most_frequent(self) -> np.ndarray:
        """The most frequent class at each place; where none was seen, the most frequent of all."""
        found_GG = self.counts_GGK.argmax(axis=-1)
        return np.where(self.counts_GGK.any(axis=-1), found_GG, self.best_constant())

    def balanced(self) -> np.ndarray:
        """The class that is more frequent at a place than anywhere else, relative to its pixels.

        Mean IoU counts rare classes as much as frequent ones, so that this map can beat the most
        frequent one.
        """
        share_GGK = self.counts_GGK / np.maximum(self.counts_GGK.sum((0, 1)), 1)
        found_GG = share_GGK.argmax(axis=-1)
        return np.where(self.counts_GGK.any(axis=-1), found_GG, self.best_constant())


class ValueMeans:
    """Mean, and mean at each place, of maps of numbers, over what is valid in them.

    Args:
        grid: G.
    """

    def __init__(self, grid: int = GRID) -> None:
        self.grid = grid
        self.sums_GG = np.zeros((grid, grid))
        self.logs_GG = np.zeros((grid, grid))
        self.counts_GG = np.zeros((grid, grid), np.int64)

    def add(self, values_HW: np.ndarray, valid_HW: np.ndarray) -> None:
        """Take in one map; only positive values count."""
        values_GG, valid_GG = (sampled(m, self.grid) for m in (values_HW, valid_HW))
        valid_GG = valid_GG & (values_GG > 0)
        self.sums_GG[valid_GG] += values_GG[valid_GG]
        self.logs_GG[valid_GG] += np.log(values_GG[valid_GG])
        self.counts_GG += valid_GG

    def mean(self) -> float:
        """Over all places.

        Raises:
            ValueError: If nothing was valid.
        """
        if not self.counts_GG.any():
            raise ValueError("no training pixel has depth")
        return float(self.sums_GG.sum() / self.counts_GG.sum())

    def mean_map(self) -> np.ndarray:
        """At each place; where nothing was seen, over all places."""
        return np.where(
            self.counts_GG > 0, self.sums_GG / np.maximum(self.counts_GG, 1), self.mean()
        )

    def geometric_map(self) -> np.ndarray:
        """The exponential of the mean logarithm at each place, which relative errors prefer."""
        found_GG = np.exp(self.logs_GG / np.maximum(self.counts_GG, 1))
        return np.where(self.counts_GG > 0, found_GG, self.mean())


def position_features(grid: int = GRID, octaves: int = 4) -> np.ndarray:
    """(G, G, F) sines and cosines of both coordinates at 1, 2, 4 ... half waves, a constant first.

    What a linear head can read where tokens hold their position and nothing else.
    """
    at_G = (np.arange(grid) + 0.5) / grid
    angles = [np.pi * 2**i * at_G for i in range(octaves)]
    rows = np.stack([f(a) for a in angles for f in (np.sin, np.cos)], axis=-1)  # (G, 2 octaves)
    half = rows.shape[1]
    out = np.ones((grid, grid, 1 + 2 * half))
    out[..., 1 : 1 + half] = rows[:, None]
    out[..., 1 + half :] = rows[None]
    return out
