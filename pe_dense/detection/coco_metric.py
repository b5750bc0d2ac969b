"""COCO average precision of boxes and masks through faster-coco-eval, unrounded.

Shape legend: Q detections of one image.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from faster_coco_eval import COCO, COCOeval_faster
from mmengine.evaluator import BaseMetric
from mmengine.logging import print_log
from mmengine.registry import METRICS
from pycocotools import mask as mask_coding
from pycocotools.coco import COCO as PythonCOCO  # noqa: N811
from pycocotools.cocoeval import COCOeval

from pe_dense.detection.ground_truth import GroundTruth, read_ground_truth
from pe_dense.results.detection_evidence import (
    DetectionEvidence,
    detection_evidence_from_eval_imgs,
)

# Position of the usual summary numbers in COCOeval.stats.
STATS = {"AP": 0, "AP50": 1, "AP75": 2, "APs": 3, "APm": 4, "APl": 5, "AR100": 8}


def average_precision(
    truth: GroundTruth, detections_Q7: np.ndarray, images: Sequence[int]
) -> dict[str, float]:
    """Box AP of COCO, in 0..1, as pycocotools gives it.

    Args:
        truth: What is there.
        detections_Q7: (Q, 7) float64: number of the image, x, y, w, h, score, number of the class.
        images: Numbers of the images that count.

    Returns:
        AP (0.50:0.95), AP50, AP75, APs, APm, APl, AR100 and 'AP/<class>' for every class. A
        class or size without ground truth is left out: it has no AP.
    """
    coco = truth.coco(COCO)
    with contextlib.redirect_stdout(io.StringIO()):
        found = coco.loadRes(detections_Q7) if len(detections_Q7) else no_detections(coco)
        evaluation = COCOeval_faster(coco, found, iouType="bbox")
        evaluation.params.imgIds = list(images)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    scores = {name: float(evaluation.stats[place]) for name, place in STATS.items()}
    precision_TRKAM = evaluation.eval["precision"]
    for k, name in enumerate(truth.classes):
        values = precision_TRKAM[:, :, k, 0, -1]
        values = values[values > -1]
        if values.size:
            scores[f"AP/{name}"] = float(values.mean())
    return {name: value for name, value in scores.items() if value >= 0.0}


def no_detections(coco: COCO | PythonCOCO) -> COCO | PythonCOCO:
    """What `coco.loadRes` would give for an empty list, which it does not take."""
    empty = type(coco)()
    empty.dataset = {**coco.dataset, "annotations": []}
    empty.createIndex()
    return empty


def mask_average_precision(
    truth: GroundTruth, detections_Q7: np.ndarray, masks_Q: Sequence[dict], images: Sequence[int]
) -> dict[str, float]:
    """Mask AP of COCO, in 0..1; arguments as in `average_precision`, with one RLE a detection.

    Returns:
        mask_AP, mask_AP50 ... as `average_precision`, without classes.
    """
    rows = [
        {
            "image_id": int(row[0]),
            "category_id": int(row[6]),
            "score": float(row[5]),
            "segmentation": mask,
        }
        for row, mask in zip(detections_Q7, masks_Q, strict=True)
    ]
    coco = truth.coco(COCO)
    with contextlib.redirect_stdout(io.StringIO()):
        found = coco.loadRes(rows) if rows else no_detections(coco)
        evaluation = COCOeval_faster(coco, found, iouType="segm")
        evaluation.params.imgIds = list(images)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    scores = {f"mask_{name}": float(evaluation.stats[place]) for name, place in STATS.items()}
    return {name: value for name, value in scores.items() if value >= 0.0}


@METRICS.register_module()
class CocoAP(BaseMetric):
    """Box AP on a COCO-format data set, and mask AP where asked for.

    Args:
        ann_file: COCO JSON of the evaluated split.
        with_masks: Score `pred_instances.masks` as well; the ground truth needs segmentations.
        leave_out_untrainable: As in `ground_truth`. Not for published numbers: COCO counts such
            objects as missed.
        collect_device: Where results of several processes meet, 'cpu' or 'gpu'.
        prefix: Name in front of every metric.

    Raises:
        ValueError: If detections are not finite, or name images or classes that the file lacks.
    """

    default_prefix = "coco"

    def __init__(
        self,
        ann_file: str,
        with_masks: bool = False,
        leave_out_untrainable: bool = False,
        collect_device: str = "cpu",
        prefix: str | None = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        self.ann_file, self.with_masks = ann_file, with_masks
        self.leave_out_untrainable = leave_out_untrainable
        self._scored: tuple[GroundTruth, np.ndarray, list[int]] | None = None

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Keep the detections of a batch: image id, boxes in original pixels, scores, labels."""
        for sample in data_samples:
            found = sample["pred_instances"]
            self.results.append(
                (
                    sample["img_id"],
                    found["bboxes"].cpu().numpy().astype(np.float64),  # (Q, 4) xyxy
                    found["scores"].cpu().numpy().astype(np.float64),
                    found["labels"].cpu().numpy(),
                    encode_masks(found["masks"]) if self.with_masks else [],
                )
            )

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Score all images at once."""
        truth, detections_Q7, masks_Q, images = self.scored(results)
        scores = average_precision(truth, detections_Q7, images)
        if self.with_masks:
            scores |= mask_average_precision(truth, detections_Q7, masks_Q, images)
        return scores

    def scored(self, results: list) -> tuple[GroundTruth, np.ndarray, list[dict], list[int]]:
        """The annotations, all detections as `average_precision` takes them, masks, images."""
        truth = read_ground_truth(
            self.ann_file, self.dataset_meta["classes"], self.leave_out_untrainable
        )
        print_log(f"{self.ann_file}: {truth.summary()}", logger="current")
        images = truth.numbers(image_id for image_id, *_ in results)
        rows, masks = [np.zeros((0, 7))], []
        for image, (image_id, boxes_xyxy, scores, labels, found_masks) in zip(
            images, results, strict=True
        ):
            if not (np.isfinite(boxes_xyxy).all() and np.isfinite(scores).all()):
                raise ValueError(
                    f"a detection of image {image_id} is NaN or infinite; the model diverged, so "
                    "score an earlier checkpoint"
                )
            xywh = np.concatenate([boxes_xyxy[:, :2], boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]], 1)
            numbers = np.full((len(scores), 1), image, dtype=np.float64)
            rows.append(
                np.concatenate([numbers, xywh, scores[:, None], labels[:, None] + 1], axis=1)
            )
            masks += found_masks
        self._scored = truth, np.concatenate(rows), images
        return truth, self._scored[1], masks, images

    def evidence(self) -> DetectionEvidence:
        """Every detection of the last evaluation with its matches.

        Matching is done again, by pycocotools: faster-coco-eval does not hand its matches out.

        Raises:
            RuntimeError: If nothing was evaluated in this process.
        """
        if self._scored is None:
            raise RuntimeError("CocoAP has evaluated nothing yet")
        return match_detections(*self._scored)


def encode_masks(masks_QHW: Any) -> list[dict]:
    """Run-length encoding of each mask, as COCO files have it."""
    masks = masks_QHW.cpu().numpy() if hasattr(masks_QHW, "cpu") else np.asarray(masks_QHW)
    encoded = []
    for mask in masks:
        rle = mask_coding.encode(np.asfortranarray(mask, dtype=np.uint8))
        encoded.append({"size": rle["size"], "counts": rle["counts"].decode()})
    return encoded


def match_detections(
    truth: GroundTruth, detections_Q7: np.ndarray, images: Sequence[int]
) -> DetectionEvidence:
    """Evidence for box AP, under the ids of the file; arguments as in `average_precision`."""
    coco = truth.coco(PythonCOCO)
    with contextlib.redirect_stdout(io.StringIO()):
        found = coco.loadRes(detections_Q7) if len(detections_Q7) else no_detections(coco)
        evaluation = COCOeval(coco, found, "bbox")
        evaluation.params.imgIds = list(images)
        evaluation.evaluate()
    return detection_evidence_from_eval_imgs(
        evaluation.evalImgs,
        evaluation.params,
        dict(enumerate(truth.classes, start=1)),
        dict(enumerate(truth.image_ids, start=1)),
    )
