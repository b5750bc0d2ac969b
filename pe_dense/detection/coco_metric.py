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
from mmengine.registry import METRICS
from pycocotools import mask as mask_coding
from pycocotools.coco import COCO as PythonCOCO  # noqa: N811
from pycocotools.cocoeval import COCOeval

from pe_dense.results.detection_evidence import (
    DetectionEvidence,
    detection_evidence_from_eval_imgs,
)

# Position of the usual summary numbers in COCOeval.stats.
STATS = {"AP": 0, "AP50": 1, "AP75": 2, "APs": 3, "APm": 4, "APl": 5, "AR100": 8}


def average_precision(
    coco: COCO, detections_Q7: np.ndarray, image_ids: Sequence[int]
) -> dict[str, float]:
    """Box AP of COCO, in 0..1, as pycocotools gives it.

    Args:
        coco: Ground truth.
        detections_Q7: (Q, 7) float64: image id, x, y, w, h, score, category id.
        image_ids: Images that count.

    Returns:
        AP (0.50:0.95), AP50, AP75, APs, APm, APl, AR100 and 'AP/<class>' for every class. A
        class or size without ground truth is left out: it has no AP.
    """
    with contextlib.redirect_stdout(io.StringIO()):
        found = coco.loadRes(detections_Q7) if len(detections_Q7) else _no_detections(coco)
        evaluation = COCOeval_faster(coco, found, iouType="bbox")
        evaluation.params.imgIds = list(image_ids)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    scores = {name: float(evaluation.stats[place]) for name, place in STATS.items()}
    precision_TRKAM = evaluation.eval["precision"]
    for k, category in enumerate(evaluation.params.catIds):
        values = precision_TRKAM[:, :, k, 0, -1]
        values = values[values > -1]
        if values.size:
            scores[f"AP/{coco.cats[category]['name']}"] = float(values.mean())
    return {name: value for name, value in scores.items() if value >= 0.0}


def _no_detections(coco: COCO | PythonCOCO) -> COCO | PythonCOCO:
    empty = type(coco)()
    empty.dataset = {**coco.dataset, "annotations": []}
    empty.createIndex()
    return empty


def mask_average_precision(
    coco: COCO, detections_Q7: np.ndarray, masks_Q: Sequence[dict], image_ids: Sequence[int]
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
    with contextlib.redirect_stdout(io.StringIO()):
        found = coco.loadRes(rows) if rows else _no_detections(coco)
        evaluation = COCOeval_faster(coco, found, iouType="segm")
        evaluation.params.imgIds = list(image_ids)
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
        collect_device: Where results of several processes meet, 'cpu' or 'gpu'.
        prefix: Name in front of every metric.
    """

    default_prefix = "coco"

    def __init__(
        self,
        ann_file: str,
        with_masks: bool = False,
        collect_device: str = "cpu",
        prefix: str | None = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        self.ann_file, self.with_masks = ann_file, with_masks
        self._scored: tuple[np.ndarray, list[int]] | None = None

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
        with contextlib.redirect_stdout(io.StringIO()):
            coco = COCO(self.ann_file)
        detections_Q7, masks_Q = self.detections(coco, results)
        self._scored = detections_Q7, [image_id for image_id, *_ in results]
        scores = average_precision(coco, *self._scored)
        if self.with_masks:
            scores |= mask_average_precision(coco, detections_Q7, masks_Q, self._scored[1])
        return scores

    def detections(self, coco: COCO, results: list) -> tuple[np.ndarray, list[dict]]:
        """All detections as `average_precision` takes them, (Q, 7), and their masks."""
        classes = list(self.dataset_meta["classes"])
        found_names = {category["name"] for category in coco.cats.values()}
        absent = [name for name in classes if name not in found_names]
        if absent:  # labels would shift
            raise ValueError(
                f"{self.ann_file} has no class {absent[0]!r} ({len(absent)} of {len(classes)} are "
                "missing); score on a file with the classes that the data set names"
            )
        category_ids = np.array(coco.getCatIds(catNms=classes))
        rows, masks = [np.zeros((0, 7))], []
        for image_id, boxes_xyxy, scores, labels, found_masks in results:
            xywh = np.concatenate([boxes_xyxy[:, :2], boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]], 1)
            ids = np.full((len(scores), 1), image_id, dtype=np.float64)
            rows.append(
                np.concatenate([ids, xywh, scores[:, None], category_ids[labels][:, None]], axis=1)
            )
            masks += found_masks
        return np.concatenate(rows), masks

    def evidence(self) -> DetectionEvidence:
        """Every detection of the last evaluation with its matches.

        Matching is done again, by pycocotools: faster-coco-eval does not hand its matches out.

        Raises:
            RuntimeError: If nothing was evaluated in this process.
        """
        if self._scored is None:
            raise RuntimeError("CocoAP has evaluated nothing yet")
        return match_detections(self.ann_file, *self._scored)


def encode_masks(masks_QHW: Any) -> list[dict]:
    """Run-length encoding of each mask, as COCO files have it."""
    masks = masks_QHW.cpu().numpy() if hasattr(masks_QHW, "cpu") else np.asarray(masks_QHW)
    encoded = []
    for mask in masks:
        rle = mask_coding.encode(np.asfortranarray(mask, dtype=np.uint8))
        encoded.append({"size": rle["size"], "counts": rle["counts"].decode()})
    return encoded


def match_detections(
    ann_file: str, detections_Q7: np.ndarray, image_ids: Sequence[int]
) -> DetectionEvidence:
    """Evidence for box AP; arguments as in `average_precision`, with the ground truth's file."""
    with contextlib.redirect_stdout(io.StringIO()):
        coco = PythonCOCO(ann_file)
        coco.dataset.setdefault("info", {})  # loadRes copies it
        for annotation in coco.dataset["annotations"]:
            annotation.setdefault("iscrowd", 0)  # many exporters leave it out
        found = coco.loadRes(detections_Q7) if len(detections_Q7) else _no_detections(coco)
        evaluation = COCOeval(coco, found, "bbox")
        evaluation.params.imgIds = list(image_ids)
        evaluation.evaluate()
    names = {category: content["name"] for category, content in coco.cats.items()}
    return detection_evidence_from_eval_imgs(evaluation.evalImgs, evaluation.params, names)
