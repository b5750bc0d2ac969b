"""LVIS average precision: classes of three frequencies, images not searched for every class.

Shape legend: Q detections of all images.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping, Sequence

import numpy as np
from faster_coco_eval import COCO, COCOeval_faster
from mmengine.registry import METRICS
from pycocotools.coco import COCO as PythonCOCO  # noqa: N811
from pycocotools.cocoeval import COCOeval

from pe_dense.detection.coco_metric import CocoAP, no_detections
from pe_dense.detection.ground_truth import GroundTruth
from pe_dense.results.detection_evidence import (
    DetectionEvidence,
    detection_evidence_from_eval_imgs,
)

MAX_DETS = 300
FREQUENCIES = {"r": "APr", "c": "APc", "f": "APf"}


def best_of_each_image(detections_Q7: np.ndarray, limit: int = MAX_DETS) -> np.ndarray:
    """Indices of the detections that count: the best `limit` of each image, over all classes."""
    order = np.lexsort((-detections_Q7[:, 5], detections_Q7[:, 0]))
    images = detections_Q7[order, 0]
    starts = np.searchsorted(images, images, side="left")
    return np.sort(order[np.arange(len(order)) - starts < limit])


def counted_detections(dataset: Mapping, detections_Q7: np.ndarray) -> np.ndarray:
    """Indices of those that LVIS scores: the best of each image, then of classes searched there.

    The file's 'neg_category_ids' and objects say what an image was searched for.
    """
    best = best_of_each_image(detections_Q7)
    factor = 1 + max((category["id"] for category in dataset["categories"]), default=0)
    searched = {
        image["id"] * factor + category
        for image in dataset["images"]
        for category in image["neg_category_ids"]
    }
    searched |= {a["image_id"] * factor + a["category_id"] for a in dataset["annotations"]}
    pairs = detections_Q7[best][:, [0, 6]].astype(np.int64) @ np.array([factor, 1])
    return best[np.isin(pairs, np.fromiter(searched, np.int64, len(searched)))]


def lvis_average_precision(
    truth: GroundTruth,
    detections_Q7: np.ndarray,
    images: Sequence[int],
    masks_Q: Sequence[dict] | None = None,
) -> dict[str, float]:
    """Box or mask AP of LVIS, in 0..1, as lvis-api gives it.

    An image is searched for the classes of its objects and of its 'neg_category_ids'; detections of
    others are left out. In classes of 'not_exhaustive_category_ids' a detection without a match is
    no mistake. 300 detections an image count.

    Args:
        truth: With those lists, and 'frequency' (r, c, f) of every category.
        detections_Q7: (Q, 7) float64: number of the image, x, y, w, h, score, number of the class.
        images: Numbers of the images that count.
        masks_Q: Run-length encoded masks; None scores boxes.

    Returns:
        AP, AP50, AP75, APs, APm, APl, and APr, APc, APf of rare, common and frequent classes;
        those without ground truth left out.

    Source: LVIS, arXiv:1908.03195; lvis-dataset/lvis-api.
    """
    rows = []
    for i in counted_detections(truth.dataset, detections_Q7):
        row = {
            "image_id": int(detections_Q7[i, 0]),
            "category_id": int(detections_Q7[i, 6]),
            "score": float(detections_Q7[i, 5]),
        }
        if masks_Q is None:
            row["bbox"] = detections_Q7[i, 1:5].tolist()
        else:
            row["segmentation"] = masks_Q[i]
        rows.append(row)
    coco = truth.coco(COCO)
    with contextlib.redirect_stdout(io.StringIO()):
        found = coco.loadRes(rows) if rows else no_detections(coco)
        kind = "bbox" if masks_Q is None else "segm"
        evaluation = COCOeval_faster(coco, found, iouType=kind, lvis_style=True)
        evaluation.params.imgIds = list(images)
        evaluation.params.maxDets = [MAX_DETS]
        evaluation.evaluate()
        evaluation.accumulate()
    precision_TRKA = evaluation.eval["precision"][..., -1]
    group_K = np.array([category["frequency"] for category in truth.dataset["categories"]])
    scores = {"AP": _mean(precision_TRKA[:, :, :, 0])}
    scores |= {"AP50": _mean(precision_TRKA[0, :, :, 0]), "AP75": _mean(precision_TRKA[5, :, :, 0])}
    for a, name in enumerate(("APs", "APm", "APl"), start=1):
        scores[name] = _mean(precision_TRKA[:, :, :, a])
    for frequency, name in FREQUENCIES.items():
        scores[name] = _mean(precision_TRKA[:, :, group_K == frequency, 0])
    return {name: value for name, value in scores.items() if value is not None}


def _mean(values: np.ndarray) -> float | None:
    defined = values[values > -1]
    return float(defined.mean()) if defined.size else None


@METRICS.register_module()
class LvisAP(CocoAP):
    """Box AP on LVIS v1, and mask AP where asked for.

    Args:
        ann_file: LVIS JSON of the evaluated split.
        with_masks: Score `pred_instances.masks` as well, as mask_AP ...
        leave_out_untrainable, collect_device, prefix: As in `CocoAP`.

    Raises:
        ValueError: If the file lacks what LVIS files have beside COCO's.
    """

    default_prefix = "lvis"

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Score all images at once."""
        truth, detections_Q7, masks_Q, images = self.scored(results)
        require_lvis(truth.dataset, self.ann_file)
        scores = lvis_average_precision(truth, detections_Q7, images)
        if self.with_masks:
            masks = lvis_average_precision(truth, detections_Q7, images, masks_Q)
            scores |= {f"mask_{name}": value for name, value in masks.items()}
        return scores

    def evidence(self) -> DetectionEvidence:
        """Every box detection of the last evaluation with its matches under LVIS's rules."""
        if self._scored is None:
            raise RuntimeError("LvisAP has evaluated nothing yet")
        return match_lvis_detections(*self._scored)


