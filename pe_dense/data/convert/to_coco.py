"""Labelled pictures as COCO JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from pycocotools import mask as coding

from pe_dense.data.convert.labelled_set import LabelledImage, LabelledSet, Shape
from pe_dense.data.convert.outlines import area_of


def coco_content(
    labelled: LabelledSet, images: Sequence[LabelledImage], names: Mapping[str, str]
) -> dict[str, Any]:
    """What a JSON of some pictures holds: ids from 1, in the order of the pictures.

    Boxes are as they were drawn, not cut at the border: the check of COCO data looks at them.

    Args:
        labelled: The set, for its classes.
        images: Those to write.
        names: Name of a picture in the set -> its file_name.
    """
    ids = {name: k for k, name in enumerate(labelled.classes, start=1)}
    annotations: list[dict[str, Any]] = []
    for image_id, image in enumerate(images, start=1):
        for shape in image.shapes:
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": ids[shape.label],
                    **_coordinates(shape),
                }
            )
    return {
        "info": {"description": f"made from labels of the format {labelled.form}"},
        "images": [
            {
                "id": image_id,
                "file_name": names[image.name],
                "width": image.size[0],
                "height": image.size[1],
            }
            for image_id, image in enumerate(images, start=1)
        ],
        "annotations": annotations,
        "categories": [{"id": k, "name": name} for name, k in ids.items()],
    }


def coco_text(content: Mapping[str, Any]) -> str:
    """The content as JSON, names readable."""
    return json.dumps(content, ensure_ascii=False) + "\n"


def _coordinates(shape: Shape) -> dict[str, Any]:
    x1, y1, x2, y2 = shape.box_xyxy
    found: dict[str, Any] = {
        "bbox": [_short(value) for value in (x1, y1, x2 - x1, y2 - y1)],
        "area": _short((x2 - x1) * (y2 - y1)),
        "iscrowd": int(shape.is_crowd),
    }
    if shape.ignore:
        found["ignore"] = 1
    if shape.runs is not None:
        found["segmentation"] = dict(shape.runs)
        if isinstance(shape.runs["counts"], str):
            found["area"] = float(coding.area(dict(shape.runs)))
    elif shape.polygons:
        found["segmentation"] = [[_short(v) for v in part] for part in shape.polygons]
        found["area"] = _short(sum(map(area_of, shape.polygons)))
    return found


def _short(value: float) -> float:
    """Rounded to a thousandth of a pixel, so that the same labels give the same file everywhere."""
    return round(float(value), 3)
