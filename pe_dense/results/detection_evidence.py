"""Evidence behind COCO average precision: every detection with its matches, and object counts.

Matching is done once by pycocotools; what it found is kept as bits, so that AP of any weighting
of the images follows without matching again. Shape legend: N images, K classes, D detections,
A = 4 ranges of object size (all, small, medium, large), T = 10 IoU thresholds, G pairs of image
and class with objects, R weightings.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from pe_dense.results.average_precision import (
    AREAS,
    IOU_THRESHOLDS,
    average_precision,
    needed_rows,
)
from pe_dense.results.item_evidence import (
    ItemEvidence,
    freeze,
    mean_of_defined,
    store_counts,
    store_names,
)

# Metric -> (range of object size, IoU threshold or None for the mean over all).
_MEANS = {
    "AP": ("all", None),
    "AP50": ("all", 0),
    "AP75": ("all", 5),
    "APs": ("small", None),
    "APm": ("medium", None),
    "APl": ("large", None),
}
# Sums of one class in int32 that fit a core's cache; larger chunks are not faster.
_CHUNK_CELLS = 2**20


@dataclass(frozen=True, eq=False, kw_only=True)
class DetectionEvidence(ItemEvidence):
    """Detections with their matches, and the number of objects, by image and class.

    Metrics: AP (mean over IoU 0.50:0.95), AP50, AP75, APs, APm, APl, AR<max_dets> and
    'AP/<class>'; AP over classes skips those without objects. All are those of pycocotools on the
    data set in which every image is repeated as often as its weight says; only if one image has
    several detections of a class with the very same score does the order of their copies differ
    (copies of a detection stay together here).

    Attributes:
        image_ids: N unique names.
        classes: K unique names.
        image_D: int64, image of each detection, 0 to N-1.
        class_D: int64, its class, 0 to K-1; ascending.
        score_D: float64, its score; descending within a class, and equal scores in the order of
            images, which is how pycocotools breaks ties.
        matched_DAT: bool, matched to an object.
        ignored_DAT: bool, counts neither as right nor as wrong: matched to an ignored object, or
            not matched and of another size.
        gt_image_G, gt_class_G: int64, image and class of the entries of `gt_count_GA`; one entry
            for each pair that has any object.
        gt_count_GA: int64, objects in each range of size, ignored ones not counted.
        max_dets: Detections kept for each image and class, 100 for COCO, 300 for LVIS.

    Raises:
        ValueError: If names repeat, shapes or order are wrong, or more matches than objects or
            more detections than `max_dets` are in one image.

    Source:
        Definition of pycocotools 2.0.11 `COCOeval`.
    """

    kind: ClassVar[str] = "detection"
    item: ClassVar[str] = "image"
    bits_shape: ClassVar[tuple[int, int]] = (len(AREAS), len(IOU_THRESHOLDS))
    image_ids: tuple[str, ...]
    classes: tuple[str, ...]
    image_D: np.ndarray
    class_D: np.ndarray
    score_D: np.ndarray
    matched_DAT: np.ndarray
    ignored_DAT: np.ndarray
    gt_image_G: np.ndarray
    gt_class_G: np.ndarray
    gt_count_GA: np.ndarray
    max_dets: int = 100

    def __post_init__(self) -> None:
        """Checks and freezes the fields."""
        store_names(self, "image_ids")
        store_names(self, "classes")
        num, pairs = np.size(self.image_D), np.size(self.gt_image_G)
        for name, length in (("image_D", num), ("class_D", num)):
            store_counts(self, name, (length,))
        for name in ("gt_image_G", "gt_class_G"):
            store_counts(self, name, (pairs,))
        store_counts(self, "gt_count_GA", (pairs, len(AREAS)))
        for name, limit in (("image", len(self.image_ids)), ("class", len(self.classes))):
            for field in (f"{name}_D", f"gt_{name}_G"):
                _require((getattr(self, field) < limit).all(), field, f"names a {name} not there")
        for name in ("matched_DAT", "ignored_DAT"):
            bits = np.asarray(getattr(self, name))
            shape = (num, *self.bits_shape)
            _require(bits.dtype == bool and bits.shape == shape, name, f"is not bool of {shape}")
            freeze(self, name, bits.copy())
        given = np.asarray(self.score_D)
        _require(given.dtype.kind in "iuf", "score_D", f"is of type {given.dtype}")
        score_D = given.astype(np.float64)
        _require(score_D.shape == (num,), "score_D", f"is not of shape {(num,)}")
        _require(np.isfinite(score_D).all(), "score_D", "is not finite")
        freeze(self, "score_D", score_D)
        _require(isinstance(self.max_dets, int) and self.max_dets > 0, "max_dets", "is not 1 up")
        self._check_order()
        self._check_counts()

    def _check_order(self) -> None:
        step_class, step_score = np.diff(self.class_D), np.diff(self.score_D)
        same = step_class == 0
        _require((step_class >= 0).all(), "class_D", "is not ascending")
        _require((step_score[same] <= 0).all(), "score_D", "rises within a class")
        tied = same & (step_score == 0)
        _require((np.diff(self.image_D)[tied] >= 0).all(), "image_D", "falls in equal scores")

    def _check_counts(self) -> None:
        cells = len(self.image_ids) * len(self.classes)
        cell_D = self.class_D * len(self.image_ids) + self.image_D
        cell_G = self.gt_class_G * len(self.image_ids) + self.gt_image_G
        _require(len(np.unique(cell_G)) == len(cell_G), "gt_image_G", "repeats a pair with class")
        most = np.bincount(cell_D, minlength=1).max()
        _require(most <= self.max_dets, "image_D", f"has {most} rows of one image and class")
        right_DAT = self.matched_DAT & ~self.ignored_DAT
        for a in range(len(AREAS)):
            objects = np.bincount(cell_G, self.gt_count_GA[:, a], cells)
            for t in range(len(IOU_THRESHOLDS)):
                found = np.bincount(cell_D[right_DAT[:, a, t]], minlength=cells)
                _require((found <= objects).all(), "matched_DAT", "has more matches than objects")

    @property
    def item_ids(self) -> tuple[str, ...]:
        """Names of the images."""
        return self.image_ids

    @property
    def metric_names(self) -> tuple[str, ...]:
        """AP, AP50, AP75, APs, APm, APl, AR and AP of each class."""
        return (*_MEANS, self._recall_name, *(f"AP/{name}" for name in self.classes))

    @property
    def unit_labels(self) -> dict[str, tuple[str, ...]]:
        """Images only."""
        return {"image": self.image_ids}

    @property
    def unit(self) -> str:
        """Images are drawn on their own."""
        return "image"

    @property
    def _recall_name(self) -> str:
        return f"AR{self.max_dets}"

    def _metrics(self, weights_RN: np.ndarray, names: Sequence[str]) -> dict[str, np.ndarray]:
        areas = {_MEANS[name][0] if name in _MEANS else "all" for name in names}
        scores = {}
        for area in sorted(areas):
            ap_RKT, recall_RKT = self._by_class(weights_RN, AREAS.index(area))
            for name, (which, t) in _MEANS.items():
                if which == area:
                    values = ap_RKT if t is None else ap_RKT[:, :, t]
                    scores[name] = mean_of_defined(values)
            if area == "all":
                scores[self._recall_name] = mean_of_defined(recall_RKT)
                for k, name in enumerate(self.classes):
                    scores[f"AP/{name}"] = mean_of_defined(ap_RKT[:, k])
        return scores

    def _by_class(self, weights_RN: np.ndarray, area: int) -> tuple[np.ndarray, np.ndarray]:
        """AP and recall, each (R, K, T)."""
        num, classes = len(weights_RN), len(self.classes)
        bounds_K1 = np.searchsorted(self.class_D, np.arange(classes + 1))
        ap_RKT = np.empty((num, classes, len(IOU_THRESHOLDS)))
        recall_RKT = np.empty_like(ap_RKT)
        # The smallest type that holds them: gathering weights is most of the traffic in memory.
        most = int(weights_RN.max()) if weights_RN.size else 0
        weights_RN = np.ascontiguousarray(weights_RN, dtype=np.min_scalar_type(most))

        def score_class(k: int) -> None:
            rows = slice(bounds_K1[k], bounds_K1[k + 1])
            needed = needed_rows(self.matched_DAT[rows, area], self.ignored_DAT[rows, area])
            needed += rows.start
            matched_DT = self.matched_DAT[needed, area]
            ignored_DT = self.ignored_DAT[needed, area]
            image_D = self.image_D[needed]
            mine_G = self.gt_class_G == k
            gt_image_G, gt_count_G = self.gt_image_G[mine_G], self.gt_count_GA[mine_G, area]
            chunk = max(16, _CHUNK_CELLS // max(len(needed), 1))
            for start in range(0, num, chunk):
                part = slice(start, start + chunk)
                part_RN = weights_RN[part]
                num_gt_R = part_RN[:, gt_image_G].astype(np.int64) @ gt_count_G
                weights_RD = part_RN.take(image_D, axis=1)
                ap_TR, recall_TR = average_precision(matched_DT, ignored_DT, weights_RD, num_gt_R)
                ap_RKT[part, k], recall_RKT[part, k] = ap_TR.T, recall_TR.T

        # numpy gives up the interpreter lock in its loops, so that threads run side by side.
        with ThreadPoolExecutor(max_workers=_available_cores() if num > 1 else 1) as pool:
            for _ in pool.map(score_class, range(classes)):
                pass
        return ap_RKT, recall_RKT


def detection_evidence_from_eval_imgs(
    eval_imgs: Sequence[Mapping[str, Any] | None],
    params: Any,
    class_names: Mapping[int, str],
    image_names: Mapping[int, Any] | None = None,
    max_dets: int | None = None,
) -> DetectionEvidence:
    """Evidence from what `pycocotools.cocoeval.COCOeval.evaluate()` leaves in `evalImgs`.

    Args:
        eval_imgs: `COCOeval.evalImgs`: class x area x image, None where nothing is.
        params: `COCOeval.params` after `evaluate()`: imgIds, catIds, areaRng, areaRngLbl,
            iouThrs, maxDets, useCats.
        class_names: Category id -> name, for all ids in `params.catIds`.
        image_names: Image id -> what the evidence calls it; default: the id.
        max_dets: Detections kept for each image and class; default: the last of `maxDets`.

    Returns:
        Evidence with the images in the order of `params.imgIds`, their names as text.

    Raises:
        ValueError: If thresholds or areas are not COCO's, classes are pooled, an annotation has
            the id 0, which reads as 'not matched', or the list is not complete, as with
            faster_coco_eval, which keeps its matches in C++.
    """
    num, num_classes, num_areas = len(params.imgIds), len(params.catIds), len(AREAS)
    labels = tuple(params.areaRngLbl)
    if labels != AREAS or len(params.areaRng) != num_areas or not params.useCats:
        raise ValueError(
            f"params have the areas {labels} and useCats {params.useCats}; evaluate with the areas "
            f"{AREAS} and each class on its own"
        )
    if np.shape(params.iouThrs) != IOU_THRESHOLDS.shape or not np.allclose(
        params.iouThrs, IOU_THRESHOLDS, atol=1e-9
    ):
        raise ValueError("params have other IoU thresholds; evaluate with 0.50, 0.55 ... 0.95")
    if len(eval_imgs) != num_classes * num_areas * num:
        raise ValueError(
            f"eval_imgs has {len(eval_imgs)} entries, not {num_classes * num_areas * num}; run "
            "evaluate() of pycocotools, since faster_coco_eval does not hand out its matches"
        )
    keep = params.maxDets[-1] if max_dets is None else max_dets
    rows: list[_Rows] = []
    objects: list[tuple[int, int, list[int]]] = []
    for k in range(num_classes):
        found = []
        for n in range(num):
            entries = [eval_imgs[(k * num_areas + a) * num + n] for a in range(num_areas)]
            if entries[0] is None:
                continue
            if 0 in entries[0]["gtIds"]:
                raise ValueError(
                    f"an annotation of image {params.imgIds[n]} has the id 0, which evaluators of "
                    "COCO take for 'not matched'; number annotations from 1"
                )
            counts = [int(np.count_nonzero(np.asarray(e["gtIgnore"]) == 0)) for e in entries]
            if any(counts):
                objects.append((n, k, counts))
            if len(entries[0]["dtScores"]):
                found.append(_image_rows(entries, n, keep))
        if found:
            rows.append(_sorted_rows(_joined(found), k))
    image_D, class_D, score_D, matched_DAT, ignored_DAT = _joined(rows or [_no_rows()])
    return DetectionEvidence(
        image_ids=tuple(str((image_names or {}).get(i, i)) for i in params.imgIds),
        classes=tuple(class_names[category] for category in params.catIds),
        image_D=image_D,
        class_D=class_D,
        score_D=score_D,
        matched_DAT=matched_DAT,
        ignored_DAT=ignored_DAT,
        gt_image_G=np.array([n for n, _, _ in objects], np.int64),
        gt_class_G=np.array([k for _, k, _ in objects], np.int64),
        gt_count_GA=np.array([c for *_, c in objects], np.int64).reshape(-1, num_areas),
        max_dets=int(keep),
    )


# image, class, score, matched, ignored of some detections
_Rows = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def _image_rows(entries: Sequence[Mapping[str, Any]], image: int, keep: int) -> _Rows:
    score_D = np.asarray(entries[0]["dtScores"], np.float64)[:keep]
    matched = [np.asarray(entry["dtMatches"])[:, :keep].T != 0 for entry in entries]
    ignored = [np.asarray(entry["dtIgnore"])[:, :keep].T != 0 for entry in entries]
    image_D = np.full(len(score_D), image, np.int64)
    return image_D, image_D, score_D, np.stack(matched, axis=1), np.stack(ignored, axis=1)


def _sorted_rows(rows: _Rows, category: int) -> _Rows:
    image_D, _, score_D, matched_DAT, ignored_DAT = rows
    order = np.argsort(-score_D, kind="stable")
    class_D = np.full(len(order), category, np.int64)
    return image_D[order], class_D, score_D[order], matched_DAT[order], ignored_DAT[order]


def _joined(parts: Sequence[_Rows]) -> _Rows:
    image_D, class_D, score_D, matched_DAT, ignored_DAT = zip(*parts, strict=True)
    return (
        np.concatenate(image_D),
        np.concatenate(class_D),
        np.concatenate(score_D),
        np.concatenate(matched_DAT),
        np.concatenate(ignored_DAT),
    )


def _no_rows() -> _Rows:
    nothing = np.zeros(0, np.int64)
    bits = np.zeros((0, len(AREAS), len(IOU_THRESHOLDS)), bool)
    return nothing, nothing, np.zeros(0), bits, bits


def _available_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _require(condition: bool, field: str, what: str) -> None:
    if not condition:
        raise ValueError(f"field '{field}' {what}; build it with detection_evidence_from_eval_imgs")
