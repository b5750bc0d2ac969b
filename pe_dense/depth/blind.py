"""Depth without the picture: one depth, and the mean depth at each place."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config

from pe_dense.data.config_datasets import datasets_of
from pe_dense.data.label_reading import (
    MOST_MAPS,
    built,
    items_sha256,
    label_files,
    label_maps,
    say_how_many,
    scored_leaf,
)
from pe_dense.pixelwise.depth_errors import depth_error_sums, depth_evidence
from pe_dense.pixelwise.position_means import ValueMeans, spread


def blind_maps(means: ValueMeans) -> dict[str, np.ndarray]:
    """Name -> (G, G) depth in metres that is predicted for every picture.

    Args:
        means: Of the training maps.
    """
    return {
        "mean depth": np.full((means.grid, means.grid), means.mean()),
        "mean map of the training depth": means.mean_map(),
        "geometric mean map": means.geometric_map(),
    }


def blind_depth_errors(
    means: ValueMeans, scored: Iterable[np.ndarray], scoring: Mapping[str, Any], metric: str
) -> dict[str, float]:
    """The main metric of every blind map on the scored depth maps.

    Args:
        means: Of the training maps.
        scored: Depth maps (H, W) in metres as they are scored, 0 where nothing is annotated.
        scoring: Of `depth_error_sums`.
        metric: Name of the main metric, such as 'rmse'.

    Raises:
        ValueError: If no map has a pixel that counts.
    """
    maps = blind_maps(means)
    found: dict[str, list[Any]] = {name: [] for name in maps}
    for depth_HW in scored:
        for name, map_GG in maps.items():
            prediction_HW = spread(map_GG, *depth_HW.shape).astype(np.float32)
            sums = depth_error_sums(prediction_HW, depth_HW.astype(np.float32), **scoring)
            if sums.num_pixels:
                found[name].append(sums)
    scores = {}
    for name, rows in found.items():
        if not rows:
            raise ValueError("no scored depth map has a pixel that counts")
        evidence = depth_evidence([str(i) for i in range(len(rows))], rows, sequence_ids=None)
        scores[name] = float(evidence.metrics()[metric])
    return scores


def listed(cfg: Config) -> str:
    """Hash of the items that are read: other ones make another answer."""
    return items_sha256(cfg)


def of_config(cfg: Config) -> tuple[dict[str, float], list[Path]]:
    """Scores of the blind predictors of a config, and the files of labels that they depend on."""
    if not list(datasets_of(cfg, ("train",))):
        return {}, []
    scoring = {
        "min_depth": cfg.get("min_depth", 1e-3),
        "max_depth": cfg.get("max_depth"),
        "crop": cfg.get("score_crop"),
    }
    if cfg.test_evaluator.type == "DepthErrors":
        names = (*scoring, "clamp", "ceiling")
        scoring = {key: cfg.test_evaluator[key] for key in names if key in cfg.test_evaluator}
    leaf = scored_leaf(cfg)
    steps = [step for step in leaf["pipeline"] if not step["type"].startswith("Pack")]
    scored, means, sets = built(leaf, steps), ValueMeans(), []
    low, high = scoring.get("min_depth", 1e-3), scoring.get("max_depth") or np.inf
    for _, train_leaf, _ in datasets_of(cfg, ("train",)):
        dataset = built(train_leaf, steps)  # cut as the scored maps are
        say_how_many(dataset, "depth maps")
        for depth_HW in label_maps(dataset, "gt_depth_map", MOST_MAPS):
            means.add(depth_HW, (depth_HW > low) & (depth_HW < high))
        sets.append(dataset)
    maps = label_maps(scored, "gt_depth_map")
    scores = blind_depth_errors(means, maps, scoring, cfg.protocol.metric)
    return scores, label_files(scored, *sets)
