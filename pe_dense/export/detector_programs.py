"""Programs of detectors: which kind a model is, and what becomes of its detections.

Shape legend: B images, Q detections, m side of a mask, H W pixels.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmdet.models import DINO, MaskRCNN, TwoStageDetector
from torch import nn

from pe_dense.detection.deta import DETA
from pe_dense.detection.enough_tokens import enough_patches
from pe_dense.export.program import Program, Sizes

WHERE = ("inside", "outside")


def detection_program(
    detector: nn.Module, sizes: Sizes, facts: Mapping[str, Any], suppression: str
) -> Program:
    """A detector whose outputs are `boxes`, `scores`, `labels` and, with masks, `masks`.

    Boxes (B, Q, 4) are corners relative to the picture, 0..1, by falling score; scores are 0 in
    places that hold no detection. Masks (B, Q, m, m) are probabilities inside of the box.

    Args:
        detector: DETA, DINO or Mask R-CNN (ViTDet).
        sizes: One size.
        facts: To be written into the file.
        suppression: 'inside' of the file, or 'outside': then Q are the candidates.

    Raises:
        ValueError: For another detector, or an option that it has not.
    """
    assert suppression in WHERE
    if isinstance(detector, (DETA, DINO)):
        from pe_dense.export.detr_program import DetrDetections, suppression_of

        _require_tokens(detector, sizes)
        rule = suppression_of(detector, suppression)
        module: nn.Module = DetrDetections(detector, (sizes.height, sizes.width), rule)
        outputs = ("boxes", "scores", "labels")
    elif isinstance(detector, TwoStageDetector) and _is_standard(detector):
        from pe_dense.export.mask_rcnn_program import RCNNDetections, rcnn_suppression

        has_masks = isinstance(detector, MaskRCNN) and detector.roi_head.with_mask
        rule = rcnn_suppression(detector, suppression, has_masks)
        module = RCNNDetections(detector, rule)
        outputs = ("boxes", "scores", "labels", *(("masks",) if has_masks else ()))
    else:
        raise ValueError(
            f"a {type(detector).__name__} is not exported; DETA, DINO and Mask R-CNN (ViTDet) are"
        )
    own = dict(facts, suppression=rule)
    return Program(
        module, detector.backbone.encoder, "detection", outputs, sizes, own, takes_picture_size=True
    )


def _is_standard(detector: TwoStageDetector) -> bool:
    head = getattr(detector, "roi_head", None)
    return type(head).__name__ == "StandardRoIHead" and type(detector.rpn_head).__name__ == (
        "RPNHead"
    )


def _require_tokens(detector: nn.Module, sizes: Sizes) -> None:
    """Refuse a size that the detector would pad first."""
    patch = detector.backbone.patch_size
    if sizes.height % patch or sizes.width % patch:
        raise ValueError(
            f"--size {sizes.height} {sizes.width} is not a multiple of the {patch}-px patch"
        )
    if not hasattr(detector.neck, "grids"):
        return
    grid = sizes.height // patch, sizes.width // patch
    if getattr(detector, "canvas", None) is None and grid != (
        needed := enough_patches(*grid, detector.num_queries, detector.neck.grids)
    ):
        raise ValueError(
            f"--size {sizes.height} {sizes.width} has fewer tokens than the detector's "
            f"{detector.num_queries} queries; use --size {needed[0] * patch} {needed[1] * patch} "
            "or more"
        )
