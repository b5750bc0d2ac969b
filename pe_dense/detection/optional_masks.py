"""Masks as one switch of a config: a Mask R-CNN that finds boxes alone where data have no masks."""

from __future__ import annotations

from typing import Any

from mmdet.datasets.transforms import LoadAnnotations
from mmdet.models.roi_heads import StandardRoIHead
from mmdet.registry import MODELS, TRANSFORMS

from pe_dense.detection.polygon_loading import LoadPolygons


@MODELS.register_module()
class OptionalMaskRoIHead(StandardRoIHead):
    """mmdet's StandardRoIHead, without its mask parts where `with_masks` is False.

    Args:
        with_masks: Whether masks are trained and predicted.
        mask_roi_extractor: As mmdet's.
        mask_head: As mmdet's.
        **kwargs: Of StandardRoIHead.
    """

    def __init__(
        self, with_masks: bool, mask_roi_extractor: Any = None, mask_head: Any = None, **kwargs: Any
    ) -> None:
        if with_masks:
            kwargs |= dict(mask_roi_extractor=mask_roi_extractor, mask_head=mask_head)
        super().__init__(**kwargs)


@TRANSFORMS.register_module()
class LoadObjects:
    """Boxes, and masks as polygons (`LoadPolygons`) where `with_mask` is True.

    Args:
        with_mask: Whether masks are loaded; the check of the data looks for this name.
    """

    def __init__(self, with_mask: bool) -> None:
        self._load = LoadPolygons(with_bbox=True) if with_mask else LoadAnnotations(with_bbox=True)

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        """Add the boxes, labels and masks of an image's objects."""
        return self._load(results)
