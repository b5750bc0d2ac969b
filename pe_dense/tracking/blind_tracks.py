"""Tracks without the pictures: boxes that stand still where the other sequences have their objects.

Shape legend: M boxes, Q rows.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pe_dense.data.box_layout import mean_layout
from pe_dense.tracking.mot_files import read_ground_truth, read_sequence_info
from pe_dense.tracking.mot_metric import score_files, write_evaluation_files

NAME = "static boxes of the other sequences"


def static_boxes(
    videos: Sequence[Sequence[Mapping[str, Any]]], benchmark: str, metric: str
) -> dict[str, float]:
    """The main metric of boxes that never move.

    A sequence gets as many boxes as the others have objects in a frame, where theirs are most
    often; it is scored with labels that had no part in them.

    Args:
        videos: Frames of each sequence, the items of `MOTSequences`.
        benchmark: Whose rules apply.
        metric: 'HOTA', 'MOTA', 'IDF1' ...

    Returns:
        {NAME: score}; empty with one sequence, which has no others.
    """
    if len(videos) < 2:
        return {}
    shares = [_boxes_and_density(frames[0]["sequence_dir"], benchmark) for frames in videos]
    frames = []
    for i, video in enumerate(videos):
        others = [part for j, part in enumerate(shares) if j != i]
        boxes_N4 = np.concatenate([boxes for boxes, _ in others])
        number = round(float(np.mean([density for _, density in others])))
        layout_M6 = mean_layout(boxes_N4, np.zeros(len(boxes_N4), int), 1, 1)[: max(number, 1)]
        info = read_sequence_info(video[0]["sequence_dir"])
        boxes_M4 = layout_M6[:, :4] * np.array([info.width, info.height] * 2, np.float64)
        corners_M4 = np.hstack(
            [boxes_M4[:, :2] - boxes_M4[:, 2:] / 2, boxes_M4[:, :2] + boxes_M4[:, 2:] / 2]
        )
        for frame in video:
            frames.append(
                {
                    "sequence_dir": frame["sequence_dir"],
                    "frame_number": frame["frame_number"],
                    "length": len(video),
                    "ids": np.arange(len(corners_M4)),
                    "boxes": corners_M4,
                    "scores": np.ones(len(corners_M4)),
                }
            )
    with tempfile.TemporaryDirectory() as folder:
        lengths = write_evaluation_files(Path(folder), frames)
        return {NAME: float(score_files(Path(folder), lengths, benchmark).metrics()[metric])}


def _boxes_and_density(folder: str, benchmark: str) -> tuple[np.ndarray, float]:
    """cx, cy, w, h of all targets as shares of the frame, (Q, 4), and how many a frame has."""
    info = read_sequence_info(folder)
    rows = read_ground_truth(Path(folder) / "gt" / "gt.txt", info.num_frames)
    rows = rows.part(rows.targets(benchmark))
    boxes_Q4 = rows.boxes_xywh_Q4.copy()
    boxes_Q4[:, :2] += boxes_Q4[:, 2:] / 2 - 1  # files count pixels from 1
    boxes_Q4 /= np.array([info.width, info.height] * 2, np.float64)
    return boxes_Q4, len(boxes_Q4) / info.num_frames
