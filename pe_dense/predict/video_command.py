"""What `tools/predict.py` does with a config of tracking: objects followed through videos."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pe_dense.predict.video_prediction import VideoOutcome, VideoPredictor, predict_videos
from pe_dense.run.config import load_template

TRACKERS = ("TrackByDetection", "ObservationCentricTracking")


@dataclass(frozen=True)
class VideoRequest:
    """Videos to follow objects through, as it was asked for.

    Attributes:
        config: Config file of tracking.
        words: What stands behind it: videos, and for a tracker its detector's checkpoint first.
        out: Folder of the results.
        mask: Of the first frame; None for trackers.
        encoder, weights, options: Replace those of the config.
    """

    config: str
    words: Sequence[str]
    out: Path
    mask: Path | None = None
    encoder: str | None = None
    weights: str | None = None
    options: Mapping[str, Any] | None = None


def is_of_tracking(config: str | None) -> bool:
    """Whether a config follows objects through videos.

    Raises:
        ValueError: If it cannot be read.
    """
    if config is None:
        return False
    template = load_template(config)
    return template.get("model", {}).get("type") in ("VideoPropagator", *TRACKERS)


def follow(request: VideoRequest) -> list[VideoOutcome]:
    """Predict on videos; see `predict_videos`.

    Raises:
        ValueError: If the request cannot be followed, or not one video could be predicted.
    """
    kind = load_template(request.config).get("model", {}).get("type")
    predictor: VideoPredictor
    if kind == "VideoPropagator":
        if request.mask is None:
            raise ValueError(
                f"config {request.config} follows the objects of a first mask; name it with "
                "--mask FIRST.png"
            )
        from pe_dense.predict.video_masks import open_mask_predictor  # heavy

        videos = list(request.words)
        _require_videos(videos, request)
        predictor = open_mask_predictor(
            request.config, request.mask, request.encoder, request.weights, request.options
        )
    else:
        from pe_dense.predict.video_tracks import open_track_predictor  # heavy
        from pe_dense.run.tracked_detector import takes_any_detector

        if not takes_any_detector(request.config):
            raise ValueError(
                f"config {request.config} scores one detector on one data set; track videos with "
                "configs/tracking/mot_custom.py, which takes any detector"
            )
        if request.mask is not None or request.weights is not None:
            raise ValueError("a tracker finds objects itself; leave --mask and --weights out")
        if len(request.words) < 2:
            raise ValueError("name the checkpoint of a detector and then videos")
        checkpoint, *videos = request.words
        _require_videos(videos, request)
        predictor = open_track_predictor(
            request.config, Path(checkpoint), request.encoder, request.options
        )
    outcomes = predict_videos(videos, request.out, predictor, tell=_tell)
    if outcomes and all(outcome.error and not outcome.num_frames for outcome in outcomes):
        first, count = outcomes[0].error, len(outcomes)
        raise ValueError(first if count == 1 else f"none of {count} videos was read; {first}")
    return outcomes


def _tell(line: str) -> None:
    """Progress; errors are in the outcomes."""
    if not line.startswith("error: "):
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()


def _require_videos(videos: Sequence[str], request: VideoRequest) -> None:
    if not videos:
        raise ValueError("no video is named; add video files, folders of frames or a camera (0)")
    if request.mask is not None and len(videos) > 1:
        raise ValueError(
            f"--mask {request.mask} is of the first frame of one video, and {len(videos)} are "
            "named; predict them one by one, or give a folder with a mask for each to tools/test.py"
        )
