"""Some frames of a video, evenly spread from the first to the last.

Source: facebookresearch/perception_models @ 3e352cc (apps/pe/clip_benchmark/datasets/
video_classification_dataset.py): frame int(i (T - 1) / (n - 1)) of T, for i = 0..n-1; the middle
one, T // 2, for n = 1. Deviation: there, a video that cannot be read is replaced by a random other
one under the same label; here it is an error.

Shape legend: H W pixels, T frames.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pe_dense.data.video_file import is_video_file, read_video, video_facts


def chosen_frames(total: int, count: int = 8) -> list[int]:
    """Numbers of the frames, from 0; a short video has some of them twice.

    Raises:
        ValueError: If the video has no frame, or none is asked for.

    Example:
        >>> chosen_frames(100), chosen_frames(3), chosen_frames(10, 1)
        ([0, 14, 28, 42, 56, 70, 84, 99], [0, 0, 0, 0, 1, 1, 1, 2], [5])
    """
    if total < 1:
        raise ValueError("the video has no frame; leave it out")
    if count < 1:
        raise ValueError(f"{count} frames of a video show nothing; take 1 or more")
    if count == 1:
        return [total // 2]
    return [int(i * (total - 1) / (count - 1)) for i in range(count)]


def read_frames(path: Path, count: int = 8) -> list[np.ndarray]:
    """`count` frames of a video file, (H, W, 3) RGB uint8 each.

    All frames are decoded, because seeking does not find a frame by its number in every file; as
    many as are asked for are kept. Where the head of the file does not know how many there are, it
    is decoded twice.

    Raises:
        ValueError: If the file is missing, no video, or cannot be decoded to its end.
    """
    if not is_video_file(path):
        raise ValueError(f"{path} does not end as video files do; correct its name")
    stated = video_facts(path).stated_frames or 1
    kept, total = _kept(path, set(chosen_frames(stated, count)))
    if total != stated:
        kept, _ = _kept(path, set(chosen_frames(total, count)))
    return [kept[number] for number in chosen_frames(total, count)]


def _kept(path: Path, numbers: set[int]) -> tuple[dict[int, np.ndarray], int]:
    """The frames of these numbers that are there, and how many frames there are."""
    kept, total = {}, 0
    for frame in read_video(path):
        if frame.number in numbers:
            kept[frame.number] = frame.image_HW3
        total += 1
    return kept, total
