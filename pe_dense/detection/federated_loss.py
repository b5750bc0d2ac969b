"""Classification loss for LVIS: sigmoid cross-entropy on a sample of the classes.

Shape legend: N proposals, K classes.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from mmdet.registry import MODELS
from torch import Tensor, nn


def sample_classes(labels_N: Tensor, weights_K: Tensor, num_sampled: int) -> Tensor:
    """Classes that a batch trains: its own ones, filled up by drawing others by weight.

    Args:
        labels_N: Class of every proposal, K for background.
        weights_K: Chance of being drawn, not normalised.
        num_sampled: How many there are in the end; the background counts as one of them, and more
            than these in the batch are all kept.

    Returns:
        Class indices without repetition, K among them if a proposal is background.
    """
    present = labels_N.unique()
    missing = num_sampled - len(present)
    if missing <= 0:
        return present
    chances = torch.cat([weights_K, weights_K.new_zeros(1)])
    chances[present] = 0.0
    missing = min(missing, int((chances > 0).sum()))
    if missing == 0:
        return present
    return torch.cat([present, torch.multinomial(chances, missing, replacement=False)])


@MODELS.register_module()
class FederatedLoss(nn.Module):
    """Sigmoid cross-entropy over sampled classes, for box heads of mmdet.

    LVIS does not say of every class whether an image lacks it, so most classes must not be
    punished in most images. Classes of the batch always count; others are drawn with a chance of
    (number of training images with the class) ** `power`.

    The head keeps K + 1 outputs, as detectron2's does; the last one is never trained or used.

    Args:
        ann_file: LVIS JSON whose categories have 'image_count'; or
        image_counts: the counts themselves, one a class.
        num_sampled: Classes that count in a step, background included.
        power: See above.
        loss_weight: Factor of the loss.

    Raises:
        ValueError: If counts are missing, or given twice, or do not fit the classes.

    Source: federated loss of CenterNet2 (arXiv:2103.07461) as in detectron2 @ 02b5c4e
    (FastRCNNOutputLayers with use_fed_loss; LVIS configs of PE: 50 classes, power 0.5).
    """

    custom_cls_channels = True
    custom_activation = True
    custom_accuracy = True
    use_sigmoid = True

    def __init__(
        self,
        ann_file: str | None = None,
        image_counts: Sequence[int] | None = None,
        num_sampled: int = 50,
        power: float = 0.5,
        loss_weight: float = 1.0,
    ) -> None:
        super().__init__()
        if (ann_file is None) == (image_counts is None):
            raise ValueError("FederatedLoss needs ann_file or image_counts, and not both")
        self.ann_file, self.image_counts = ann_file, image_counts
        self.num_sampled, self.power, self.loss_weight = num_sampled, power, loss_weight
        self._weights_K: Tensor | None = None

    def class_weights(self, num_classes: int) -> Tensor:
        """Chance of every class to be drawn, (K,); the file is read once, in the first step."""
        if self._weights_K is None:
            counts = self.image_counts
            if counts is None:
                assert self.ann_file is not None
                counts = read_image_counts(self.ann_file)
            if len(counts) != num_classes:
                raise ValueError(
                    f"{self.ann_file or 'image_counts'} counts images of {len(counts)} classes, "
                    f"but the head has {num_classes}; use the annotations that it is trained on"
                )
            self._weights_K = torch.tensor(counts, dtype=torch.float32) ** self.power
        return self._weights_K

    def get_cls_channels(self, num_classes: int) -> int:
        """Outputs of the classifier for K classes: K + 1."""
        return num_classes + 1

    def get_activation(self, logits_NK: Tensor) -> Tensor:
        """(N, K + 1) logits -> scores in 0..1."""
        return logits_NK.sigmoid()

    def get_accuracy(self, logits_NK: Tensor, labels_N: Tensor) -> dict[str, Tensor]:
        """Share of proposals with an object whose best class is right, in percent."""
        is_object = labels_N < logits_NK.shape[1] - 1
        right = logits_NK[is_object, :-1].argmax(1) == labels_N[is_object]
        return {"acc_objects": 100.0 * right.float().sum() / max(int(is_object.sum()), 1)}

    def forward(
        self,
        logits_NK: Tensor,
        labels_N: Tensor,
        weight: Tensor | None = None,
        avg_factor: float | None = None,
        reduction_override: str | None = None,
    ) -> Tensor:
        """Loss of (N, K + 1) logits, summed over sampled classes and divided by `avg_factor` or N.

        `weight` (N,) weighs proposals; 'mean' is the only reduction.
        """
        if reduction_override not in (None, "mean"):
            raise ValueError(f"FederatedLoss has no reduction {reduction_override!r}; use 'mean'")
        num_classes = logits_NK.shape[1] - 1
        weights_K = self.class_weights(num_classes).to(logits_NK.device)
        counted = weights_K.new_zeros(num_classes + 1)
        counted[sample_classes(labels_N, weights_K, self.num_sampled)] = 1.0
        targets_NK = F.one_hot(labels_N, num_classes + 1)[:, :num_classes].to(logits_NK.dtype)
        loss_NK = F.binary_cross_entropy_with_logits(
            logits_NK[:, :num_classes], targets_NK, reduction="none"
        )
        loss_N = (loss_NK * counted[:num_classes]).sum(1)
        if weight is not None:
            loss_N = loss_N * weight
        total = avg_factor if avg_factor is not None else max(len(labels_N), 1)
        return self.loss_weight * loss_N.sum() / total


def read_image_counts(ann_file: str) -> list[int]:
    """'image_count' of every category of an LVIS JSON, by category id.

    Raises:
        ValueError: If the file is missing or its categories have no counts.
    """
    path = Path(ann_file)
    if not path.is_file():
        raise ValueError(f"annotation file {path} does not exist; FederatedLoss counts in it")
    categories = json.loads(path.read_text())["categories"]
    if any("image_count" not in category for category in categories):
        raise ValueError(f"categories of {path} have no 'image_count'; use lvis_v1_train.json")
    return [c["image_count"] for c in sorted(categories, key=lambda c: c["id"])]
