"""ByteTrack as its own code has it, where mmdet's ByteTracker goes other ways.

mmdet's starts a track at the score of the first matching (0.6) instead of 0.1 above it, shows it at
once instead of from its second box on, trusts it after three boxes instead of two, forgets it two
frames earlier, keeps two tracks of one object, and shows boxes as they were detected instead of
filtered ones. It remains for the protocols that were published with it.

One frame: boxes above `high` are matched with all tracks, as they are predicted, by IoU times
score; those above `low` with what is left of the tracks that were seen a frame ago, by IoU; what is
left of the former with tracks of one box, and begins tracks. A track of one box that finds no
second is dropped.

Source: arXiv:2110.06864; ifzhang/ByteTrack @ d1bf019, yolox/tracker/byte_tracker.py, matching.py
and yolox/evaluators/mot_evaluator.py, written from what they do. As there, IoU counts the pixels
of a box inclusively (cython_bbox), and a track that is forgotten can still be found one frame
later, but is forgotten at once when it is lost again.

Shape legend: N boxes, T tracks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from mmdet.models.task_modules.tracking import KalmanFilter
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData

from pe_dense.tracking.mot_files import read_sequence_info

MAX_COST, MAX_COST_LOW, MAX_COST_NEW = 0.9, 0.5, 0.7  # of a pair in each of the three matchings
MARGIN = 0.1  # above `high`, for a box to begin a track
DOUBLE_COST = 0.15  # two tracks that are nearer than this, IoU above 0.85, are one object


@dataclass(eq=False)
class Track:
    """A track and the state of its filter.

    Attributes:
        number: Its identity.
        mean, covariance: Of centre x, centre y, width / height, height, and their velocities.
        score: Of its last box.
        first, last: Frames of its first and last box.
        is_lost: Whether it had no box in the frame after the last one.
        is_sure: Whether it has two boxes, or began in the first frame.
    """

    number: int
    mean: np.ndarray
    covariance: np.ndarray
    score: float
    first: int
    last: int
    is_sure: bool
    is_lost: bool = False

    @property
    def box_xyxy(self) -> np.ndarray:
        """(4,) where the filter believes it to be."""
        x, y, aspect, height = self.mean[:4]
        width = aspect * height
        return np.array([x - width / 2, y - height / 2, x + width / 2, y + height / 2])


class Shown(NamedTuple):
    """Tracks of a frame: int64 (T,), float64 (T, 4) xyxy, float64 (T,)."""

    numbers_T: np.ndarray
    boxes_xyxy_T4: np.ndarray
    scores_T: np.ndarray


class ByteAssociation:
    """The tracks of one sequence, frame after frame.

    Args:
        keep_frames: Frames without a box after which a track is forgotten.
        high, low: Scores that a box must exceed in the first and second matching.
    """

    def __init__(self, keep_frames: int, high: float = 0.6, low: float = 0.1) -> None:
        self.keep_frames, self.high, self.low = keep_frames, high, low
        self.kalman = KalmanFilter()
        self.tracked: list[Track] = []
        self.lost: list[Track] = []
        self.forgotten: set[int] = set()
        self.frame, self.begun = 0, 0

    def update(self, boxes_xyxy_N4: np.ndarray, scores_N: np.ndarray) -> Shown:
        """Tracks after the next frame; identities count from 0."""
        self.frame += 1
        is_high_N = scores_N > self.high
        is_low_N = (scores_N > self.low) & (scores_N < self.high)
        high, high_scores = boxes_xyxy_N4[is_high_N], scores_N[is_high_N]
        low, low_scores = boxes_xyxy_N4[is_low_N], scores_N[is_low_N]

        sure = [track for track in self.tracked if track.is_sure]
        unsure = [track for track in self.tracked if not track.is_sure]
        pool = [*sure, *(track for track in self.lost if track not in sure)]
        for track in pool:
            self._predict(track)
        pairs, left, left_high = matched(pool, high, high_scores, MAX_COST)
        for t, n in pairs:
            self._add(pool[t], high[n], high_scores[n])

        seen = [pool[t] for t in left if not pool[t].is_lost]
        pairs, left, _ = matched(seen, low, None, MAX_COST_LOW)
        for t, n in pairs:
            self._add(seen[t], low[n], low_scores[n])
        newly_lost = [seen[t] for t in left]
        for track in newly_lost:
            track.is_lost = True

        high, high_scores = high[left_high], high_scores[left_high]
        pairs, dropped, left_high = matched(unsure, high, high_scores, MAX_COST_NEW)
        for t, n in pairs:
            self._add(unsure[t], high[n], high_scores[n])
        dropped_numbers = {unsure[t].number for t in dropped}
        begun = [
            self._begin(high[n], high_scores[n])
            for n in left_high
            if high_scores[n] >= self.high + MARGIN
        ]

        old = {t.number for t in self.lost if self.frame - t.last > self.keep_frames}
        kept = [t for t in self.tracked if not t.is_lost and t.number not in dropped_numbers]
        found = [t for t in self.lost if not t.is_lost and t.number not in old]
        self.tracked = [*kept, *begun, *found]
        self.lost = [t for t in self.lost if t not in self.tracked] + newly_lost
        self.lost = [t for t in self.lost if t.number not in self.forgotten]
        self.forgotten |= old | dropped_numbers
        self._drop_doubles()
        shown = [track for track in self.tracked if track.is_sure]
        return Shown(
            np.array([track.number for track in shown], np.int64),
            np.array([track.box_xyxy for track in shown], np.float64).reshape(-1, 4),
            np.array([track.score for track in shown], np.float64),
        )

    def _predict(self, track: Track) -> None:
        if track.is_lost:
            track.mean[7] = 0  # its height stays
        track.mean, track.covariance = self.kalman.predict(track.mean, track.covariance)

    def _add(self, track: Track, box_xyxy: np.ndarray, score: float) -> None:
        track.mean, track.covariance = self.kalman.update(
            track.mean, track.covariance, centre_aspect_height(box_xyxy)
        )
        track.score, track.last = float(score), self.frame
        track.is_lost, track.is_sure = False, True

    def _begin(self, box_xyxy: np.ndarray, score: float) -> Track:
        mean, covariance = self.kalman.initiate(centre_aspect_height(box_xyxy))
        number, self.begun = self.begun, self.begun + 1
        is_sure = self.frame == 1
        return Track(number, mean, covariance, float(score), self.frame, self.frame, is_sure)

    def _drop_doubles(self) -> None:
        """Of a seen and a lost track of one object the one that lived longer stays."""
        boxes_T4 = np.array([track.box_xyxy for track in self.lost]).reshape(-1, 4)
        iou_TN = inclusive_iou([track.box_xyxy for track in self.tracked], boxes_T4)
        drop_tracked, drop_lost = set(), set()
        for t, n in np.argwhere(1 - iou_TN < DOUBLE_COST).tolist():
            ours, other = self.tracked[t], self.lost[n]
            if ours.last - ours.first > other.last - other.first:
                drop_lost.add(other.number)
            else:
                drop_tracked.add(ours.number)
        self.tracked = [t for t in self.tracked if t.number not in drop_tracked]
        self.lost = [t for t in self.lost if t.number not in drop_lost]


def matched(
    tracks: Sequence[Track],
    boxes_xyxy_N4: np.ndarray,
    scores_N: np.ndarray | None,
    max_cost: float,
) -> tuple[list[tuple[int, int]], list[int], list[int]]:
    """Pairs of least total cost, 1 - IoU (times score), and tracks and boxes that are left."""
    import lap  # of the extra 'mot'

    if not len(tracks) or not len(boxes_xyxy_N4):
        return [], list(range(len(tracks))), list(range(len(boxes_xyxy_N4)))
    likeness_TN = inclusive_iou([track.box_xyxy for track in tracks], boxes_xyxy_N4)
    if scores_N is not None:
        likeness_TN = likeness_TN * scores_N
    _, box_T, track_N = lap.lapjv(1 - likeness_TN, extend_cost=True, cost_limit=max_cost)
    pairs = [(t, int(n)) for t, n in enumerate(box_T) if n >= 0]
    left = [t for t, n in enumerate(box_T) if n < 0]
    return pairs, left, [n for n, t in enumerate(track_N) if t < 0]


def inclusive_iou(first_T4: Sequence[np.ndarray], second_N4: np.ndarray) -> np.ndarray:
    """(T, N) IoU of xyxy boxes whose last pixels belong to them: sides are one longer."""
    if not len(first_T4) or not len(second_N4):
        return np.zeros((len(first_T4), len(second_N4)))
    first_T14, second_1N4 = np.asarray(first_T4)[:, None], second_N4[None]
    low_TN2 = np.maximum(first_T14[..., :2], second_1N4[..., :2])
    high_TN2 = np.minimum(first_T14[..., 2:], second_1N4[..., 2:])
    both_TN = (high_TN2 - low_TN2 + 1).clip(min=0).prod(-1)
    area_T1, area_1N = (
        (boxes[..., 2:] - boxes[..., :2] + 1).prod(-1) for boxes in (first_T14, second_1N4)
    )
    return both_TN / (area_T1 + area_1N - both_TN)


def centre_aspect_height(box_xyxy: np.ndarray) -> np.ndarray:
    """(4,) centre, width / height and height of a box."""
    x1, y1, x2, y2 = box_xyxy
    return np.array([(x1 + x2) / 2, (y1 + y2) / 2, (x2 - x1) / (y2 - y1), y2 - y1])


@MODELS.register_module()
class PublishedByteTracker:
    """`ByteAssociation` where mmdet's models expect a tracker; frames come one after the other.

    Args:
        keep_seconds: How long a track without boxes is kept, at the frame rate of `seqinfo.ini`;
            ByteTrack keeps it for one second of a sequence of MOT17.
        high, low: See `ByteAssociation`.
        min_area: Boxes of fewer square pixels are not shown.
        max_aspect: Nor are boxes that are wider than this many heights: people stand.
    """

    def __init__(
        self,
        keep_seconds: float = 1.0,
        high: float = 0.6,
        low: float = 0.1,
        min_area: float = 100.0,
        max_aspect: float = 1.6,
    ) -> None:
        self.keep_seconds, self.high, self.low = keep_seconds, high, low
        self.min_area, self.max_aspect = min_area, max_aspect
        self.association: ByteAssociation | None = None

    def track(self, data_sample: DetDataSample, **kwargs: Any) -> InstanceData:
        """Tracks of the next frame, as mmdet has them.

        Args:
            data_sample: `pred_instances` of one class, 'frame_id' (0 begins a sequence) and, there,
                'sequence_dir'.
            kwargs: Not used.

        Raises:
            ValueError: If the sequence has no frame rate, or does not begin with frame 0.
        """
        meta, found = data_sample.metainfo, data_sample.pred_instances
        if meta["frame_id"] == 0:
            rate = read_sequence_info(meta["sequence_dir"]).require_frame_rate()
            keep_frames = int(rate * self.keep_seconds)
            self.association = ByteAssociation(keep_frames, self.high, self.low)
        if self.association is None:
            raise ValueError(f"a sequence begins with frame {meta['frame_id']}, not 0")
        boxes_N4 = found.bboxes.double().cpu().numpy()
        shown = self.association.update(boxes_N4, found.scores.double().cpu().numpy())
        width_T, height_T = (shown.boxes_xyxy_T4[:, 2:] - shown.boxes_xyxy_T4[:, :2]).T
        is_shown_T = (width_T * height_T > self.min_area) & (width_T / height_T <= self.max_aspect)
        like = found.bboxes
        return InstanceData(
            bboxes=torch.from_numpy(shown.boxes_xyxy_T4[is_shown_T]).to(like),
            labels=torch.zeros(int(is_shown_T.sum()), dtype=torch.int64, device=like.device),
            scores=torch.from_numpy(shown.scores_T[is_shown_T]).to(like),
            instances_id=torch.from_numpy(shown.numbers_T[is_shown_T]).to(like.device),
        )
