"""Mean IoU over a data set, in integers, with the counts of every image as evidence.

Shape legend: K classes, H W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from mmengine.evaluator import BaseMetric
from mmengine.registry import METRICS

from pe_dense.results.evidence import SegmentationEvidence


def image_counts(
    prediction_HW: np.ndarray, labels_HW: np.ndarray, num_classes: int, ignore_index: int = 255
) -> np.ndarray:
    """Pixels of one image by class: right, predicted, annotated.

    Pixels labelled `ignore_index` are left out of all three.

    Args:
        prediction_HW: Classes, 0 to K - 1.
        labels_HW: Classes or `ignore_index`.
        num_classes: K.
        ignore_index: See above.

    Returns:
        (3, K) int64.

    Raises:
        ValueError: If sizes differ, or a class is out of range.

    Example:
        >>> image_counts(np.array([[0, 1]]), np.array([[0, 0]]), 2).tolist()
        [[1, 0], [1, 1], [2, 0]]
    """
    if prediction_HW.shape != labels_HW.shape:
        raise ValueError(
            f"prediction is {prediction_HW.shape} and label map {labels_HW.shape}; the map must "
            "have the size of its image"
        )
    # One histogram over pairs of classes; pixels that do not count go to a row of their own, which
    # is cheaper than to pick out the others. 16 bits a pixel suffice, and are read faster than 64.
    small = num_classes < 256
    number = np.uint16 if small else np.int64
    ignored_HW = labels_HW == ignore_index
    inside = _in_range(labels_HW, num_classes) or _in_range(labels_HW[~ignored_HW], num_classes)
    if not (inside and _in_range(prediction_HW, num_classes)):
        _refuse_strange(
            prediction_HW[~ignored_HW], labels_HW[~ignored_HW], num_classes, ignore_index
        )
        prediction_HW = np.where(ignored_HW, 0, prediction_HW)
    pairs = labels_HW.astype(number)
    pairs[ignored_HW] = num_classes
    pairs *= number(num_classes)
    pairs += prediction_HW.astype(number, copy=False)
    table = np.bincount(pairs.ravel(), minlength=(num_classes + 1) * num_classes)
    table_KK = table.reshape(-1, num_classes)[:num_classes]
    return np.stack([table_KK.diagonal(), table_KK.sum(0), table_KK.sum(1)]).astype(np.int64)


def _in_range(values: np.ndarray, num_classes: int) -> bool:
    return not values.size or bool(values.min() >= 0 and values.max() < num_classes)


def _refuse_strange(
    prediction: np.ndarray, labels: np.ndarray, num_classes: int, ignore_index: int
) -> None:
    for name, values in (("the label map", labels), ("the prediction", prediction)):
        low, high = (values.min(), values.max()) if values.size else (0, 0)
        if low < 0 or high >= num_classes:
            raise ValueError(
                f"{name} holds class {low if low < 0 else high}, but there are {num_classes} "
                f"(and {ignore_index} to ignore); check reduce_zero_label and the class list"
            )


@METRICS.register_module()
class MeanIoU(BaseMetric):
    """mIoU, accuracy and the IoU of every class, in 0..1.

    Areas are summed over the data set before dividing; classes in neither maps nor predictions are
    left out of the mean. Counts are integers, so that any number of processes gives the same.

    Args:
        ignore_index: Label of pixels that do not count.
        collect_device: Where results of several processes meet, 'cpu' or 'gpu'.
        prefix: Name in front of every metric.

    Source: the definition of mmseg's IoUMetric (onedl-mmsegmentation 1.4.2), unrounded.
    """

    default_prefix = "seg"

    def __init__(
        self, ignore_index: int = 255, collect_device: str = "cpu", prefix: str | None = None
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        self.ignore_index = ignore_index
        self._evidence: SegmentationEvidence | None = None

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Count the pixels of a batch; maps are not kept."""
        num_classes = len(self.dataset_meta["classes"])
        for sample in data_samples:
            prediction = sample["pred_sem_seg"]["data"].squeeze(0).cpu().numpy()
            labels = sample["gt_sem_seg"]["data"].squeeze(0).cpu().numpy()
            try:
                counts = image_counts(prediction, labels, num_classes, self.ignore_index)
            except ValueError as error:
                raise ValueError(
                    f"{sample.get('seg_map_path', sample['img_path'])}: {error}"
                ) from error
            self.results.append((sample["img_path"], counts))

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Score all images at once.

        Raises:
            ValueError: If no pixel of any image is annotated.
        """
        names = [path for path, _ in results]
        counts_N3K = np.stack([counts for _, counts in results])
        if not counts_N3K[:, 2].any():
            raise ValueError(
                f"none of {len(names)} images has an annotated pixel, first {names[0]}: all labels "
                f"are {self.ignore_index}; check the label maps and reduce_zero_label"
            )
        self._evidence = SegmentationEvidence(
            image_ids=_short_names(names),
            classes=tuple(self.dataset_meta["classes"]),
            intersection_NK=counts_N3K[:, 0],
            prediction_NK=counts_N3K[:, 1],
            target_NK=counts_N3K[:, 2],
        )
        scores = self._evidence.metrics()
        return {name: float(value) for name, value in scores.items() if np.isfinite(value)}

    def evidence(self) -> SegmentationEvidence:
        """Counts of every image of the last evaluation.

        Raises:
            RuntimeError: If nothing was evaluated in this process.
        """
        if self._evidence is None:
            raise RuntimeError("MeanIoU has evaluated nothing yet")
        return self._evidence


def _short_names(paths: Sequence[str]) -> tuple[str, ...]:
    """File names without folders; whole paths where those would repeat.

    Example:
        >>> _short_names(["a/1.jpg", "a/2.jpg"])
        ('1.jpg', '2.jpg')
    """
    short = [path.replace("\\", "/").rpartition("/")[2] for path in paths]
    return tuple(short if len(set(short)) == len(short) else paths)
