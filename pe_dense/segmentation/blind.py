"""Segmentation without the picture: one class, a map over positions, a linear head on positions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from mmengine.config import Config

from pe_dense.data.config_datasets import datasets_of
from pe_dense.data.label_reading import (
    MOST_MAPS,
    built,
    items_sha256,
    label_files,
    label_maps,
    label_steps,
    say_how_many,
    scored_leaf,
)
from pe_dense.pixelwise.mean_iou import counts_evidence, image_counts
from pe_dense.pixelwise.position_means import LabelCounts, position_features, spread

IGNORED = 255
HEAD_STEPS = 200


def blind_maps(counts: LabelCounts) -> dict[str, np.ndarray]:
    """Name -> (G, G) classes that are predicted for every picture.

    Args:
        counts: Of the training labels.
    """
    grid = counts.grid
    return {
        "most frequent class": np.full((grid, grid), counts.best_constant()),
        "mean map of the training labels": counts.most_frequent(),
        "mean map, classes balanced": counts.balanced(),
        "linear head on position": head_on_position(counts.counts_GGK),
    }


def head_on_position(counts_GGK: np.ndarray) -> np.ndarray:
    """What a linear head that is trained to its end predicts from position alone, (G, G) classes.

    The counts hold all that its cross-entropy depends on, so that no map is read again.
    """
    grid = len(counts_GGK)
    features_PF = torch.from_numpy(position_features(grid).reshape(grid * grid, -1)).float()
    counts_PK = torch.from_numpy(counts_GGK.reshape(grid * grid, -1)).float()
    weight_FK = torch.zeros(features_PF.shape[1], counts_PK.shape[1], requires_grad=True)
    total = counts_PK.sum().clamp(min=1)
    optimiser = torch.optim.LBFGS([weight_FK], max_iter=HEAD_STEPS, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimiser.zero_grad()
        value = -(counts_PK * F.log_softmax(features_PF @ weight_FK, dim=1)).sum() / total
        value.backward()
        return value

    optimiser.step(loss)
    logits_PK = (features_PF @ weight_FK.detach()).masked_fill(counts_PK.sum(0) == 0, -torch.inf)
    return logits_PK.argmax(dim=1).reshape(grid, grid).numpy()


def blind_mean_iou(
    counts: LabelCounts, scored: Iterable[np.ndarray], classes: Sequence[str]
) -> dict[str, float]:
    """The mIoU of every blind map on the scored label maps.

    Args:
        counts: Of the training labels.
        scored: Label maps (H, W) at their own size, `IGNORED` where nothing is annotated.
        classes: Names of the K classes.
    """
    maps = blind_maps(counts)
    kind = np.uint8 if len(classes) <= IGNORED else np.int64  # bytes are counted faster
    found: dict[str, list[np.ndarray]] = {name: [] for name in maps}
    for labels_HW in scored:
        for name, map_GG in maps.items():
            prediction_HW = spread(map_GG, *labels_HW.shape).astype(kind)
            found[name].append(image_counts(prediction_HW, labels_HW, len(classes), IGNORED))
    scores = {}
    for name, rows in found.items():
        ids = [str(i) for i in range(len(rows))]
        scores[name] = float(counts_evidence(ids, classes, np.stack(rows)).metrics()["mIoU"])
    return scores


def listed(cfg: Config) -> str:
    """Hash of the items that are read: other ones make another answer."""
    return items_sha256(cfg)


def of_config(cfg: Config) -> tuple[dict[str, float], list[Path]]:
    """Scores of the blind predictors of a config, and the files of labels that they depend on."""
    if not list(datasets_of(cfg, ("train",))):
        return {}, []
    leaf = scored_leaf(cfg)
    scored = built(leaf, label_steps(leaf))
    classes = scored.metainfo["classes"]
    counts, sets = LabelCounts(len(classes)), []
    for _, leaf, _ in datasets_of(cfg, ("train",)):
        dataset = built(leaf, label_steps(leaf))
        say_how_many(dataset, "label maps")
        for labels_HW in label_maps(dataset, "gt_seg_map", MOST_MAPS):
            counts.add(labels_HW)
        sets.append(dataset)
    scores = blind_mean_iou(counts, label_maps(scored, "gt_seg_map"), classes)
    return scores, label_files(scored, *sets)
