"""Runs a trained detector over images and writes what it found beside what is there.

Shape legend: H W pixels, Q detections, G objects.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.dataset import Compose
from pycocotools.coco import COCO

from pe_dense.data.coco_file import NAMING as NAME_OF
from pe_dense.data.image_files import spread
from pe_dense.detection.box_matching import CROWD, Matches, match_boxes
from pe_dense.detection.coco_check import NAMING
from pe_dense.pictures.boxes import Boxes, side_by_side
from pe_dense.pictures.folder import Look, read_image, write_looks

SHEET_SIDE = 460  # pixels of an image there


@dataclass(frozen=True)
class Objects:
    """The annotations of one image.

    Attributes:
        boxes_G4: x1, y1, x2, y2 in pixels.
        labels_G: Classes.
        is_crowd_G: bool.
        masks_GHW: bool; None where an object has none.
    """

    boxes_G4: np.ndarray
    labels_G: np.ndarray
    is_crowd_G: np.ndarray
    masks_GHW: np.ndarray | None


@dataclass(frozen=True)
class Detections:
    """What a detector found in one image, above a score.

    Attributes:
        boxes_Q4: x1, y1, x2, y2 in pixels of the file.
        scores_Q: 0..1.
        labels_Q: Classes.
        masks_QHW: bool; None where the detector has no masks.
    """

    boxes_Q4: np.ndarray
    scores_Q: np.ndarray
    labels_Q: np.ndarray
    masks_QHW: np.ndarray | None


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
        _, name_of = NAME_OF[NAMING.get(dataset.get("type"), "coco")]
        folder = root / dataset.get("data_prefix", {}).get("img", "")
        self.files = {i: folder / name_of(image) for i, image in sorted(self.coco.imgs.items())}
        self.ids = {file.resolve(): i for i, file in self.files.items()}
        labels = {name: label for label, name in enumerate(classes)}
        self.labels = {i: labels.get(c["name"], -1) for i, c in self.coco.cats.items()}

    def spread_files(self, count: int | None) -> list[Path]:
        """So many of the images, evenly spread; all for None."""
        files = list(self.files.values())
        return files if count is None else [files[i] for i in spread(len(files), count)]

    def objects(self, file: Path) -> Objects | None:
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
        return Objects(
            np.concatenate([xywh_G4[:, :2], xywh_G4[:, :2] + xywh_G4[:, 2:]], axis=1),
            np.array([self.labels[item["category_id"]] for item in found], dtype=np.int64),
            np.array([bool(item.get("iscrowd")) for item in found], dtype=bool),
            np.stack([self.coco.annToMask(item) for item in found]).astype(bool)
            if has_masks
            else None,
        )


class Detector:
    """A trained model with the loading that its config tests with.

    Args:
        model: The model, in eval mode.
        dataset: The data set that the config tests on; its pipeline is used.
        score_thr: Detections below are left out.
    """

    def __init__(
        self, model: torch.nn.Module, dataset: Mapping[str, Any], score_thr: float
    ) -> None:
        steps = [step for step in dataset["pipeline"] if step["type"] != "LoadAnnotations"]
        self.model, self.load, self.score_thr = model, Compose(steps), score_thr

    def __call__(self, file: Path) -> Detections:
        """Detect in one image.

        Raises:
            ValueError: If it is missing or cannot be decoded.
        """
        loaded = self.load({"img_path": str(file), "img_id": 0})
        batch = {"inputs": [loaded["inputs"]], "data_samples": [loaded["data_samples"]]}
        with torch.no_grad():
            found = self.model.test_step(batch)[0].pred_instances.cpu()
        is_kept = (found.scores >= self.score_thr).numpy()
        masks = found.get("masks")
        return Detections(
            found.bboxes.numpy().astype(np.float64)[is_kept],
            found.scores.numpy().astype(np.float64)[is_kept],
            found.labels.numpy()[is_kept],
            None if masks is None else np.asarray(masks).astype(bool)[is_kept],
        )


def compared(
    detections: Detections, objects: Objects | None
) -> tuple[Boxes | None, Boxes, Matches | None]:
    """What is drawn of truth and detections, and how they match; without truth, no matches."""
    if objects is None:
        found = Boxes(
            detections.boxes_Q4, detections.labels_Q, None, detections.scores_Q,
            detections.masks_QHW,
        )  # fmt: skip
        return None, found, None
    matches = match_boxes(
        detections.boxes_Q4, detections.scores_Q, detections.labels_Q,
        objects.boxes_G4, objects.labels_G, objects.is_crowd_G,
    )  # fmt: skip
    truth = Boxes(
        objects.boxes_G4,
        objects.labels_G,
        matches.is_found_G,
        masks_QHW=None if detections.masks_QHW is None else objects.masks_GHW,
        is_crowd_Q=objects.is_crowd_G,
    )
    agrees_Q = (matches.object_Q >= 0) | (matches.object_Q == CROWD)
    found = Boxes(
        detections.boxes_Q4, detections.labels_Q, agrees_Q, detections.scores_Q,
        detections.masks_QHW,
    )  # fmt: skip
    return truth, found, matches


def rank_and_words(matches: Matches | None, num_detected: int) -> tuple[tuple[float, int], str]:
    """What orders the index, the worst first and images without truth last, and its words."""
    if matches is None:
        return (2.0, 0), f"F1    -  detected {num_detected:3d}{'':22}"
    right, wrong, missed = matches.num_right, matches.num_wrong, matches.num_missed
    words = f"F1 {matches.f1:.2f}  right {right:3d}  wrong {wrong:3d}  missed {missed:3d}"
    return (matches.f1, -(wrong + missed)), words


def write_pictures(
    out: Path,
    files: Sequence[Path],
    detect: Callable[[Path], Detections],
    objects_of: Callable[[Path], Objects | None],
    classes: Sequence[str],
    on_progress: Callable[[int, int], None] | None = None,
) -> list[str]:
    """One PNG an image, a sheet of the worst ones, and an index with a line for each.

    Args:
        out: Folder; new or empty.
        files: Images.
        detect: The detector.
        objects_of: The truth; None of an image without.
        classes: Names, by label.
        on_progress: Called with (images done, images to do).

    Returns:
        The lines of the index, the worst image first: F1 at IoU 0.5, right, wrong and missed,
        picture, image. Images without truth come last, with the number of detections alone.

    Raises:
        ValueError: If the folder is not empty or an image cannot be read.
    """

    def look(file: Path) -> Look:
        detections = detect(file)
        truth, found, matches = compared(detections, objects_of(file))
        image_HW3 = read_image(file)
        return Look(
            *rank_and_words(matches, len(detections.labels_Q)),
            lambda side: side_by_side(image_HW3, truth, found, classes, file.name, side),
        )

    return write_looks(out, files, look, SHEET_SIDE, on_progress)
