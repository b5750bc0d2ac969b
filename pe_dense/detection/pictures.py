"""Runs a trained detector over images and writes what it found beside what is there."""

from __future__ import annotations

import contextlib
import functools
import io
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from mmengine.dataset import Compose
from pycocotools.coco import COCO

from pe_dense.data.checks.coco_file import NAMING
from pe_dense.data.coco_objects import is_ignored
from pe_dense.data.image_files import spread
from pe_dense.data.picture import read_picture
from pe_dense.detection.box_matching import CROWD, Matches, match_boxes
from pe_dense.detection.coco_check import NAMING_OF_TYPE
from pe_dense.pictures.boxes import Boxes, side_by_side
from pe_dense.pictures.folder import Look


class Seen(NamedTuple):
    """What is known of one image.

    Attributes:
        image_HW3: RGB uint8.
        detected: What the detector found, with scores.
        truth: Its annotations; None where it has none.
    """

    image_HW3: np.ndarray
    detected: Boxes
    truth: Boxes | None


class Truth:
    """The annotations that a config scores on, by image file.

    Args:
        dataset: The data set of a resolved config: data_root, ann_file, data_prefix, type.
        classes: Names, by label.
    """

    def __init__(self, dataset: Mapping[str, Any], classes: Sequence[str]) -> None:
        root = Path(dataset["data_root"])
        with contextlib.redirect_stdout(io.StringIO()):
            self.coco = COCO(str(root / dataset["ann_file"]))
        _, name_of = NAMING[NAMING_OF_TYPE.get(dataset.get("type"), "coco")]
        folder = root / dataset.get("data_prefix", {}).get("img", "")
        self.files = {i: folder / name_of(image) for i, image in sorted(self.coco.imgs.items())}
        self.ids = {file.resolve(): i for i, file in self.files.items()}
        labels = {name: label for label, name in enumerate(classes)}
        self.labels = {i: labels.get(c["name"], -1) for i, c in self.coco.cats.items()}

    def __call__(self, file: Path) -> Boxes | None:
        """The annotations of an image; None if the file is none of these."""
        image_id = self.ids.get(file.resolve())
        if image_id is None:
            return None
        found = [
            item
            for item in self.coco.imgToAnns.get(image_id, [])
            if self.labels[item["category_id"]] >= 0
        ]
        xywh_G4 = np.array([item["bbox"] for item in found], dtype=np.float64).reshape(-1, 4)
        has_masks = found and all(item.get("segmentation") for item in found)
        masks = [self.coco.annToMask(item).astype(bool) for item in found] if has_masks else None
        return Boxes(
            np.concatenate([xywh_G4[:, :2], xywh_G4[:, :2] + xywh_G4[:, 2:]], axis=1),
            np.array([self.labels[item["category_id"]] for item in found], dtype=np.int64),
            masks_QHW=None if masks is None else np.stack(masks),
            is_crowd_Q=np.array([is_ignored(item) for item in found], dtype=bool),
        )


class Detector:
    """A trained detector with the images that its config tests on.

    Args:
        model: In eval mode.
        cfg: Its resolved config; images are loaded as it tests.
        score_thr: Detections below are left out.
    """

    sheet_side = 460  # pixels of an image on the sheet

    def __init__(self, model: torch.nn.Module, cfg: Mapping[str, Any], score_thr: float) -> None:
        dataset, classes = cfg["test_dataloader"]["dataset"], cfg["classes"]
        steps = [step for step in dataset["pipeline"] if step["type"] != "LoadAnnotations"]
        self.model, self.load, self.score_thr = model, Compose(steps), score_thr
        self.bits = cfg.get("image_bits")
        self.json = Path(dataset["data_root"]) / dataset["ann_file"]
        self.truth = Truth(dataset, classes) if self.json.is_file() else None
        self.look_at = functools.partial(look_at, classes=classes)

    def spread_files(self, count: int | None) -> list[Path]:
        """So many of the images, evenly spread; all for None.

        Raises:
            ValueError: If their annotations are not there.
        """
        if self.truth is None:
            raise ValueError(
                f"annotation file {self.json} does not exist; pass --cfg-options data_root=DIR, or "
                "name images with --image"
            )
        files = list(self.truth.files.values())
        return files if count is None else [files[i] for i in spread(len(files), count)]

    def see(self, file: Path) -> Seen:
        """An image with its detections and annotations.

        Raises:
            ValueError: If it is missing or cannot be decoded.
        """
        detected, truth = self.detect(file), None if self.truth is None else self.truth(file)
        return Seen(read_picture(file, bits=self.bits), detected, truth)

    def detect(self, file: Path) -> Boxes:
        """What is found in one image."""
        loaded = self.load({"img_path": str(file), "img_id": 0})
        batch = {"inputs": [loaded["inputs"]], "data_samples": [loaded["data_samples"]]}
        with torch.no_grad():
            found = self.model.test_step(batch)[0].pred_instances.cpu()
        is_kept = (found.scores >= self.score_thr).numpy()
        masks = found.get("masks")
        return Boxes(
            found.bboxes.numpy().astype(np.float64)[is_kept],
            found.labels.numpy()[is_kept],
            scores_Q=found.scores.numpy().astype(np.float64)[is_kept],
            masks_QHW=None if masks is None else np.asarray(masks).astype(bool)[is_kept],
        )


def compared(detected: Boxes, truth: Boxes | None) -> tuple[Boxes | None, Boxes, Matches | None]:
    """What is drawn of truth and detections, and how they match; without truth, no matches."""
    if truth is None:
        return None, detected, None
    matches = match_boxes(
        detected.boxes_Q4, detected.scores_Q, detected.labels_Q,
        truth.boxes_Q4, truth.labels_Q, truth.is_crowd_Q,
    )  # fmt: skip
    masks_QHW = None if detected.masks_QHW is None else truth.masks_QHW
    agrees_Q = (matches.object_Q >= 0) | (matches.object_Q == CROWD)
    return (
        replace(truth, agrees_Q=matches.is_found_G, masks_QHW=masks_QHW),
        replace(detected, agrees_Q=agrees_Q),
        matches,
    )


def rank_and_words(matches: Matches | None, num_detected: int) -> tuple[tuple[float, int], str]:
    """What orders the index, the worst first and images without truth last, and its words."""
    if matches is None:
        return (2.0, 0), f"F1    -  detected {num_detected:3d}{'':22}"
    right, wrong, missed = matches.num_right, matches.num_wrong, matches.num_missed
    words = f"F1 {matches.f1:.2f}  right {right:3d}  wrong {wrong:3d}  missed {missed:3d}"
    return (matches.f1, -(wrong + missed)), words


def look_at(seen: Seen, title: str, classes: Sequence[str]) -> Look:
    """F1 at IoU 0.5, right, wrong and missed of an image, and how it is drawn.

    Without truth there is the number of detections alone, and the image comes last.
    """
    truth, found, matches = compared(seen.detected, seen.truth)
    return Look(
        *rank_and_words(matches, len(found.labels_Q)),
        lambda side: side_by_side(seen.image_HW3, truth, found, classes, title, side),
    )