def require_lvis(dataset: Mapping, ann_file: str) -> None:
    """Refuse a file without LVIS's lists.

    Raises:
        ValueError: If images or categories lack them.
    """
    for part, key in (
        ("images", "neg_category_ids"),
        ("images", "not_exhaustive_category_ids"),
        ("categories", "frequency"),
    ):
        if any(key not in item for item in dataset[part]):
            raise ValueError(
                f"{ann_file} is not LVIS: {part} have no {key!r}; use lvis_v1_val.json, or the "
                "metric CocoAP"
            )


def match_lvis_detections(
    truth: GroundTruth, detections_Q7: np.ndarray, images: Sequence[int]
) -> DetectionEvidence:
    """Evidence for LVIS box AP: pycocotools' matches under LVIS's rules."""
    coco = truth.coco(PythonCOCO)
    kept = detections_Q7[counted_detections(truth.dataset, detections_Q7)]
    with contextlib.redirect_stdout(io.StringIO()):
        found = coco.loadRes(kept) if len(kept) else no_detections(coco)
        evaluation = COCOeval(coco, found, "bbox")
        evaluation.params.imgIds = list(images)
        evaluation.params.maxDets = [MAX_DETS]
        evaluation.evaluate()
    partly = {
        image["id"]: set(image["not_exhaustive_category_ids"]) for image in truth.dataset["images"]
    }
    for entry in evaluation.evalImgs:
        if entry is not None and entry["category_id"] in partly[entry["image_id"]]:
            unmatched = np.asarray(entry["dtMatches"]) == 0
            entry["dtIgnore"] = np.asarray(entry["dtIgnore"]).astype(bool) | unmatched
    return detection_evidence_from_eval_imgs(
        evaluation.evalImgs,
        evaluation.params,
        dict(enumerate(truth.classes, start=1)),
        dict(enumerate(truth.image_ids, start=1)),
    )
