"""Masks of objects as polygons, whatever the annotation file holds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from mmdet.datasets.transforms import LoadAnnotations
from mmdet.registry import TRANSFORMS
from mmdet.structures.mask import PolygonMasks
from pycocotools import mask as coding


def rectangles_of(mask_HW: np.ndarray) -> list[np.ndarray]:
    """Polygons, (8,) x and y in turn, that cover exactly the pixels of a bitmap.

    Runs of a column, joined with the equal runs of the columns before: an outline would fill holes,
    because the parts of a polygon mask are united. No rectangles for an empty bitmap.

    Example:
        >>> [r.tolist() for r in rectangles_of(np.array([[1, 1], [0, 0]]))]
        [[0.0, 0.0, 2.0, 0.0, 2.0, 1.0, 0.0, 1.0]]
    """
    edges = np.diff(np.pad(mask_HW.astype(bool), ((1, 1), (0, 0))).astype(np.int8), axis=0)
    # Both in order of columns, so that the k-th beginning belongs to the k-th end.
    columns, tops = np.nonzero(edges.T == 1)
    _, bottoms = np.nonzero(edges.T == -1)
    begun: dict[tuple[int, int], tuple[int, int]] = {}  # run -> first column, column behind
    found = []
    for column, *run in zip(columns.tolist(), tops.tolist(), bottoms.tolist(), strict=True):
        top, bottom = run
        first, behind = begun.get((top, bottom), (column, column))
        if behind != column:
            found.append((first, top, behind, bottom))
            first = column
        begun[top, bottom] = first, column + 1
    found += [(first, top, behind, bottom) for (top, bottom), (first, behind) in begun.items()]
    return [_rectangle(*corners) for corners in found]


def _rectangle(x1: float, y1: float, x2: float, y2: float) -> np.ndarray:
    return np.array([x1, y1, x2, y1, x2, y2, x1, y2], dtype=np.float64)


def polygons_of(segmentation: list | Mapping[str, Any], hw: tuple[int, int]) -> list[np.ndarray]:
    """Polygons, float64 x and y in turn, of a COCO segmentation; none if it covers nothing.

    Args:
        segmentation: Polygons, or run lengths as numbers or as a string.
        hw: Height and width of the image.

    Raises:
        ValueError: If run lengths are of another size.
    """
    if isinstance(segmentation, list):
        parts = [np.asarray(part, dtype=np.float64) for part in segmentation]
        return [part for part in parts if len(part) >= 6 and len(part) % 2 == 0]
    if tuple(segmentation["size"]) != hw:
        raise ValueError(f"has run lengths of {segmentation['size']}, but its image has {list(hw)}")
    runs = segmentation
    if isinstance(runs["counts"], list):
        runs = coding.frPyObjects(runs, *hw)
    return rectangles_of(coding.decode(runs))


@TRANSFORMS.register_module()
class LoadPolygons(LoadAnnotations):
    """mmdet's LoadAnnotations with every mask as polygons of float64.

    Polygons are resized, flipped and cut exactly, so that boxes can be taken from them; bitmaps
    round to pixels at each step. mmdet's own polygons (`poly2mask=False`) leave out objects of run
    lengths, and polygons of whole numbers are resized in whole numbers.

    Run lengths become rectangles of the same pixels. What is ignored (crowds, objects whose mask
    has no part) has its box for a mask, so that the box is cut as the picture is.

    Args:
        with_mask: Must be true; said in configs because the check of the data looks for it.
        **kwargs: Of LoadAnnotations.

    Raises:
        ValueError: If an object has no segmentation, or one of another size.
    """

    def __init__(self, with_mask: bool = True, **kwargs: Any) -> None:
        if not with_mask:
            raise ValueError("LoadPolygons loads masks; use LoadAnnotations for boxes alone")
        super().__init__(with_mask=True, poly2mask=False, **kwargs)

    def _load_masks(self, results: dict) -> None:
        height, width = results["ori_shape"]
        masks, ignored = [], []
        for instance in results.get("instances", []):
            parts: list[np.ndarray] = []
            if not instance["ignore_flag"]:
                if "mask" not in instance:
                    raise ValueError(
                        f"image {results.get('img_path')} has an object at {instance['bbox']} "
                        "without a segmentation; draw its mask, or use a config for boxes"
                    )
                try:
                    parts = polygons_of(instance["mask"], (height, width))
                except ValueError as error:
                    raise ValueError(
                        f"image {results.get('img_path')}: the object at {instance['bbox']} {error}"
                    ) from error
            ignored.append(not parts)
            masks.append(parts or [_rectangle(*instance["bbox"])])
        results["gt_ignore_flags"] = np.array(ignored, dtype=bool)
        results["gt_masks"] = PolygonMasks(masks, height, width)
