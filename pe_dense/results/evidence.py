"""Per-item evidence behind a score: what each image, object or sequence adds to it.

A score without its parts cannot be given an interval, and two scores cannot be compared on the
same items. Evidence keeps the parts (areas, counts, per-item values), so that the score is
computed again for any weighting of the items. A weight is a multiplicity: 2 counts an item as if
the data set held it twice, 0 leaves it out. Scores are fractions, unless the metric has its own
unit; an undefined score is nan. Detections are in `detection_evidence`, files in `evidence_file`.

Shape legend: N items (images, objects or sequences), K classes, M metrics, A = 19 localisation
thresholds of HOTA, R weightings.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from pe_dense.results.item_evidence import (
    MAX_TOTAL,
    ItemEvidence,
    mean_of_defined,
    ratio,
    refuse_repeated,
    store_counts,
    store_names,
    store_values,
    weighted_mean,
)

NUM_ALPHAS = 19  # HOTA: 0.05, 0.10, ... 0.95


@dataclass(frozen=True, eq=False, kw_only=True)
class SegmentationEvidence(ItemEvidence):
    """Pixel areas by image and class, pixels without annotation left out.

    Metrics: mIoU, aAcc, mAcc and 'IoU/<class>'. Areas are summed over images first; the IoU of a
    class is I / (P + T - I), its accuracy I / T; the means skip classes that are undefined: absent
    in both for mIoU, not annotated for mAcc. A class predicted but never annotated has IoU 0.

    Attributes:
        image_ids: N unique names.
        classes: K unique names.
        intersection_NK: int64 pixels, predicted and annotated as the class (I).
        prediction_NK: int64 pixels predicted as the class (P).
        target_NK: int64 pixels annotated as the class (T).

    Raises:
        ValueError: If names repeat, shapes differ, or an intersection is larger than its parts.

    Source:
        The definition of mmseg's IoUMetric (onedl-mmsegmentation 1.4.2), unrounded, in integers.

    Example:
        >>> evidence = SegmentationEvidence(
        ...     image_ids=("a", "b"), classes=("sky", "sea"),
        ...     intersection_NK=[[4, 0], [2, 1]], prediction_NK=[[4, 0], [3, 1]],
        ...     target_NK=[[4, 0], [2, 2]],
        ... )
        >>> {name: round(value, 4) for name, value in evidence.metrics().items()}
        {'mIoU': 0.6786, 'aAcc': 0.875, 'mAcc': 0.75, 'IoU/sky': 0.8571, 'IoU/sea': 0.5}
    """

    kind: ClassVar[str] = "segmentation"
    item: ClassVar[str] = "image"
    image_ids: tuple[str, ...]
    classes: tuple[str, ...]
    intersection_NK: np.ndarray
    prediction_NK: np.ndarray
    target_NK: np.ndarray

    def __post_init__(self) -> None:
        """Checks and freezes the fields."""
        store_names(self, "image_ids")
        store_names(self, "classes")
        shape = len(self.image_ids), len(self.classes)
        for name in ("intersection_NK", "prediction_NK", "target_NK"):
            store_counts(self, name, shape)
        for name in ("prediction_NK", "target_NK"):
            if (self.intersection_NK > getattr(self, name)).any():
                raise ValueError(
                    f"field 'intersection_NK' is larger than '{name}' somewhere; "
                    "pass areas of the same image and class"
                )

    @property
    def item_ids(self) -> tuple[str, ...]:
        """Names of the images."""
        return self.image_ids

    @property
    def metric_names(self) -> tuple[str, ...]:
        """The mIoU, aAcc, mAcc and the IoU of each class."""
        return ("mIoU", "aAcc", "mAcc", *(f"IoU/{name}" for name in self.classes))

    @property
    def unit_labels(self) -> dict[str, tuple[str, ...]]:
        """Images only."""
        return {"image": self.image_ids}

    @property
    def unit(self) -> str:
        """Images are drawn on their own."""
        return "image"

    def _metrics(self, weights_RN: np.ndarray, names: Sequence[str]) -> dict[str, np.ndarray]:
        # Sums of integers below 2^53 are exact in float64, in whatever order BLAS adds them.
        weights_RN = weights_RN.astype(np.float64)
        right_RK = weights_RN @ self.intersection_NK.astype(np.float64)
        both_RK = weights_RN @ (self.prediction_NK + self.target_NK).astype(np.float64)
        iou_RK = ratio(right_RK, both_RK - right_RK)
        scores = {"mIoU": mean_of_defined(iou_RK)}
        if "aAcc" in names or "mAcc" in names:
            target_RK = weights_RN @ self.target_NK.astype(np.float64)
            scores["aAcc"] = ratio(right_RK.sum(axis=1), target_RK.sum(axis=1))
            scores["mAcc"] = mean_of_defined(ratio(right_RK, target_RK))
        return scores | {f"IoU/{name}": iou_RK[:, k] for k, name in enumerate(self.classes)}


@dataclass(frozen=True, eq=False, kw_only=True)
class DepthEvidence(ItemEvidence):
    """Values of per-image metrics; each score is the mean over the images that have it.

    Attributes:
        image_ids: N unique names.
        metric_names: M unique names, such as 'rmse', 'abs_rel', 'delta1'; the main one first.
        values_NM: float64 in the unit of the metric; nan: the metric does not score this image.
        sequence_ids: Scene or drive of each image, or None. Frames of one drive look alike, so
            whole sequences are resampled where this says that images share one.

    Raises:
        ValueError: If names repeat, shapes differ, or a value is infinite.
    """

    kind: ClassVar[str] = "depth"
    item: ClassVar[str] = "image"
    image_ids: tuple[str, ...]
    metric_names: tuple[str, ...]
    values_NM: np.ndarray
    sequence_ids: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        """Checks and freezes the fields."""
        store_names(self, "image_ids")
        store_names(self, "metric_names")
        store_values(self, "values_NM", (len(self.image_ids), len(self.metric_names)))
        if self.sequence_ids is not None:
            store_names(self, "sequence_ids", unique=False, length=len(self.image_ids))

    @property
    def item_ids(self) -> tuple[str, ...]:
        """Names of the images."""
        return self.image_ids

    @property
    def unit_labels(self) -> dict[str, tuple[str, ...]]:
        """Images, and sequences where they are known."""
        labels = {"image": self.image_ids}
        return labels if self.sequence_ids is None else labels | {"sequence": self.sequence_ids}

    @property
    def unit(self) -> str:
        """Sequences where some image shares one, else images."""
        shared = self.sequence_ids is not None and len(set(self.sequence_ids)) < self.num_items
        return "sequence" if shared else "image"

    def _metrics(self, weights_RN: np.ndarray, names: Sequence[str]) -> dict[str, np.ndarray]:
        scored_NM = ~np.isnan(self.values_NM)
        means_RM = weighted_mean(weights_RN, np.where(scored_NM, self.values_NM, 0.0), scored_NM)
        return {name: means_RM[:, m] for m, name in enumerate(self.metric_names)}


@dataclass(frozen=True, eq=False, kw_only=True)
class VideoObjectEvidence(ItemEvidence):
    """Region similarity J and contour accuracy F of tracked objects, means over their frames.

    Metrics: J&F, J, F and, where given, J_recall, J_decay, F_recall, F_decay. Each is the mean
    over objects, not over videos, as the DAVIS 2017 tool does; J&F is the mean of J and F.
    Objects of one video are resampled together.

    Attributes:
        video_ids: Video of each of the N objects.
        object_ids: Name of each object, unique within its video.
        j_N, f_N: float64 in 0..1.
        j_recall_N, f_recall_N: Share of frames above 0.5, 0..1, or None.
        j_decay_N, f_decay_N: Mean of the first quarter minus that of the last, -1..1, or None.

    Raises:
        ValueError: If lengths differ, an object appears twice, or a value is out of range.

    Source:
        arXiv:1704.00675; definitions of davis2017-evaluation ac7c43f.
    """

    kind: ClassVar[str] = "video_object"
    item: ClassVar[str] = "object"
    video_ids: tuple[str, ...]
    object_ids: tuple[str, ...]
    j_N: np.ndarray
    f_N: np.ndarray
    j_recall_N: np.ndarray | None = None
    f_recall_N: np.ndarray | None = None
    j_decay_N: np.ndarray | None = None
    f_decay_N: np.ndarray | None = None

    def __post_init__(self) -> None:
        """Checks and freezes the fields."""
        store_names(self, "video_ids", unique=False)
        store_names(self, "object_ids", unique=False, length=len(self.video_ids))
        refuse_repeated("video_ids/object_ids", self.item_ids)
        for name in ("j_N", "f_N", *_OPTIONAL_COLUMNS.values()):
            if name in _OPTIONAL_COLUMNS.values() and getattr(self, name) is None:
                continue
            low = -1.0 if "decay" in name else 0.0
            store_values(self, name, (len(self.video_ids),), between=(low, 1.0))

    @property
    def item_ids(self) -> tuple[str, ...]:
        """'video/object' of each object."""
        return tuple(f"{v}/{o}" for v, o in zip(self.video_ids, self.object_ids, strict=True))

    @property
    def metric_names(self) -> tuple[str, ...]:
        """J&F, J, F, and the optional columns that are there."""
        given = (m for m, name in _OPTIONAL_COLUMNS.items() if getattr(self, name) is not None)
        return ("J&F", "J", "F", *given)

    @property
    def unit_labels(self) -> dict[str, tuple[str, ...]]:
        """Videos and objects."""
        return {"video": self.video_ids, "object": self.item_ids}

    @property
    def unit(self) -> str:
        """Whole videos: their objects share background, motion and length."""
        return "video"

    def _metrics(self, weights_RN: np.ndarray, names: Sequence[str]) -> dict[str, np.ndarray]:
        columns = {"J": self.j_N, "F": self.f_N, "J&F": (self.j_N + self.f_N) / 2}
        columns |= {metric: getattr(self, name) for metric, name in _OPTIONAL_COLUMNS.items()}
        values_NM = np.stack([columns[name] for name in names], axis=1)
        means_RM = weighted_mean(weights_RN, values_NM, np.ones(values_NM.shape, bool))
        return {name: means_RM[:, m] for m, name in enumerate(names)}


_OPTIONAL_COLUMNS = {
    "J_recall": "j_recall_N",
    "J_decay": "j_decay_N",
    "F_recall": "f_recall_N",
    "F_decay": "f_decay_N",
}


@dataclass(frozen=True, eq=False, kw_only=True)
class TrackingEvidence(ItemEvidence):
    """Counts of multi-object tracking by sequence: CLEAR, identity and HOTA.

    Metrics: HOTA, DetA, AssA, MOTA, IDF1, IDSW. Counts are summed over sequences first; AssA of
    several sequences is their mean weighted with the true positives, for each localisation
    threshold; HOTA, DetA and AssA are means over thresholds. MOTA can be negative; IDSW is a
    count. Without annotated boxes MOTA is nan, without any box IDF1, DetA and HOTA are.

    Attributes:
        sequence_ids: N unique names.
        clear_tp_N, clear_fp_N, clear_fn_N, clear_idsw_N: int64 counts of CLEAR.
        id_tp_N, id_fp_N, id_fn_N: int64 counts of the identity matching.
        hota_tp_NA, hota_fp_NA, hota_fn_NA: int64 counts for each threshold 0.05, 0.10 ... 0.95.
        ass_a_sum_NA: float64, AssA of the sequence times hota_tp; likewise `ass_re_sum_NA` and
            `ass_pr_sum_NA`, which give the metrics AssRe and AssPr.

    Raises:
        ValueError: If names repeat, shapes differ, or a value is out of range.

    Source:
        arXiv:2009.07736 and arXiv:0911.2632 (HOTA, CLEAR), arXiv:1609.01775 (identity); summed
        over sequences as TrackEval does, which scores 0 where this is nan.
    """

    kind: ClassVar[str] = "tracking"
    item: ClassVar[str] = "sequence"
    metric_names: ClassVar[tuple[str, ...]] = (
        "HOTA", "DetA", "AssA", "AssRe", "AssPr", "MOTA", "IDF1", "IDSW",
    )  # fmt: skip
    sequence_ids: tuple[str, ...]
    clear_tp_N: np.ndarray
    clear_fp_N: np.ndarray
    clear_fn_N: np.ndarray
    clear_idsw_N: np.ndarray
    id_tp_N: np.ndarray
    id_fp_N: np.ndarray
    id_fn_N: np.ndarray
    hota_tp_NA: np.ndarray
    hota_fp_NA: np.ndarray
    hota_fn_NA: np.ndarray
    ass_a_sum_NA: np.ndarray
    ass_re_sum_NA: np.ndarray
    ass_pr_sum_NA: np.ndarray

    def __post_init__(self) -> None:
        """Checks and freezes the fields."""
        store_names(self, "sequence_ids")
        num = len(self.sequence_ids)
        for field in dataclasses.fields(self):
            if field.name.endswith("_sum_NA"):
                store_values(self, field.name, (num, NUM_ALPHAS), between=(0.0, float(MAX_TOTAL)))
                if (getattr(self, field.name) > self.hota_tp_NA * (1 + 1e-9)).any():
                    raise ValueError(
                        f"field '{field.name}' is larger than 'hota_tp_NA' somewhere; "
                        "pass the score of each sequence, 0 to 1, times its true positives"
                    )
            elif field.name != "sequence_ids":
                shape = (num, NUM_ALPHAS) if field.name.endswith("NA") else (num,)
                store_counts(self, field.name, shape)

    @property
    def item_ids(self) -> tuple[str, ...]:
        """Names of the sequences."""
        return self.sequence_ids

    @property
    def unit_labels(self) -> dict[str, tuple[str, ...]]:
        """Sequences only."""
        return {"sequence": self.sequence_ids}

    @property
    def unit(self) -> str:
        """Frames and tracks of one sequence belong together."""
        return "sequence"

    def _metrics(self, weights_RN: np.ndarray, names: Sequence[str]) -> dict[str, np.ndarray]:
        weights_RN = weights_RN.astype(np.float64)
        total = {
            field.name: weights_RN @ getattr(self, field.name).astype(np.float64)
            for field in dataclasses.fields(self)
            if field.name != "sequence_ids"
        }
        tp_RA = total["hota_tp_NA"]
        det_a_RA = ratio(tp_RA, tp_RA + total["hota_fp_NA"] + total["hota_fn_NA"])
        # A threshold at which nothing matches has AssA 0, it is not left out of the mean.
        ass_RA = {name: total[f"{name}_sum_NA"] / np.maximum(tp_RA, 1) for name in _ASSOCIATION}
        clear = {name: total[f"clear_{name}_N"] for name in ("tp", "fp", "fn", "idsw")}
        id_tp, id_both = total["id_tp_N"], total["id_fp_N"] + total["id_fn_N"]
        # From what is there: a sequence set without any box has no AssA either.
        some_R = np.where(np.isnan(det_a_RA).any(axis=1), np.nan, 1.0)
        return {
            "HOTA": np.sqrt(det_a_RA * ass_RA["ass_a"]).mean(axis=1),
            "DetA": det_a_RA.mean(axis=1),
            "AssA": some_R * ass_RA["ass_a"].mean(axis=1),
            "AssRe": some_R * ass_RA["ass_re"].mean(axis=1),
            "AssPr": some_R * ass_RA["ass_pr"].mean(axis=1),
            "MOTA": ratio(clear["tp"] - clear["fp"] - clear["idsw"], clear["tp"] + clear["fn"]),
            "IDF1": ratio(id_tp, id_tp + id_both / 2),
            "IDSW": clear["idsw"],
        }


_ASSOCIATION = ("ass_a", "ass_re", "ass_pr")
