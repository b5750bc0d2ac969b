"""Boxes tracked through a video: MOTChallenge's result rows and a picture of each frame.

Results equal those that `tools/test.py` writes with the same config, checkpoint and frames: frames
go through the pipeline of the config, one after the other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from mmengine.dataset import Compose, pseudo_collate
from mmengine.registry import MODELS, TRANSFORMS, init_default_scope

from pe_dense.data.video_file import VideoFrame
from pe_dense.files import temporary_beside
from pe_dense.openmmlab.devices import device_of_machine
from pe_dense.pictures.boxes import Boxes, draw_boxes
from pe_dense.predict.video_source import VideoSource
from pe_dense.run.checkpoint import checkpoint_file, load_strictly
from pe_dense.run.request import RunRequest
from pe_dense.run.tracked_detector import open_tracker
from pe_dense.run.trained_run import TrainedRun, encoder_settings
from pe_dense.tracking.mot_files import result_lines


class TrackPredictor:
    """A `VideoPredictor` that gives boxes identities.

    File: '<folder>/tracks.txt', rows of MOTChallenge's results; frames and pixels count from 1.

    Args:
        run: A tracker with its weights; see `open_tracker`.

    Raises:
        ValueError: If the checkpoint does not fit.
    """

    as_stored = False  # a detector sees pictures turned as Exif says

    def __init__(self, run: TrainedRun) -> None:
        cfg = run.cfg
        init_default_scope("mmdet")
        if run.facts.amp:
            encoder_settings(cfg).amp_dtype = "bfloat16"
        model = MODELS.build(cfg.model)
        load_strictly(model, run.content, str(run.file))
        self.model = model.to(device_of_machine()).eval()
        self.bits = cfg.get("image_bits")
        steps = [dict(step) for step in cfg.test_dataloader.dataset.pipeline]
        for step in steps:
            if step["type"] == "TransformBroadcaster":
                step["transforms"] = [s for s in step["transforms"] if s["type"] != "LoadImage"]
        kept = [step for step in steps if step.get("transforms") != []]
        self._pipeline = Compose([TRANSFORMS.build(step) for step in kept])

    def predict(
        self, source: VideoSource, frames: Iterator[VideoFrame], folder: Path
    ) -> Iterator[tuple[VideoFrame, np.ndarray]]:
        """See `VideoPredictor`."""
        target = folder / "tracks.txt"
        with temporary_beside(target) as temporary:
            file = temporary.open("w", encoding="utf-8")
            try:
                for frame in frames:
                    boxes_N4, ids_N, scores_N = self._track(frame)
                    for line in result_lines(frame.number + 1, ids_N, boxes_N4, scores_N):
                        file.write(f"{line}\n")
                    found = Boxes(boxes_N4, ids_N + 1)  # as the file calls them
                    yield frame, draw_boxes(frame.image_HW3, found, None)
            finally:  # what was found before an error counts
                file.close()
                temporary.replace(target)

    def _track(self, frame: VideoFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Boxes (N, 4) in pixels of the frame, identities from 0 and scores."""
        height, width = frame.image_HW3.shape[:2]
        single = dict(
            img=cv2.cvtColor(frame.image_HW3, cv2.COLOR_RGB2BGR),
            img_shape=(height, width), ori_shape=(height, width), img_id=frame.number,
            img_path=f"frame {frame.number}", frame_id=frame.number,
            frame_number=frame.number + 1, sequence_dir="", video_id=0, video_length=1,
            ori_video_length=1, height=height, width=width, instances=[],
        )  # fmt: skip
        item = self._pipeline({key: [value] for key, value in single.items()})
        with torch.no_grad():
            [sample] = self.model.test_step(pseudo_collate([item]))
        found = sample[0].pred_track_instances
        return (
            found.bboxes.cpu().numpy().reshape(-1, 4),
            found.instances_id.cpu().numpy().astype(np.int64),
            found.scores.cpu().numpy(),
        )


def open_track_predictor(
    config: str, checkpoint: Path, encoder: str | None, options: Mapping[str, Any] | None
) -> TrackPredictor:
    """What `tools/predict.py CONFIG CHECKPOINT VIDEO` asks for with a config of `mot_custom`.

    Raises:
        ValueError: As `open_tracker`.
    """
    request = RunRequest(config, encoder, options=options)
    return TrackPredictor(open_tracker(request, checkpoint_file(checkpoint), with_data=False))
