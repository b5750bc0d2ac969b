"""Losses and post-processing of DETA.

Shape legend: B images, N predictions (tokens or queries), K queries, G objects, P pairs,
Q detections, A classes, S sets of predictions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmdet.models import DeformableDETRHead
from mmdet.registry import MODELS, TASK_UTILS
from mmdet.structures import SampleList
from mmdet.structures.bbox import bbox_xyxy_to_cxcywh
from mmdet.utils import reduce_mean
from mmengine.structures import InstanceData
from torch import Tensor

from pe_dense.detection.pair_assignment import xyxy_from_cxcywh
from pe_dense.detection.suppression import suppress

Pairs = list[tuple[Tensor, Tensor]]  # for every image: prediction and object indices, (P,) each


@MODELS.register_module()
class DETAHead(DeformableDETRHead):
    """Class and box branches trained on pairs instead of a one-to-one matching.

    Proposals are matched by their fixed anchors and learn object or not (channel 0); queries are
    matched once, by the proposals they started from, for all decoder layers. Every term is
    divided by the number of objects in the batch (averaged over processes), not of pairs.

    Args:
        proposal_assigner: `PairAssigner` of the first stage; the second stage's is
            `train_cfg.assigner`, where mmdet looks for it. Needed for training only.
        **kwargs: Of `DeformableDETRHead`. `test_cfg` takes `nms_pre` (best class-query pairs that
            enter suppression), `nms` (see `suppression.suppress`) and `max_per_img` (-1: all).

    Raises:
        ValueError: If the class loss is no sigmoid loss, or a test setting is missing.
    """

    def __init__(self, proposal_assigner: dict | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not self.loss_cls.use_sigmoid:
            raise ValueError(
                "DETAHead needs a sigmoid class loss; set model.bbox_head.loss_cls.use_sigmoid=True"
            )
        missing = {"nms_pre", "nms", "max_per_img"} - set(self.test_cfg or {})
        if missing:
            raise ValueError(f"model.test_cfg lacks {', '.join(sorted(missing))}, which DETA needs")
        if self.train_cfg and proposal_assigner is None:
            raise ValueError("bbox_head.proposal_assigner is missing, which training DETA needs")
        if proposal_assigner is not None:
            self.proposal_assigner = TASK_UTILS.build(proposal_assigner)

    def loss(
        self,
        hidden_states: Tensor,
        references: Sequence[Tensor],
        enc_outputs_class: Tensor,
        enc_outputs_coord: Tensor,
        anchors: Tensor,
        batch_data_samples: SampleList,
    ) -> dict[str, Tensor]:
        """All loss terms of a batch.

        Args:
            hidden_states: (layers, B, K, D).
            references: Boxes (B, K, 4) that each layer starts from; the first are the proposals.
            enc_outputs_class: (B, N, A) logits.
            enc_outputs_coord: (B, N, 4) boxes, relative centre and size.
            anchors: (B, N, 4), likewise.
            batch_data_samples: Ground truth in pixels of the resized image.

        Returns:
            loss_{cls,bbox,iou} of the last layer, and the same with 'd0.' ... and 'enc_' in front
            for the earlier layers and the proposals.
        """
        logits, boxes = self(hidden_states, references)  # (layers, B, K, A), (layers, B, K, 4)
        objects, labels = self._objects(batch_data_samples)
        total = boxes.new_tensor([sum(map(len, objects))])
        num_objects = reduce_mean(total).clamp_(min=1.0)[0]
        images = list(zip(objects, anchors.detach(), strict=True))
        pairs = [self.proposal_assigner(*image) for image in images]
        is_object = [torch.zeros_like(label) for label in labels]
        (terms,) = self._terms(
            enc_outputs_class[None], enc_outputs_coord[None], pairs, objects, is_object, num_objects
        )
        losses = {f"enc_{name}": value for name, value in terms.items()}
        starts = references[0].detach()
        pairs = [self.assigner(*image) for image in zip(objects, starts, strict=True)]
        of_layers = self._terms(logits, boxes, pairs, objects, labels, num_objects)
        for layer, terms in enumerate(of_layers):
            prefix = "" if layer == len(of_layers) - 1 else f"d{layer}."
            losses |= {prefix + name: value for name, value in terms.items()}
        return losses

    @staticmethod
    def _objects(samples: SampleList) -> tuple[list[Tensor], list[Tensor]]:
        """Boxes (G, 4) relative to the resized image, and labels; boxes without area left out."""
        objects, labels = [], []
        for sample in samples:
            corners = sample.gt_instances.bboxes
            height, width = sample.img_shape[:2]
            boxes = bbox_xyxy_to_cxcywh(corners / corners.new_tensor([width, height] * 2))
            real = (boxes[:, 2:] > 0).all(1) & boxes.isfinite().all(1)
            objects.append(boxes[real])
            labels.append(sample.gt_instances.labels[real])
        return objects, labels

    def _terms(
        self,
        logits_SBNA: Tensor,
        boxes_SBN4: Tensor,
        pairs: Pairs,
        objects: Sequence[Tensor],
        labels: Sequence[Tensor],
        num_objects: Tensor,
    ) -> list[dict[str, Tensor]]:
        """Class, L1 and GIoU loss of S sets of predictions that have the same pairs.

        All sets at once: a decoder layer has little to compute, and on a GPU the launches of six
        times three losses would be most of their time.
        """
        num_sets, num_images, num_predictions, _ = logits_SBNA.shape
        targets_BN = torch.stack(
            [
                pair_labels(num_predictions, *pair, label, self.num_classes)
                for pair, label in zip(pairs, labels, strict=True)
            ]
        )
        counts = torch.tensor([len(i) for i, _ in pairs])
        image_P = torch.arange(num_images).repeat_interleave(counts).to(boxes_SBN4.device)
        prediction_P = torch.cat([i for i, _ in pairs])
        found_SP4 = boxes_SBN4[:, image_P, prediction_P]
        wanted_P4 = torch.cat([o[j] for o, (_, j) in zip(objects, pairs, strict=True)])
        wanted_SP4 = wanted_P4.expand_as(found_SP4)
        each = dict(reduction_override="none")
        corners = (xyxy_from_cxcywh(x).flatten(0, 1) for x in (found_SP4, wanted_SP4))
        terms = dict(
            loss_cls=self.loss_cls(
                logits_SBNA.flatten(0, 2), targets_BN.flatten().repeat(num_sets), **each
            ),
            loss_bbox=self.loss_bbox(found_SP4, wanted_SP4, **each),
            loss_iou=self.loss_iou(*corners, **each),
        )
        divisor = num_objects + torch.finfo(torch.float32).eps  # as mmdet's losses divide
        if not len(prediction_P):  # mmdet's losses then give one zero for all
            terms = {k: v.expand(num_sets, 1) if v.ndim == 0 else v for k, v in terms.items()}
        sums = {name: loss.reshape(num_sets, -1).sum(1) / divisor for name, loss in terms.items()}
        return [{name: sums_S[s] for name, sums_S in sums.items()} for s in range(num_sets)]

    def _predict_by_feat_single(
        self, cls_score: Tensor, bbox_pred: Tensor, img_meta: dict, rescale: bool = True
    ) -> InstanceData:
        """Detections of one image from logits (K, A) and relative boxes (K, 4).

        Boxes are in pixels of the original image (of the resized one without `rescale`), not
        clipped to it.
        """
        scores = cls_score.float().sigmoid().flatten()
        scores, index = scores.topk(min(self.test_cfg["nms_pre"], len(scores)))
        labels = index % cls_score.shape[1]
        boxes_K4 = xyxy_from_cxcywh(bbox_pred.float())
        height, width = img_meta["ori_shape" if rescale else "img_shape"][:2]
        boxes_K4 = boxes_K4 * boxes_K4.new_tensor([width, height] * 2)
        boxes_Q4 = boxes_K4[index // cls_score.shape[1]]
        keep, scores = suppress(boxes_Q4, scores, labels, self.test_cfg["nms"])
        limit = self.test_cfg["max_per_img"]
        if limit >= 0:
            keep, scores = keep[:limit], scores[:limit]
        return InstanceData(bboxes=boxes_Q4[keep], scores=scores, labels=labels[keep])


def pair_labels(
    num_predictions: int,
    predictions_P: Tensor,
    objects_P: Tensor,
    labels_G: Tensor,
    background: int,
) -> Tensor:
    """Class target of every prediction; `background` for those in no pair.

    A prediction in several pairs takes the label of the last one, on every device.

    Example:
        >>> pair = torch.tensor([0, 2, 2]), torch.tensor([0, 0, 1])
        >>> pair_labels(4, *pair, torch.tensor([7, 8]), 9).tolist()
        [7, 9, 8, 9]
    """
    place_P = torch.arange(len(predictions_P), device=labels_G.device)
    last = labels_G.new_full((num_predictions,), -1)
    last = last.scatter_reduce(0, predictions_P, place_P, "amax")
    # -1, in no pair, reads the background behind the labels of all pairs.
    return torch.cat([labels_G[objects_P], labels_G.new_full((1,), background)])[last]
