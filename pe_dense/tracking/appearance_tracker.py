"""ByteTrack whose association also asks what a box looks like.

One step from mmdet's ByteTracker: the cost of a pair mixes IoU with the cosine similarity of
pooled encoder features, and every track keeps a moving average of its own.

Source: ByteTrack, arXiv:2110.06864, as mmdet 3.5.1 has it; the moving average and the rule that
only near pairs are compared by looks follow BoT-SORT (arXiv:2206.14651, section 3.3), which takes
the minimum of two costs where this takes a weighted mean.

Shape legend: C feature width, N detections, T tracks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from mmdet.models.trackers import ByteTracker
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import bbox_cxcyah_to_xyxy, bbox_overlaps
from mmengine.structures import InstanceData
from torch import Tensor

from pe_dense.tracking.appearance import mixed_affinity, updated_embedding

# Boxes (N, 4) xyxy in original pixels -> unit vectors (N, C), for the frame at hand.
Embed = Callable[[Tensor], Tensor]


@MODELS.register_module()
class AppearanceByteTracker(ByteTracker):
    """mmdet's ByteTracker with appearance in all three of its matchings.

    Args:
        appearance_weight: Share of the cosine similarity in the affinity, 0..1; with 0 the tracks
            are those of ByteTracker.
        min_iou: Pairs with a smaller IoU (weighted as ByteTracker weights it) are not compared by
            looks.
        momentum: Share of the past in a track's embedding, 0..1.
        kwargs: Of ByteTracker. Its thresholds `match_iou_thrs` bound the mixed affinity.

    Raises:
        ValueError: If a share is outside 0..1.
    """

    def __init__(
        self,
        appearance_weight: float = 0.5,
        min_iou: float = 0.1,
        momentum: float = 0.9,
        **kwargs: Any,
    ) -> None:
        shares = {"appearance_weight": appearance_weight, "min_iou": min_iou, "momentum": momentum}
        for name, value in shares.items():
            if not 0.0 <= value <= 1.0:
                raise ValueError(f"{name}={value} is not between 0 and 1")
        super().__init__(**kwargs)
        self.appearance_weight, self.min_iou, self.momentum = appearance_weight, min_iou, momentum
        self._embed: Embed | None = None

    def track(self, data_sample: DetDataSample, embed: Embed, **kwargs: Any) -> InstanceData:
        """Tracks of one frame.

        Args:
            data_sample: Detections of the frame, in `pred_instances`, and its 'frame_id'.
            embed: Appearance of boxes in this frame.
            kwargs: Of ByteTracker.track.

        Returns:
            bboxes, labels, scores and instances_id.
        """
        self._embed = embed
        try:
            tracked = super().track(data_sample, **kwargs)
        finally:
            self._embed = None  # holds the maps of the frame
        for identity, new_C in zip(
            tracked.instances_id.tolist(), embed(tracked.bboxes), strict=True
        ):
            if identity in self.tracks:
                track = self.tracks[identity]
                old_C = track.get("embedding")
                track["embedding"] = updated_embedding(old_C, new_C, self.momentum)
        return tracked

    def assign_ids(
        self,
        ids: Sequence[int],
        det_bboxes: Tensor,
        det_labels: Tensor,
        det_scores: Tensor,
        weight_iou_with_det_scores: bool = False,
        match_iou_thr: float = 0.5,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Match tracks and detections; see ByteTracker.

        Returns:
            The detection of each track (T,) and the track of each detection (N,), -1 for none.
        """
        import lap  # the constructor of ByteTracker has made sure of it

        if not len(ids) or not len(det_bboxes):
            return np.full(len(ids), -1, np.int32), np.full(len(det_bboxes), -1, np.int32)
        predicted_T4 = torch.from_numpy(np.stack([self.tracks[i].mean[:4] for i in ids]))
        iou_TN = bbox_overlaps(bbox_cxcyah_to_xyxy(predicted_T4.to(det_bboxes)), det_bboxes)
        if weight_iou_with_det_scores:
            iou_TN = iou_TN * det_scores
        looks_TC = torch.stack([self.tracks[i]["embedding"] for i in ids])
        cosine_TN = looks_TC @ self._embed(det_bboxes).T
        affinity_TN = mixed_affinity(iou_TN, cosine_TN, self.appearance_weight, self.min_iou)
        labels_T = torch.stack([self.tracks[i]["labels"][-1].reshape(()) for i in ids])
        other_TN = labels_T.to(det_labels)[:, None] != det_labels[None, :]
        cost_TN = (1 - affinity_TN + 1e6 * other_TN).cpu().numpy()
        _, of_track_T, of_detection_N = lap.lapjv(
            cost_TN, extend_cost=True, cost_limit=1 - match_iou_thr
        )
        return of_track_T, of_detection_N
