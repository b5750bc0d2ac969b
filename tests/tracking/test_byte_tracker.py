"""ByteTrack's association against golden runs of its own code."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("mmdet")
pytest.importorskip("lap")

import torch
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData

from pe_dense.run.config import load_template
from pe_dense.tracking.byte_tracker import (
    ByteAssociation,
    PublishedByteTracker,
    inclusive_iou,
)
from pe_dense.tracking.mot_check import NEEDS_FRAME_RATE

GOLDEN = Path(__file__).parents[1] / "golden" / "byte_tracks.npz"


@pytest.mark.parametrize("name", ["crowd", "dense", "gaps", "long"])
def test_golden_tracks(name):
    with np.load(GOLDEN) as arrays:
        detections = arrays[f"{name}/detections"]
        expected = arrays[f"{name}/tracks"]
        association = ByteAssociation(int(arrays[f"{name}/buffer"]))
    frames = int(detections[-1, 0]) + 1
    assert frames >= 25 and len(expected) > 50
    for t in range(frames):
        found = detections[detections[:, 0] == t]
        shown = association.update(found[:, 1:5], found[:, 5])
        theirs = expected[expected[:, 0] == t]
        assert shown.numbers_T.tolist() == (theirs[:, 1] - 1).tolist(), t
        xyxy = np.concatenate([theirs[:, 2:4], theirs[:, 2:4] + theirs[:, 4:6]], axis=1)
        np.testing.assert_allclose(shown.boxes_xyxy_T4, xyxy, rtol=0, atol=1e-6)
        np.testing.assert_array_equal(shown.scores_T, theirs[:, 6])


def sequence(root: Path, rate: str = "frameRate=5\n") -> Path:
    root.mkdir()
    lines = f"[Sequence]\nseqLength=30\nimWidth=200\nimHeight=100\n{rate}"
    (root / "seqinfo.ini").write_text(lines)
    return root


def tracked(tracker: PublishedByteTracker, folder: Path, boxes: list, frame: int) -> InstanceData:
    """Tracks after a frame with boxes (x1, y1, x2, y2, score)."""
    rows = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 5)
    found = InstanceData(
        bboxes=rows[:, :4], scores=rows[:, 4], labels=torch.zeros(len(rows)).long()
    )
    sample = DetDataSample(metainfo={"frame_id": frame, "sequence_dir": str(folder)})
    sample.pred_instances = found
    return tracker.track(data_sample=sample)


def test_tracks_begin_are_lost_and_forgotten_by_the_clock(tmp_path):
    """5 frames a second: lost for 6 frames it is found again, lost for 7 it is another."""
    folder, tracker = sequence(tmp_path / "a"), PublishedByteTracker()
    person, other = [10, 10, 30, 60, 0.9], [100, 10, 120, 60, 0.9]
    assert tracked(tracker, folder, [person], 0).instances_id.tolist() == [0]  # at once
    assert tracked(tracker, folder, [person, other], 1).instances_id.tolist() == [0]
    assert tracked(tracker, folder, [person, other], 2).instances_id.tolist() == [0, 1]
    weak = [10, 10, 30, 60, 0.3]
    assert tracked(tracker, folder, [weak, other], 3).instances_id.tolist() == [0, 1]
    for frame in range(4, 10):
        assert tracked(tracker, folder, [other], frame).instances_id.tolist() == [1]
    assert tracked(tracker, folder, [person, other], 10).instances_id.tolist() == [1, 0]
    for frame in range(11, 18):
        assert tracked(tracker, folder, [other], frame).instances_id.tolist() == [1]
    assert tracked(tracker, folder, [person, other], 18).instances_id.tolist() == [1]
    assert tracked(tracker, folder, [person, other], 19).instances_id.tolist() == [1, 2]
    assert tracked(tracker, folder, [other], 0).instances_id.tolist() == [0]  # a new sequence


def test_scores_that_begin_a_track_are_a_tenth_above_the_threshold(tmp_path):
    folder, tracker = sequence(tmp_path / "a"), PublishedByteTracker()
    tracked(tracker, folder, [[10, 10, 30, 60, 0.65], [100, 10, 120, 60, 0.75]], 0)
    found = tracked(tracker, folder, [[10, 10, 30, 60, 0.9], [100, 10, 120, 60, 0.9]], 1)
    assert found.instances_id.tolist() == [0] and found.bboxes[0, 0] == pytest.approx(100)


def test_small_and_wide_boxes_are_not_shown(tmp_path):
    folder, tracker = sequence(tmp_path / "a"), PublishedByteTracker()
    boxes = [[0, 0, 10, 10, 0.9], [0, 50, 33, 70, 0.9], [100, 0, 110, 11, 0.9]]
    found = tracked(tracker, folder, boxes, 0)
    assert found.bboxes.tolist() == [pytest.approx([100, 0, 110, 11])]
    assert found.labels.tolist() == [0] and found.scores.tolist() == [pytest.approx(0.9)]


def test_a_lost_track_where_another_one_stands_is_forgotten(tmp_path):
    folder, tracker = sequence(tmp_path / "a"), PublishedByteTracker()
    person, double = [10, 10, 50, 110, 0.9], [11, 10, 51, 110, 0.8]
    for frame in range(2):
        found = tracked(tracker, folder, [person, double], frame)
        assert found.instances_id.tolist() == [0, 1]
    assert tracked(tracker, folder, [person], 2).instances_id.tolist() == [0]
    assert tracked(tracker, folder, [person, double], 3).instances_id.tolist() == [0]
    assert tracked(tracker, folder, [person, double], 4).instances_id.tolist() == [0, 2]


def test_frames_without_boxes(tmp_path):
    folder, tracker = sequence(tmp_path / "a"), PublishedByteTracker()
    for frame in range(3):
        found = tracked(tracker, folder, [], frame)
        assert found.bboxes.shape == (0, 4) and found.instances_id.shape == (0,)


@pytest.mark.parametrize("rate", ["", "frameRate=0\n", "frameRate=nan\n", "frameRate=fast\n"])
def test_a_sequence_without_frame_rate_is_refused(tmp_path, rate):
    folder = sequence(tmp_path / "a", rate)
    with pytest.raises(ValueError, match=r"a.seqinfo.ini has no frameRate above 0"):
        tracked(PublishedByteTracker(), folder, [], 0)


def test_a_sequence_that_does_not_begin_is_refused(tmp_path):
    with pytest.raises(ValueError, match="begins with frame 3, not 0"):
        tracked(PublishedByteTracker(), sequence(tmp_path / "a"), [], 3)


def test_iou_counts_pixels_inclusively():
    one = np.array([[0.0, 0.0, 9.0, 9.0]])
    assert inclusive_iou(one, np.array([[5.0, 0.0, 14.0, 9.0]])) == pytest.approx(50 / 150)
    assert inclusive_iou(one, np.array([[10.0, 0.0, 19.0, 9.0]])) == 0
    assert inclusive_iou([], one).shape == (0, 1) and inclusive_iou(one, one[:0]).shape == (1, 0)


def test_the_protocol_of_mot17_has_it():
    config = load_template(Path(__file__).parents[2] / "configs/tracking/bytetrack_pe_b16_mot17.py")
    assert config.model.tracker.type == NEEDS_FRAME_RATE == PublishedByteTracker.__name__
