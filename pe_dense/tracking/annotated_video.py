"""What the files of a video say: its size, its objects, where each begins and where it is scored.

Shape legend: K objects, C = K + 1 labels with background, h w token grid, H W native image.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pe_dense.data.picture_header import header_of, unreadable
from pe_dense.tracking.frames import read_label_map
from pe_dense.tracking.label_maps import labels_on_grid
from pe_dense.tracking.region_and_boundary import VOID


@dataclass(frozen=True, eq=False)
class AnnotatedVideo:
    """A video whose first mask has been read; see `read_annotated_video`.

    Attributes:
        name: Of the video.
        frame_paths: T frames.
        mask_paths: T masks, None where there is none.
        style: 'davis' or 'youtube', see `davis_dataset`.
        scored: Whether later masks are there to score with.
        first_HW: uint8 label map of the first frame.
        starts_K: Frame in which each object is first annotated, -1 for labels without any.
    """

    name: str
    frame_paths: Sequence[Path]
    mask_paths: Sequence[Path | None]
    style: str
    scored: bool
    first_HW: np.ndarray
    starts_K: np.ndarray

    @property
    def native_hw(self) -> tuple[int, int]:
        """Size of all frames and masks."""
        return self.first_HW.shape

    @property
    def num_objects(self) -> int:
        """K, the highest label."""
        return len(self.starts_K)

    def first_labels(self, grid_hw: tuple[int, int], sampling: str = "pillow") -> Tensor:
        """One-hot labels (C, h, w) of the first frame; `sampling` as in `labels_on_grid`."""
        return labels_on_grid(self.first_HW, grid_hw, self.num_objects + 1, sampling)

    def later_labels(self, grid_hw: tuple[int, int], sampling: str = "pillow") -> dict[int, Tensor]:
        """By frame the labels (C, h, w) of objects that begin there: one-hot, zero elsewhere."""
        found = {}
        for t in sorted(set(self.starts_K.tolist()) - {-1, 0}):
            mask_HW = _read_mask(self.mask_paths[t], self.native_hw)
            labels_Chw = labels_on_grid(mask_HW, grid_hw, self.num_objects + 1, sampling)
            is_new_C = torch.from_numpy(np.concatenate([[False], self.starts_K == t]))
            found[t] = labels_Chw * is_new_C[:, None, None]
        return found

    def annotation(self, t: int) -> np.ndarray | None:
        """Label map (H, W) that a later frame is scored with, None if the frame does not count."""
        if not self.scored or self.mask_paths[t] is None:
            return None
        if self.style == "davis" and t == len(self.frame_paths) - 1:
            return None
        return _read_mask(self.mask_paths[t], self.native_hw)


def read_annotated_video(video: Mapping[str, Any]) -> AnnotatedVideo:
    """The first mask and all objects of a video, an item of `DavisVideos`.

    Raises:
        ValueError: If a file is missing, broken or of another size, or the first mask is empty
            where all objects must be in it.
    """
    frames = [Path(path) for path in video["frame_paths"]]
    masks = [None if path is None else Path(path) for path in video["mask_paths"]]
    first_HW = read_label_map(masks[0])
    native_hw = first_HW.shape
    frame_hw = _stored_hw(frames[0])
    if frame_hw != native_hw:
        raise ValueError(
            f"mask {masks[0]} has {native_hw[0]} x {native_hw[1]} px, its frame {frames[0]} "
            f"{frame_hw[0]} x {frame_hw[1]}; use frames and masks of one resolution"
        )
    # 'davis': later labels are background.
    starts_K = _first_frames(masks[:1] if video["style"] == "davis" else masks, native_hw)
    if not len(starts_K):
        raise ValueError(f"mask {masks[0]} has no object; labels are passed on from there")
    return AnnotatedVideo(
        video["video"], frames, masks, video["style"], video["scored"], first_HW, starts_K
    )


def _stored_hw(frame: Path) -> tuple[int, int]:
    """Size from the head of the file; `frame_batches` decodes it."""
    try:
        header = header_of(frame.read_bytes(), f"frame {frame}")
    except OSError as error:
        raise unreadable(f"frame {frame}", error) from error
    return header.size[::-1]


def _read_mask(path: Path, native_hw: tuple[int, int]) -> np.ndarray:
    labels_HW = read_label_map(path)
    if labels_HW.shape != native_hw:
        raise ValueError(
            f"mask {path} has {labels_HW.shape[0]} x {labels_HW.shape[1]} px, the first mask of "
            f"the video {native_hw[0]} x {native_hw[1]}; all need one size"
        )
    return labels_HW


def _first_frames(masks: Sequence[Path | None], native_hw: tuple[int, int]) -> np.ndarray:
    """(K,) first annotated frame of the objects with labels 1 to K, -1 for labels without any."""
    starts: dict[int, int] = {}
    for t, path in enumerate(masks):
        if path is not None:
            for k in np.unique(_read_mask(path, native_hw)).tolist():
                if k not in (0, VOID):
                    starts.setdefault(k, t)
    return np.array([starts.get(k, -1) for k in range(1, max(starts, default=0) + 1)], np.int64)
