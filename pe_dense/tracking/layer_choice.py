"""The choice among layers and settings, on videos that are not reported.

Shape legend: L layers, S settings, K objects of a video, N of all videos, 6 statistics.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from mmengine.dist import get_world_size
from mmengine.logging import print_log

MIN_GAIN = 1e-12  # less than this is rounding, and the earlier one stays


def mean_j_and_f(videos: Sequence[np.ndarray]) -> np.ndarray:
    """J&F of every layer and setting, (L, S): the mean over the objects of all videos.

    Args:
        videos: (L, S, K, 6) of each, K of its own.
    """
    all_LSN6 = np.concatenate(videos, axis=2)
    return (all_LSN6[..., 0] + all_LSN6[..., 3]).mean(axis=2) / 2


def best_of(scores_LS: np.ndarray) -> tuple[int, int]:
    """Layer and setting of the highest score; of equal ones the first, layer before setting.

    Raises:
        ValueError: If there is no score or one is nan.
    """
    scores_LS = np.asarray(scores_LS)
    if not scores_LS.size or np.isnan(scores_LS).any():
        raise ValueError(f"cannot choose among scores {scores_LS.tolist()}; one is undefined")
    ranked = np.argwhere(scores_LS >= scores_LS.max() - MIN_GAIN)
    return int(ranked[0, 0]), int(ranked[0, 1])


class InUse(NamedTuple):
    """Places in the listed layers and settings that a video is run under."""

    layers: tuple[int, ...]
    settings: tuple[int, ...]


class LayerChoice:
    """Everything for videos of the purpose 'select', which come first, then the best on them.

    Without such videos it is everything for all.

    Args:
        layers: Blocks, as the log names them.
        settings: Likewise.
    """

    def __init__(self, layers: Sequence[int], settings: Sequence[Any]) -> None:
        self.layers, self.settings = layers, settings
        self.every = InUse(tuple(range(len(layers))), tuple(range(len(settings))))
        self.chosen: InUse | None = None
        self._selecting: list[np.ndarray] = []  # (L, S, K, 6) of each video

    def in_use(self, purpose: str) -> InUse:
        """What the next video is run under; the first one to report settles the choice.

        Raises:
            ValueError: If several processes would select, each on videos of its own.
        """
        if purpose == "select":
            if get_world_size() > 1:
                raise ValueError("layer and setting are selected in one process; start only one")
            if self.chosen is not None:  # another evaluation begins
                self.chosen, self._selecting = None, []
            return self.every
        if self._selecting and self.chosen is None:
            scores_LS = mean_j_and_f(self._selecting)
            layer, setting = best_of(scores_LS)
            self.chosen = InUse((layer,), (setting,))
            print_log(
                f"selected on {len(self._selecting)} videos: layer {self.layers[layer]}, "
                f"{self.settings[setting]}, J&F {scores_LS[layer, setting]:.4f}",
                logger="current",
            )
        return self.chosen or self.every

    def add(self, statistics_LSK6: np.ndarray) -> None:
        """Keep the statistics of a video of the purpose 'select'."""
        self._selecting.append(statistics_LSK6)
