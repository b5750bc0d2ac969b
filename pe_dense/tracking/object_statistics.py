"""Scores of the objects of a video under many layers and settings.

Shape legend: V videos, L layers, S settings, K objects, T frames, 6 statistics.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pe_dense.results.evidence import VideoObjectEvidence
from pe_dense.tracking.region_and_boundary import sequence_statistics

STATISTICS = ("j", "j_recall", "j_decay", "f", "f_recall", "f_decay")


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
            out_LSK6[:, :, k] = sequence_statistics(values_LS2T).reshape(layers, settings, 6)
    return out_LSK6


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
