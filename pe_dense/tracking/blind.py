"""Video objects without the pictures: the first mask of each object stays where it was."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config
from mmengine.registry import DATASETS

from pe_dense.data.label_reading import infos_sha256
from pe_dense.tracking.annotated_video import AnnotatedVideo, read_annotated_video
from pe_dense.tracking.frame_scorer import FrameScorer
from pe_dense.tracking.object_statistics import evidence_of_objects, object_statistics
from pe_dense.tracking.region_and_boundary import VOID, boundary_radius, frame_scores

NAME = "first mask copied"


def copied_first_masks(videos: Iterable[Mapping[str, Any]], metric: str) -> dict[str, float]:
    """The main metric where every frame gets the mask in which an object was given.

    Args:
        videos: Items of `DavisVideos`; those that only choose settings are left out.
        metric: 'J&F', 'J' or 'F'.

    Raises:
        ValueError: If no video is scored.
    """
    names, objects, statistics = [], [], []
    for item in videos:
        if item["purpose"] != "report" or not item["scored"]:
            continue
        video = read_annotated_video(item)
        found_K6 = _statistics(video)
        scored_K = ~np.isnan(found_K6[:, 0])
        names.append(video.name)
        objects.append([str(k + 1) for k in np.nonzero(scored_K)[0]])
        statistics.append(found_K6[scored_K])
    if not names:
        raise ValueError("no video is scored")
    return {NAME: float(evidence_of_objects(names, objects, statistics).metrics()[metric])}


def _statistics(video: AnnotatedVideo) -> np.ndarray:
    """(K, 6) statistics of the copies."""
    scorer = FrameScorer(video, patch_size=None, stretch=False, results=None)
    copied_HW = np.where(video.first_HW == VOID, 0, video.first_HW)
    radius, rows = boundary_radius(video.native_hw), []
    for t in range(1, len(video.frame_paths)):
        truth_HW = video.annotation(t)
        if truth_HW is not None:
            found = frame_scores(truth_HW, copied_HW, video.num_objects, radius)
            rows.append(scorer.where_counted(t, np.stack(found, axis=1)[None, None]))
            for k in np.nonzero(video.starts_K == t)[0]:  # objects that are given in this frame
                copied_HW = np.where(truth_HW == k + 1, k + 1, copied_HW)
    return object_statistics(np.stack(rows))[0, 0]


def listed(cfg: Config) -> str:
    """Hash of the videos that are read: other ones make another answer."""
    return infos_sha256(_videos(cfg))


def _videos(cfg: Config) -> list[Any]:
    dataset = DATASETS.build(copy.deepcopy(cfg.test_dataloader.dataset))
    return [dataset.get_data_info(index) for index in range(len(dataset))]


def of_config(cfg: Config) -> tuple[dict[str, float], list[Path]]:
    """Scores of the blind predictors of a config, and the files of labels that they depend on."""
    videos, metric = _videos(cfg), cfg.protocol.metric
    if cfg.test_evaluator.type == "MOTChallengeScores":  # TrackEval may be absent elsewhere
        from pe_dense.tracking.blind_tracks import static_boxes

        frames = [video["images"] for video in videos]
        if cfg.test_evaluator.get("partial"):
            frames = [f for f in frames if Path(f[0]["sequence_dir"], "gt", "gt.txt").is_file()]
        folders = [Path(part[0]["sequence_dir"]) for part in frames]
        read = [folder / name for folder in folders for name in ("gt/gt.txt", "seqinfo.ini")]
        return static_boxes(frames, cfg.test_evaluator.benchmark, metric), read
    masks = [Path(path) for video in videos for path in video["mask_paths"] if path is not None]
    return copied_first_masks(videos, metric), masks
