"""Scores of the objects of a video under many layers and settings, and the choice among them.

Shape legend: V videos, L layers, S settings, K objects, T frames, 6 statistics.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pe_dense.results.evidence import VideoObjectEvidence
from pe_dense.tracking.region_and_boundary import many_statistics

STATISTICS = ("j", "j_recall", "j_decay", "f", "f_recall", "f_decay")
MIN_GAIN = 1e-12  # less than this is rounding, and the earlier one stays


def object_statistics(scores_TLSK2: np.ndarray) -> np.ndarray:
    """Mean, recall and decay of J and F, (L, S, K, 6) float64 in the order of STATISTICS.

    Args:
        scores_TLSK2: J and F; nan in frames where an object is not scored, the same frames for
            all layers and settings. An object without any scored frame is nan throughout.
    """
    _, layers, settings, objects, _ = scores_TLSK2.shape
    out_LSK6 = np.full((layers, settings, objects, 6), np.nan)
    for k in range(objects):
        scored_T = ~np.isnan(scores_TLSK2[:, 0, 0, k, 0])
        if scored_T.any():
            # Time last and contiguous: sums then round as those of one sequence alone.
            values_LS2T = np.ascontiguousarray(np.moveaxis(scores_TLSK2[scored_T, :, :, k], 0, -1))
            out_LSK6[:, :, k] = many_statistics(values_LS2T).reshape(layers, settings, 6)
    return out_LSK6


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


def evidence_of_objects(
    names: Sequence[str], objects: Sequence[Sequence[str]], statistics: Sequence[np.ndarray]
) -> VideoObjectEvidence:
    """One row for each object.

    Args:
        names: V videos.
        objects: Names of the K objects of each video.
        statistics: (K, 6) of each video.
    """
    rows_N6 = np.concatenate(statistics)
    columns = {f"{name}_N": rows_N6[:, i] for i, name in enumerate(STATISTICS)}
    return VideoObjectEvidence(
        video_ids=tuple(name for name, ids in zip(names, objects, strict=True) for _ in ids),
        object_ids=tuple(k for ids in objects for k in ids),
        **columns,
    )
