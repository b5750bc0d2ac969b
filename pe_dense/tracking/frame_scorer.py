"""From the soft labels of a frame to label maps, their scores and, where asked for, a PNG.

Shape legend: L layers, S settings, B = L S label maps, K objects, C = K + 1, h w token grid.
"""

from __future__ import annotations

from collections.abc import Sequence
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
        patch_size, stretch: How soft labels become a label map, see `label_map_from_soft`.
        results: Where label maps are written, then of one layer and setting; None writes none.
    """

    video: AnnotatedVideo
    patch_size: int | None
    stretch: bool
    results: ResultsFolder | None

    def write_first(self) -> None:
        """Write the mask that was given, if label maps are written."""
        if self.results is not None:
            first_HW = self.video.first_HW
            self._write(0, np.where(first_HW == VOID, 0, first_HW))

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
        if len(soft) > 1 and self.patch_size is None and not self.stretch:
            scores_BK2 = soft_scores(annotation_HW, soft, radius)
        else:
            maps = [label_map_from_soft(s, native_hw, self.patch_size, self.stretch) for s in soft]
            if self.results is not None:
                self._write(t, maps[0])
            if annotation_HW is None:
                return None
            if len(maps) > 1:
                masks_KHWG = masks_from_maps(maps, num_objects)
                scores_BK2 = masks_scores(annotation_HW, masks_KHWG, len(maps), radius)
            else:
                found = frame_scores(annotation_HW, maps[0], num_objects, radius)
                scores_BK2 = np.stack(found, axis=1)[None]
        starts_K = self.video.starts_K
        scores_BK2[:, (starts_K < 0) | (starts_K >= t)] = np.nan
        return scores_BK2.reshape(len(soft_LS), -1, *scores_BK2.shape[1:])

    def _write(self, t: int, labels_HW: np.ndarray) -> None:
        self.results.write(self.video.name, self.video.frame_paths[t].name, labels_HW)
