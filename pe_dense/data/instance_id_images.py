"""Images with a map of instances: 0 the background, 1, 2, ... objects, -1 void.

They serve teachers that make masks from annotations. Annotations of COCO belong to the image as it
is shown, turned as Exif says, here as in detection. Samples are those of `UnlabelledImages` with
'instance_ids' (H, W) int32 beside 'img'; unreadable images or maps are skipped and listed alike.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.registry import DATASETS

from pe_dense.data.checks.coco_split import coco_facts
from pe_dense.data.checks.rules import require_sound
from pe_dense.data.coco_objects import is_ignored, is_trainable
from pe_dense.data.unlabelled_images import UnlabelledImages

VOID = -1


@DATASETS.register_module()
class CocoInstanceIds(UnlabelledImages):
    """Images and instances of a COCO JSON, which must be as sound as for detection with masks.

    Where masks overlap, the smaller instance lies on top. Void is what detection does not train
    on: crowds, what has the flag 'ignore', and objects whose box cannot be used.

    Args:
        data_root: Folder that the other two are relative to.
        ann_file: The JSON.
        img_folder: Folder of the images.
        accept: Names of rules that the JSON may break; see `pe_dense.data.checks.coco_split`.
        **kwargs: See `UnlabelledImages`.

    Raises:
        ValueError: With the first fault of the JSON that is not accepted.
    """

    def __init__(
        self,
        data_root: str | Path,
        ann_file: str,
        img_folder: str = "",
        accept: Sequence[str] = (),
        **kwargs: Any,
    ) -> None:
        self._img_folder, self._accept = img_folder, tuple(accept)
        super().__init__(data_root, ann_file=ann_file, **kwargs)

    def load_data_list(self) -> list[dict[str, Any]]:
        """One entry per image with its segmentations."""
        path = Path(self.ann_file)
        require_sound(coco_facts(Path(self.data_root), path).findings, self._accept)
        content = json.loads(path.read_bytes())
        entries = {
            image["id"]: {
                "name": (Path(self._img_folder) / image["file_name"]).as_posix(),
                "num_bytes": -1,
                "image_hw": (int(image["height"]), int(image["width"])),
                "masks": [],
            }
            for image in content["images"]
        }
        for item in content["annotations"]:
            entry = entries[item["image_id"]]
            height, width = entry["image_hw"]
            is_void = is_ignored(item) or not is_trainable(item, width, height)
            entry["masks"].append({"segmentation": item["segmentation"], "is_void": is_void})
        return list(entries.values())

    def load_sample(self, index: int) -> dict[str, Any]:
        """Image and instances.

        Raises:
            OSError: If the image cannot be read.
            ValueError: If it cannot be decoded, or the JSON or a mask has another size.
        """
        sample, entry = super().load_sample(index), self.get_data_info(index)
        found_hw, said_hw = sample["ori_shape"], entry["image_hw"]
        if said_hw != found_hw:
            raise ValueError(
                f"it is {found_hw}, turned as Exif says, but {self.ann_file} {said_hw}"
            )
        return {**sample, "instance_ids": paint_instances(entry["masks"], found_hw)}


def paint_instances(masks: list[dict[str, Any]], image_hw: tuple[int, int]) -> np.ndarray:
    """Sound COCO segmentations as a map (H, W) int32: 1, 2, ... in their order, -1 for void.

    Larger ones are painted first, void regions before all others.

    Raises:
        ValueError: If a mask has another size than the image.
    """
    ids_HW = np.zeros(image_hw, np.int32)
    layers = []
    for number, item in enumerate(masks, start=1):
        mask_HW = _mask_of(item["segmentation"], image_hw)
        layers.append((not item["is_void"], -int(mask_HW.sum()), number, mask_HW))
    for is_object, _, number, mask_HW in sorted(layers, key=lambda layer: layer[:3]):
        ids_HW[mask_HW] = number if is_object else VOID
    return ids_HW


def _mask_of(segmentation: Any, image_hw: tuple[int, int]) -> np.ndarray:
    from pycocotools import mask as coco_mask

    height, width = image_hw
    if isinstance(segmentation, list):  # polygons
        rle = coco_mask.merge(coco_mask.frPyObjects(segmentation, height, width))
    elif isinstance(segmentation["counts"], list):  # uncompressed
        rle = coco_mask.frPyObjects(segmentation, height, width)
    else:
        rle = segmentation
    if tuple(rle["size"]) != (height, width):
        raise ValueError(f"a mask is {tuple(rle['size'])}, the image {image_hw}")
    return coco_mask.decode(rle).astype(bool)
