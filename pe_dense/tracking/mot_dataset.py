"""MOTChallenge sequences as a video data set of mmdet, read from their own files.

mmdet's `MOTChallengeDataset` reads a COCO-style JSON that a script has to write first; this reads
the folders, so that what is tracked is what is scored.

Source: arXiv:1603.00831 (files); the halves of MOT17's training sequences are those of CenterTrack
(arXiv:2004.01177, section 5.1): the first half of the frames trains, the second half validates.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from mmdet.datasets import BaseVideoDataset
from mmdet.registry import DATASETS

from pe_dense.tracking.mot_files import BoxRows, SequenceInfo, find_sequences, read_ground_truth

HALVES = (None, "first", "second")


def frame_range(num_frames: int, half: str | None) -> tuple[int, int]:
    """First and last frame, counted from 1, of a sequence or of one of its halves.

    The first half of n frames is frames 1 to n // 2 + 1, as the published split has it: it has one
    or two frames more than the second.

    Raises:
        ValueError: For another `half`, or a sequence too short to be cut.

    Example:
        >>> frame_range(600, "first"), frame_range(600, "second"), frame_range(5, None)
        ((1, 301), (302, 600), (1, 5))
    """
    if half not in HALVES:
        raise ValueError(f"half={half!r} is not None, 'first' or 'second'")
    if half is not None and num_frames < 3:
        raise ValueError(f"a sequence of {num_frames} frames has no halves; leave half=None")
    cut = num_frames // 2 + 1
    return {None: (1, num_frames), "first": (1, cut), "second": (cut + 1, num_frames)}[half]


@DATASETS.register_module()
class MOTSequences(BaseVideoDataset):
    """Frames of MOTChallenge sequences in order, with their boxes where `gt/gt.txt` is there.

    Each frame has 'img_path', 'img_id', 'frame_id' (from 0 in what is used of the sequence),
    'frame_number' (in the files, from 1), 'sequence_dir', its size and, for training, 'instances'
    with label 0: the classes of `gt.txt` that count are one class here, as in MOTChallenge.

    Args:
        data_root: Folder of the sequences.
        pattern: Names of the sequences that count, as `find_sequences` takes it.
        half: None, or 'first' or 'second' half of every sequence.
        class_ids: Values of the class column that are targets; 1 is MOT17's pedestrian.
        min_visibility: Training boxes that are less visible are left out.
        metainfo: `dict(classes=(name,))` of the one class.
        kwargs: Of mmengine's BaseDataset: pipeline, test_mode, lazy_init ...

    Raises:
        ValueError: If files are missing or wrong, or training frames have no box at all.
    """

    def __init__(
        self,
        data_root: str,
        pattern: str = "*",
        half: str | None = None,
        class_ids: Sequence[int] = (1,),
        min_visibility: float = 0.0,
        metainfo: dict | None = None,
        **kwargs: Any,
    ) -> None:
        self.pattern, self.half = pattern, half
        self.class_ids, self.min_visibility = tuple(class_ids), min_visibility
        super().__init__(
            data_root=data_root,
            metainfo=metainfo if metainfo is not None else dict(classes=("object",)),
            **kwargs,
        )

    def load_data_list(self) -> list[dict]:
        """One entry per sequence with all its frames, as mmdet's video data sets have them."""
        videos, next_id = [], 0
        for video_id, info in enumerate(find_sequences(self.data_root, self.pattern)):
            images = self._images(info, next_id)
            next_id += len(images)
            if not self.test_mode:
                images = [image for image in images if image["instances"]]
            if images:
                videos.append({"video_id": video_id, "images": images, "video_length": len(images)})
        if not videos:
            raise ValueError(
                f"no frame of {self.data_root} has an active box of class "
                f"{', '.join(map(str, self.class_ids))}; correct class_ids or the gt.txt files"
            )
        return videos

    def filter_data(self) -> list[dict]:
        """Frames without boxes were left out while reading; nothing remains to be done."""
        return self.data_list

    def counting(self, rows: BoxRows) -> np.ndarray:
        """(Q,) rows that are trained on; boxes of unknown visibility are."""
        is_visible_Q = (rows.visibility_Q >= self.min_visibility) | (rows.visibility_Q < 0)
        return rows.is_active & np.isin(rows.classes_Q, self.class_ids) & is_visible_Q

    def _images(self, info: SequenceInfo, next_id: int) -> list[dict]:
        first, last = frame_range(info.num_frames, self.half)
        files = info.frames()
        if absent := [number for number in range(first, last + 1) if number not in files]:
            raise ValueError(
                f"frame {absent[0]} of {info.folder / info.image_dir} is missing ({len(absent)} of "
                f"{last - first + 1} are); fetch the sequence again, or correct seqLength in its "
                "seqinfo.ini"
            )
        instances: dict[int, list[dict]] = {}
        if not self.test_mode:  # the metric reads what it scores itself
            rows = read_ground_truth(info.folder / "gt" / "gt.txt", info.num_frames)
            counts_Q = self.counting(rows)
            for i, frame in enumerate(rows.frames_Q.tolist()):
                if not counts_Q[i]:
                    continue
                x, y, w, h = rows.boxes_xywh_Q4[i].tolist()
                instances.setdefault(frame, []).append(
                    {
                        "bbox": [x - 1, y - 1, x - 1 + w, y - 1 + h],
                        "bbox_label": 0,
                        "ignore_flag": 0,
                        "instance_id": int(rows.ids_Q[i]),
                    }
                )
        return [
            {
                "img_path": str(files[number]),
                "img_id": next_id + number - first,
                "frame_id": number - first,
                "frame_number": number,
                "sequence_dir": str(info.folder),
                "height": info.height,
                "width": info.width,
                "instances": instances.get(number, []),
            }
            for number in range(first, last + 1)
        ]
