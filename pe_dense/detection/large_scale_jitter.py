"""Large-scale jitter as ViTDet is trained with it: a random scale, a crop, boxes of the rest."""

from __future__ import annotations

from typing import Any

import numpy as np
from mmcv.transforms import BaseTransform
from mmdet.datasets.transforms import Resize
from mmdet.registry import TRANSFORMS
from mmdet.structures.bbox import HorizontalBoxes
from mmdet.structures.mask import PolygonMasks

SMALLEST = 1e-5  # px; boxes that are not wider and higher are dropped


def jittered_size(height: int, width: int, canvas: int, scale: float) -> tuple[int, int]:
    """Height and width that fit into a square of canvas * scale, at least 1.

    Rounded to the nearest number, halves to the even one.

    Source: detectron2 @ 02b5c4e, data/transforms/augmentation_impl.py:231 (ResizeScale).

    Example:
        >>> jittered_size(480, 640, 1024, 0.5)
        (384, 512)
    """
    side = canvas * scale
    factor = min(side / height, side / width)
    return max(int(np.round(height * factor)), 1), max(int(np.round(width * factor)), 1)


def crop_offset(height: int, width: int, canvas: int, share: float) -> tuple[int, int]:
    """Top and left of a crop of the canvas: one share of what is over in both directions.

    Source: detectron2 @ 02b5c4e, data/transforms/augmentation_impl.py:332 (FixedSizeCrop), which
    draws one number for both, so that crops lie on the diagonal.
    """
    return (
        int(np.round(max(height - canvas, 0) * share)),
        int(np.round(max(width - canvas, 0) * share)),
    )


@TRANSFORMS.register_module()
class LargeScaleJitter(BaseTransform):
    """Resize by a random scale, cut out the canvas, take boxes from the polygons that are left.

    Nothing is padded. Objects without a pixel on the canvas are dropped; those of which nothing is
    left may leave an image without objects.

    Args:
        canvas: Side of the canvas in pixels.
        scales: Smallest and largest scale, drawn uniformly.
        backend: 'pillow' as in the reference, which averages where it shrinks, or 'cv2'.

    Raises:
        ValueError: If sides or scales are not positive, or masks are no polygons.

    Source: detectron2 @ 02b5c4e, projects/ViTDet/configs/common/coco_loader_lsj.py, and
    data/dataset_mapper.py:119 (boxes recomputed from polygons).
    """

    def __init__(
        self, canvas: int, scales: tuple[float, float] = (0.1, 2.0), backend: str = "pillow"
    ) -> None:
        if canvas < 1 or not 0 < scales[0] <= scales[1]:
            raise ValueError(
                f"LargeScaleJitter got canvas={canvas} and scales={tuple(scales)}; give a side "
                "above 0, and a smallest and a largest scale above 0"
            )
        self.canvas, self.scales = canvas, tuple(scales)
        self.resize = Resize(scale=(1, 1), keep_ratio=False, backend=backend)

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Resize and crop the image, its masks and its boxes."""
        if not isinstance(results.get("gt_masks"), PolygonMasks):
            raise ValueError("LargeScaleJitter takes boxes from polygons; load with LoadPolygons")
        # The generator that mmdet seeds; two numbers an image, in this order.
        scale = np.random.uniform(*self.scales)  # noqa: NPY002
        height, width = jittered_size(*results["img"].shape[:2], self.canvas, scale)
        self.resize.scale = (width, height)
        results = self.resize(results)
        top, left = crop_offset(height, width, self.canvas, np.random.uniform())  # noqa: NPY002
        bottom, right = min(top + self.canvas, height), min(left + self.canvas, width)
        results["img"] = results["img"][top:bottom, left:right]
        results["img_shape"] = results["img"].shape[:2]
        masks = results["gt_masks"].crop(np.array([left, top, right, bottom]))
        boxes = masks.get_bboxes(HorizontalBoxes)
        keep = ((boxes.widths > SMALLEST) & (boxes.heights > SMALLEST)).numpy()
        results["gt_masks"] = masks[keep]
        results["gt_bboxes"] = boxes[keep]
        for name in ("gt_bboxes_labels", "gt_ignore_flags"):
            results[name] = results[name][keep]
        return results
