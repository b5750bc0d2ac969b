"""From the soft labels of a frame to label maps, their scores and, where asked for, a PNG.

Shape legend: L layers, S settings, B = L S label maps, K objects, C = K + 1, h w token grid.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from pe_dense.tracking.annotated_video import AnnotatedVideo
from pe_dense.tracking.label_maps import label_map_from_soft
from pe_dense.tracking.region_and_boundary import VOID, boundary_radius, frame_scores
from pe_dense.tracking.sweep_scores import masks_from_maps, masks_scores, soft_scores
from pe_dense.tracking.video_journal import ResultsFolder


@dataclass(frozen=True)
class FrameScorer:
    """What the label maps of one video depend on beside the soft labels.

    Attributes:
        video: The video.
        patch_size, stretch, nearest: How soft labels become a label map, see
            `label_map_from_soft`.
        results: Where label maps are written, then of one layer and setting; None writes none.
    """

    video: AnnotatedVideo
    patch_size: int | None
    stretch: bool
    results: ResultsFolder | None
    nearest: bool = False

    def write_first(self) -> None:
        """Write the mask that was given, if label maps are written."""
        if self.results is not None:
            first_HW = self.video.first_HW
            self.write(0, np.where(first_HW == VOID, 0, first_HW))

    def scores(self, t: int, soft_LS: Sequence[Sequence[Tensor]]) -> np.ndarray | None:
        """J and F under all layers and settings; writes the label map if they are written.

        Args:
            t: Number of the frame, from 1.
            soft_LS: Soft labels (C, h, w) for each layer and setting.

        Returns:
            (L, S, K, 2), nan for objects that do not count yet; None if the frame does not.
        """
        annotation_HW = self.video.annotation(t)
        if annotation_HW is None and self.results is None:
            return None
        soft = [soft_Chw for row in soft_LS for soft_Chw in row]
        num_objects, native_hw = self.video.num_objects, self.video.native_hw
        radius = boundary_radius(native_hw)
        is_plain = self.patch_size is None and not self.stretch and not self.nearest
        if len(soft) > 1 and is_plain:
            scores_BK2 = soft_scores(annotation_HW, soft, radius)
        else:
            rule = self.patch_size, self.stretch, self.nearest
            maps = [label_map_from_soft(soft_Chw, native_hw, *rule) for soft_Chw in soft]
            if self.results is not None:
                self.write(t, maps[0])
            if annotation_HW is None:
                return None
            if len(maps) > 1:
                masks_KHWG = masks_from_maps(maps, num_objects)
                scores_BK2 = masks_scores(annotation_HW, masks_KHWG, len(maps), radius)
            else:
                found = frame_scores(annotation_HW, maps[0], num_objects, radius)
                scores_BK2 = np.stack(found, axis=1)[None]
        return self.where_counted(t, scores_BK2.reshape(len(soft_LS), -1, *scores_BK2.shape[1:]))

    def where_counted(self, t: int, scores_LSK2: np.ndarray) -> np.ndarray:
        """The same scores with nan for objects that do not count yet in frame t."""
        starts_K = self.video.starts_K
        scores_LSK2[:, :, (starts_K < 0) | (starts_K >= t)] = np.nan
        return scores_LSK2

    def write(self, t: int, labels_HW: np.ndarray) -> None:
        """Write a label map (H, W) as the result of frame t."""
        self.results.write(self.video.name, self.video.frame_paths[t].name, labels_HW)


class QueuedScores:
    """Scores of frame after frame by threads, in the order in which they are added.

    Args:
        scorer: What label maps are made and scored with.
        pool: The threads.
        most: Frames that may wait; the next one then waits for the first of them.
    """

    def __init__(self, scorer: FrameScorer, pool: ThreadPoolExecutor, most: int) -> None:
        self.scorer, self.pool, self.most = scorer, pool, most
        self.waiting: deque[Future[np.ndarray | None]] = deque()
        self.found: list[np.ndarray | None] = []

    def add(self, t: int, soft_LS: Sequence[Sequence[Tensor]]) -> None:
        """Score the next frame under all layers and settings."""
        self.waiting.append(self.pool.submit(self.scorer.scores, t, soft_LS))
        if len(self.waiting) > self.most:
            self.found.append(self.waiting.popleft().result())

    def finish(self) -> list[np.ndarray | None]:
        """Scores (L, S, K, 2) of all frames; None for those that do not count."""
        self.found += [job.result() for job in self.waiting]
        self.waiting.clear()
        return self.found
