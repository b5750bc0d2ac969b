"""Boxes without the picture: where the training set has its objects, the same for every image.

Shape legend: N boxes, M of a layout, Q detections.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from mmengine.config import Config

from pe_dense.data.box_layout import DETECTIONS, mean_layout
from pe_dense.data.config_datasets import datasets_of
from pe_dense.detection.coco_metric import average_precision
from pe_dense.detection.ground_truth import GroundTruth, read_ground_truth
from pe_dense.detection.lvis_metric import MAX_DETS, lvis_average_precision

Rules = Callable[[GroundTruth, np.ndarray, Sequence[int]], dict[str, float]]
# Evaluator -> how it scores boxes, and how many of an image it counts.
RULES: dict[str, tuple[Rules, int]] = {
    "CocoAP": (average_precision, DETECTIONS),
    "LvisAP": (lvis_average_precision, MAX_DETS),
}
NAME = "mean layout of the training boxes"


def layout_average_precision(
    layout_M6: np.ndarray,
    truth: GroundTruth,
    images: Sequence[int],
    sizes: Sequence[tuple[int, int]],
    metric: str,
    rules: Rules = average_precision,
) -> dict[str, float]:
    """The main box metric of the layout on the scored images.

    Args:
        layout_M6: Of `mean_layout`.
        truth: What is there.
        images: Numbers of the scored images.
        sizes: (height, width) of each in pixels.
        metric: 'AP', 'AP50', ...
        rules: How detections are scored: those of COCO or of LVIS.
    """
    rows = []
    for number, (height, width) in zip(images, sizes, strict=True):
        side_4 = np.array([width, height, width, height], np.float64)
        boxes_M4 = layout_M6[:, :4] * side_4
        corner_M2 = boxes_M4[:, :2] - boxes_M4[:, 2:] / 2
        number_M1 = np.full((len(layout_M6), 1), float(number))
        rows.append(np.hstack([number_M1, corner_M2, boxes_M4[:, 2:], layout_M6[:, 4:]]))
    detections_Q7 = np.concatenate(rows) if rows else np.zeros((0, 7))
    return {NAME: rules(truth, detections_Q7, images)[metric]}


def listed(_: Config) -> str:
    """Nothing: which images there are stands in the files that are read for an answer."""
    return ""


def of_config(cfg: Config) -> tuple[dict[str, float], list[Path]]:
    """Scores of the blind predictors of a config, and the files of labels that they depend on."""
    evaluator = cfg.test_evaluator
    train = [leaf for _, leaf, _ in datasets_of(cfg, ("train",))]
    if evaluator.type not in RULES or not train or cfg.protocol.metric.startswith("mask"):
        return {}, []
    classes = list(cfg.classes) if "classes" in cfg else list(train[0]["metainfo"]["classes"])
    boxes, labels, num_images, read = [], [], 0, [Path(evaluator.ann_file)]
    for leaf in train:
        file = Path(str(leaf.get("data_root") or "")) / leaf["ann_file"]
        found = read_ground_truth(file, classes, leave_out_untrainable=True).dataset
        sizes = {image["id"]: (image["width"], image["height"]) for image in found["images"]}
        for annotation in found["annotations"]:
            if annotation["iscrowd"]:
                continue
            (x, y, w, h), (width, height) = annotation["bbox"], sizes[annotation["image_id"]]
            boxes.append([(x + w / 2) / width, (y + h / 2) / height, w / width, h / height])
            labels.append(annotation["category_id"] - 1)
        num_images += len(sizes)
        read.append(file)
    boxes_N4 = np.array(boxes, np.float64).reshape(-1, 4)
    rules, most = RULES[evaluator.type]
    layout_M6 = mean_layout(boxes_N4, np.array(labels, int), len(classes), num_images, most)
    layout_M6[:, 5] += 1  # categories of the ground truth count from 1
    left_out = bool(evaluator.get("leave_out_untrainable", False))
    truth = read_ground_truth(evaluator.ann_file, classes, left_out)
    images = truth.dataset["images"]
    sizes_N2 = [(image["height"], image["width"]) for image in images]
    numbers = [image["id"] for image in images]
    metric = cfg.protocol.metric
    return layout_average_precision(layout_M6, truth, numbers, sizes_N2, metric, rules), read
