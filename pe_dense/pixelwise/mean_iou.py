"""Mean IoU over a data set, in integers, with the counts of every image as evidence.

Shape legend: K classes, H W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import torch
from mmengine.evaluator import BaseMetric
from mmengine.registry import METRICS
from torch import Tensor

from pe_dense.results.evidence import SegmentationEvidence

_EXACT_IN_FLOAT32 = 2**24


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
    table_KK = _table_of_bytes(prediction_HW, labels_HW, num_classes, ignore_index)
    if table_KK is None:
        counted_HW = labels_HW != ignore_index
        prediction, labels = prediction_HW[counted_HW], labels_HW[counted_HW]
        _refuse_strange(prediction, labels, num_classes, ignore_index)
        pairs = labels.astype(np.int64) * num_classes + prediction
        table = np.bincount(pairs, minlength=num_classes * num_classes)
        table_KK = table.reshape(num_classes, num_classes)
    return np.stack([table_KK.diagonal(), table_KK.sum(0), table_KK.sum(1)]).astype(np.int64)


def counts_on_device(
    prediction_HW: Tensor, labels_HW: Tensor, num_classes: int, ignore_index: int = 255
) -> np.ndarray | None:
    """`image_counts` (3, K) of maps that lie on a GPU; None if sizes differ or a class is strange.

    Only a table of pairs, not the maps, comes to the host, which waits for the device once.
    """
    if prediction_HW.shape != labels_HW.shape:
        return None
    labels, prediction = labels_HW.long(), prediction_HW.to(labels_HW.device).long()
    # Strange classes are -1 and K, what is ignored K + 1.
    side = num_classes + 2
    rows = labels.clamp(-1, num_classes).masked_fill(labels == ignore_index, num_classes + 1)
    pairs = torch.add(prediction.clamp(-1, num_classes), rows, alpha=side).add_(side + 1)
    table = pairs.new_zeros((side + 1) * side)
    table.scatter_add_(0, pairs.flatten(), pairs.new_ones(1).expand(pairs.numel()))
    table_LP = table.cpu().view(side + 1, side).numpy()[:side]  # without the ignored
    table_KK = table_LP[1:-1, 1:-1]
    if table_KK.sum() != table_LP.sum():
        return None
    return np.stack([table_KK.diagonal(), table_KK.sum(0), table_KK.sum(1)])


def _table_of_bytes(
    prediction_HW: np.ndarray, labels_HW: np.ndarray, num_classes: int, ignore_index: int
) -> np.ndarray | None:
    """(K, K) int64 pixels by label and prediction; None if bytes do not hold the classes.

    Also None if a class is out of range. The histogram has a row for every byte, so that no pixel
    has to be picked out and no class looked at beforehand: five times as fast as doing that.
    """
    if not labels_HW.size or not (_are_bytes(labels_HW) and _are_bytes(prediction_HW)):
        return None
    maps = [np.ascontiguousarray(m.astype(np.uint8)) for m in (labels_HW, prediction_HW)]
    table = np.zeros((256, 256), np.int64)
    rows = max(1, _EXACT_IN_FLOAT32 // labels_HW.shape[1])  # OpenCV returns counts as float32
    for top in range(0, len(labels_HW), rows):
        bands = [m[top : top + rows] for m in maps]
        table += cv2.calcHist(
            bands, [0, 1], None, [256, 256], [0, 256, 0, 256], accumulate=False
        ).astype(np.int64)
    if 0 <= ignore_index < 256:
        table[ignore_index] = 0
    table_KK = table[:num_classes, :num_classes]
    return table_KK if table_KK.sum() == table.sum() else None


def _are_bytes(values: np.ndarray) -> bool:
    return values.dtype == np.uint8 or bool(values.min() >= 0 and values.max() < 256)


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


def counts_evidence(
    names: Sequence[str], classes: Sequence[str], counts_N3K: np.ndarray
) -> SegmentationEvidence:
    """`image_counts` of N images as evidence."""
    right_NK, predicted_NK, annotated_NK = counts_N3K.astype(np.int64).swapaxes(0, 1)
    return SegmentationEvidence(
        image_ids=tuple(names),
        classes=tuple(classes),
        intersection_NK=right_NK,
        prediction_NK=predicted_NK,
        target_NK=annotated_NK,
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
            maps = [sample[key]["data"].squeeze(0) for key in ("pred_sem_seg", "gt_sem_seg")]
            try:
                counts = self._counts(*maps, num_classes)
            except ValueError as error:
                raise ValueError(
                    f"{sample.get('seg_map_path', sample['img_path'])}: {error}"
                ) from error
            self.results.append((sample["img_path"], counts))

    def _counts(self, prediction_HW: Tensor, labels_HW: Tensor, num_classes: int) -> np.ndarray:
        if prediction_HW.device.type != "cpu":
            counts = counts_on_device(prediction_HW, labels_HW, num_classes, self.ignore_index)
            if counts is not None:
                return counts
        maps = prediction_HW.cpu().numpy(), labels_HW.cpu().numpy()  # the errors are there, too
        return image_counts(*maps, num_classes, self.ignore_index)

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
        self._evidence = counts_evidence(
            short_names(names), self.dataset_meta["classes"], counts_N3K
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


def short_names(paths: Sequence[str]) -> tuple[str, ...]:
    """File names without folders; whole paths where those would repeat.

    Example:
        >>> short_names(["a/1.jpg", "a/2.jpg"])
        ('1.jpg', '2.jpg')
    """
    short = [path.replace("\\", "/").rpartition("/")[2] for path in paths]
    return tuple(short if len(set(short)) == len(short) else paths)
